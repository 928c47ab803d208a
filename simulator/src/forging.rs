//! Contributions that somebody else made: copies of them, under another name.

use weal_coordinator_free::sim::Random;
use weal_kernels::{Error, compress, decode};
use weal_proto::{BlobHash, BlobHeader, LayoutHash, PeerId, RoundNumber, RunId, StateRoot, limits};

use crate::craft::turned;
use crate::lab::{Blob, Lab};
use crate::learner::COMPRESSION;

/// What a worthless contribution pretends to be.
pub(crate) struct Forged {
    /// The run.
    pub run: RunId,
    /// The round it is for.
    pub round: RoundNumber,
    /// The weights that it claims to start from.
    pub base_root: StateRoot,
    /// The key that commits to it.
    pub peer: PeerId,
}

impl Lab {
    /// What honest peers other than this one sent in a round.
    pub(crate) fn overheard(&self, round: u64, index: usize) -> Result<Vec<Vec<f32>>, Error> {
        let others = self.history.sent_in(round);
        let others = others.filter(|(other, _)| *other != index && self.is_honest(*other));
        let mut overheard = Vec::new();
        for (_, blob) in others {
            if let Some(blob) = self.blobs.get(&blob) {
                let mut values = vec![0.0; self.layout.parameters()];
                blob.contribution.add_to(&self.layout, &mut values, 1.0)?;
                overheard.push(values);
            }
        }
        Ok(overheard)
    }

    /// A copy of a body under another peer's name: its blob's name and length.
    pub(crate) fn copied(&mut self, blob: &BlobHash, peer: PeerId) -> Option<(BlobHash, u64)> {
        let original = self.blobs.get(blob)?;
        let (header, body) = BlobHeader::split(&original.bytes).ok()?;
        let bytes = BlobHeader { peer, ..header }.lead(body);
        let hash = BlobHash::from(*blake3::hash(&bytes).as_bytes());
        let by = *self.indices.get(&peer)?;
        let copy = Blob {
            contribution: original.contribution.clone(),
            sketch: original.sketch.clone(),
            by,
            round: original.round,
            bytes,
        };
        let length = copy.bytes.len() as u64;
        self.history.sent(copy.round, by, hash);
        self.blobs.insert(hash, copy);
        Some((hash, length))
    }

    /// A crowd acts for these keys.
    pub(crate) fn enter_crowd(&mut self, crowd: usize, keys: impl Iterator<Item = PeerId>) {
        for key in keys {
            let index = self.peers.len() + self.crowds.len();
            self.crowds.push(crowd);
            self.indices.insert(key, index);
        }
    }

    /// A contribution that cost nothing: what an honest peer sent in the round before, with a tenth
    /// of the signs turned. Returns its name and length; `None` if there is nothing to copy.
    pub(crate) fn forged(&mut self, forged: &Forged) -> Option<(BlobHash, u64)> {
        let index = *self.indices.get(&forged.peer)?;
        let others = self.overheard(forged.round.previous()?.0, index).ok()?;
        let mut number = [0; 8];
        number.copy_from_slice(&forged.peer.as_bytes()[..8]);
        let seed = self.seed() ^ forged.round.0.rotate_left(32) ^ u64::from_le_bytes(number);
        let mut random = Random::new(seed);
        let which = random.next() as usize % others.len().max(1);
        let mut values = turned(others.get(which)?.clone(), &mut random);
        let nothing = vec![0.0; values.len()];
        let body = compress(&self.layout, &COMPRESSION, &nothing, &mut values).ok()?;
        let contribution = decode(&self.layout, &COMPRESSION, &body, body.len()).ok()?;
        let header = BlobHeader {
            run: forged.run,
            round: forged.round,
            peer: forged.peer,
            base_root: forged.base_root,
            layout: LayoutHash::from(self.layout.hash()),
            codec: limits::CODEC,
        };
        let bytes = header.lead(&body);
        let length = bytes.len() as u64;
        let made_by = (index, forged.round.0);
        let hash = self.keep(bytes, contribution, made_by).ok()?;
        self.history.sent(forged.round.0, index, hash);
        Some((hash, length))
    }
}
