//! Decided rounds that nobody played: as long as the real ones, and as dear to read.
//!
//! Nothing in them is wrong, but they would not pass every check: nobody looks at certificates or
//! at lists. Use them where a node trusts what it stored itself.

use std::sync::Arc;

use weal_proto::{
    Attestation, Certificate, CommitSignature, Commitment, Decided, Envelope, ListHash, PeerId,
    RoundSet, SampleSpan, Score, SigningKey, SlotId, StateRoot, View, Vote, VoteStep,
};

use super::manifest;
use crate::interface::error::Error;
use crate::rules::chain::Chain;
use crate::rules::verified::Verified;

/// Makes up one round after the other. Every founder contributes to each, attests it, measures the
/// contributions of the one before, and signs the certificate.
#[derive(Debug)]
pub struct MadeUp {
    keys: Vec<SigningKey>,
    chain: Chain,
    measured: Vec<SlotId>,
}

impl MadeUp {
    /// A run of this many founders, before its round 0.
    pub fn new(founders: u8) -> Self {
        let mut keys: Vec<_> = (1..=founders)
            .map(|n| SigningKey::from_seed([n; 32]))
            .collect();
        keys.sort_by_key(SigningKey::peer);
        let manifest = manifest::manifest(keys.iter().map(SigningKey::peer));
        Self {
            keys,
            chain: Chain::genesis(Arc::new(manifest)),
            measured: Vec::new(),
        }
    }

    /// What the rounds so far lead to.
    pub const fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Makes up the next round.
    ///
    /// # Errors
    /// [`Error::Gap`] if it does not follow. It does.
    pub fn decide(&mut self) -> Result<Decided, Error> {
        let places = self.chain.places();
        let slots: Vec<_> = (0..=u8::MAX)
            .map(SlotId)
            .zip(places.iter())
            .map(|(slot, _)| slot)
            .collect();
        let contributions = places
            .iter()
            .filter_map(|holder| self.contribution(&holder));
        let value = RoundSet {
            contributions: contributions.collect(),
            attestations: self.attestations(&slots),
            ..self.chain.empty_set(self.base_root())
        };
        let decided = Decided {
            certificate: self.certificate(&value),
            value,
        };
        let (found, expected) = (decided.value.round, self.chain.round());
        self.chain
            .extend(&Verified::from_own_disk(decided.clone()))
            .map_err(|_| Error::Gap { found, expected })?;
        self.measured = slots;
        Ok(decided)
    }

    fn contribution(&self, holder: &PeerId) -> Option<Envelope> {
        let key = self.keys.iter().find(|key| key.peer() == *holder)?;
        let round = self.chain.round();
        let name = [holder.as_bytes().as_slice(), &round.0.to_le_bytes()].concat();
        let commitment = Commitment {
            round,
            base_root: self.base_root(),
            blob: (*blake3::hash(&name).as_bytes()).into(),
            blob_bytes: 100_000,
            spans: vec![SampleSpan {
                seed_round: round,
                first: 0,
                count: 1,
            }],
        };
        Some(Envelope::sign(key, self.chain.run(), &commitment))
    }

    /// Any root will do, as long as the round's messages agree.
    fn base_root(&self) -> StateRoot {
        (*self.chain.seed().as_bytes()).into()
    }

    fn attestations(&self, slots: &[SlotId]) -> Vec<Envelope> {
        let score = |slot: &SlotId| Score {
            slot: *slot,
            own_ppm: 1_000 + i32::from(slot.0),
            held_ppm: 1_000,
        };
        let attestation = Attestation {
            round: self.chain.round(),
            base_root: self.base_root(),
            valid: slots.iter().copied().collect(),
            list: ListHash::of([]),
            refused: Vec::new(),
            attempt: 0,
            scores: self.measured.iter().map(score).collect(),
        };
        let run = self.chain.run();
        let keys = self.keys.iter();
        keys.map(|key| Envelope::sign(key, run, &attestation))
            .collect()
    }

    fn certificate(&self, value: &RoundSet) -> Certificate {
        let (round, view, hash) = (value.round, View(0), value.hash());
        let vote = Vote {
            round,
            view,
            step: VoteStep::Precommit,
            value: Some(hash),
        };
        let signature = |key: &SigningKey| CommitSignature {
            peer: key.peer(),
            signature: Envelope::sign(key, self.chain.run(), &vote).signature,
        };
        Certificate {
            round,
            view,
            value: hash,
            signatures: self.keys.iter().map(signature).collect(),
        }
    }
}
