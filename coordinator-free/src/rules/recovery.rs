//! Going on when voters with a third of the weight or more are gone for ever.
//!
//! Nothing can then be decided by two thirds. Operators of the voters that are left may sign a
//! [`Recovery`]. With more than half of the weight behind one recovery, it decides the round: a
//! round set that only removes the voters that are gone. Two recoveries of one round cannot both
//! have half of the weight unless somebody signed both, which is equivocation. But a recovery and
//! an ordinary decision can: if those that are gone come back, their history may be another one.
//! So no program signs a recovery by itself.

use std::collections::BTreeMap;

use weal_proto::{
    Certificate, CommitSignature, Decided, Envelope, PeerId, Recovery, RoundSet, StateRoot, View,
};

use crate::rules::chain::Chain;
use crate::rules::invalid::Invalid;
use crate::rules::signatures::Signatures;

/// The recovery of the chain's next round without these voters.
pub(crate) fn recovery(chain: &Chain, base_root: StateRoot, gone: Vec<PeerId>) -> Recovery {
    Recovery {
        round: chain.round(),
        parent: chain.parent(),
        base_root,
        gone,
    }
}

/// The round set that a recovery decides.
fn set(chain: &Chain, recovery: &Recovery) -> RoundSet {
    RoundSet {
        round: recovery.round,
        parent: recovery.parent,
        gone: recovery.gone.clone(),
        ..chain.empty_set(recovery.base_root)
    }
}

/// The decision that these recoveries make, if those that say the same have enough weight.
/// Signatures are good.
pub(crate) fn decide(chain: &Chain, signed: &BTreeMap<PeerId, Envelope>) -> Option<Decided> {
    let mut by_payload: BTreeMap<&[u8], Vec<&Envelope>> = BTreeMap::new();
    for envelope in signed.values() {
        by_payload
            .entry(&envelope.payload)
            .or_default()
            .push(envelope);
    }
    by_payload.into_values().find_map(|envelopes| {
        let recovery: Recovery = envelopes.first()?.open().ok()?;
        let value = set(chain, &recovery);
        let signatures = envelopes.iter().map(|envelope| CommitSignature {
            peer: envelope.signer,
            signature: envelope.signature,
        });
        let decided = Decided {
            certificate: Certificate {
                round: recovery.round,
                view: View(0),
                value: value.hash(),
                signatures: signatures.collect(),
            },
            value,
        };
        weight(chain, &decided).is_some().then_some(decided)
    })
}

/// Whether a decision that declares voters gone is one.
///
/// # Errors
/// The first rule that it breaks.
pub(crate) fn check(
    chain: &Chain,
    decided: &Decided,
    signatures: &mut Signatures,
) -> Result<(), Invalid> {
    let (value, certificate) = (&decided.value, &decided.certificate);
    let said = recovery(chain, value.base_root, value.gone.clone());
    let roster = chain.ledger().roster();
    let voters = value.gone.iter().all(|peer| roster.contains(peer));
    if *value != set(chain, &said) || certificate.view != View(0) || !voters {
        return Err(Invalid::Recovery);
    }
    weight(chain, decided).ok_or(Invalid::CertificateWeight)?;
    let run = signatures.run();
    for commit in &certificate.signatures {
        let envelope = Envelope::from_parts(commit.peer, run, &said, commit.signature);
        if !signatures.check(&envelope) {
            return Err(Invalid::Signature(commit.peer));
        }
    }
    Ok(())
}

/// The weight of the signers, if it is more than half and each is a voter that is not gone.
fn weight(chain: &Chain, decided: &Decided) -> Option<u128> {
    let roster = chain.ledger().roster();
    let signers = &decided.certificate.signatures;
    let rising = signers.is_sorted_by(|a, b| a.peer < b.peer);
    let left = signers
        .iter()
        .all(|s| roster.contains(&s.peer) && !decided.value.gone.contains(&s.peer));
    let weight = roster.weigh(signers.iter().map(|s| &s.peer));
    (rising && left && roster.is_majority(weight)).then_some(weight)
}
