//! Which commitments an attestation speaks of.
//!
//! An attestation names places and binds them to commitments by one hash. Nearly always all honest
//! members know the same commitments, so a round set names each once. If a place's holder committed
//! twice, the set says for which attestations the other commitment is meant.

use std::collections::BTreeMap;

use weal_proto::{Attestation, Difference, ListHash, PayloadHash, PeerId, SlotId};

/// A place's holder that committed twice makes at most this many places differ at a time.
const MAX_AMBIGUOUS: usize = 6;

/// The commitments that places stand for.
#[derive(Debug, Clone, Default)]
pub(super) struct Lists {
    named: BTreeMap<SlotId, PayloadHash>,
    others: BTreeMap<(PeerId, SlotId), PayloadHash>,
}

impl Lists {
    pub(super) fn new(
        named: impl IntoIterator<Item = (SlotId, PayloadHash)>,
        differences: &[Difference],
    ) -> Self {
        let others = differences.iter().map(|d| ((d.peer, d.slot), d.commitment));
        Self {
            named: named.into_iter().collect(),
            others: others.collect(),
        }
    }

    /// What an attestation found valid; `None` if that does not hash to its list.
    pub(super) fn of(
        &self,
        peer: PeerId,
        attestation: &Attestation,
    ) -> Option<Vec<(SlotId, PayloadHash)>> {
        let name = |slot| {
            let other = self.others.get(&(peer, slot));
            Some((slot, *other.or_else(|| self.named.get(&slot))?))
        };
        let list: Vec<_> = attestation.valid.iter().map(name).collect::<Option<_>>()?;
        (ListHash::of(list.iter().copied()) == attestation.list).then_some(list)
    }

    /// Finds out which of two commitments an attestation means, and remembers it. Returns what it
    /// found valid; `None` if it names something unknown.
    pub(super) fn resolve(
        &mut self,
        peer: PeerId,
        attestation: &Attestation,
        second: &BTreeMap<SlotId, PayloadHash>,
    ) -> Option<Vec<(SlotId, PayloadHash)>> {
        if let Some(list) = self.of(peer, attestation) {
            return Some(list);
        }
        let ambiguous: Vec<_> = second
            .iter()
            .filter(|(slot, _)| attestation.valid.contains(**slot))
            .take(MAX_AMBIGUOUS)
            .collect();
        (1..1_u32 << ambiguous.len()).find_map(|choice| {
            let mut with = self.clone();
            for (place, (slot, commitment)) in ambiguous.iter().enumerate() {
                if choice >> place & 1 == 1 {
                    with.others.insert((peer, **slot), **commitment);
                }
            }
            let list = with.of(peer, attestation)?;
            *self = with;
            Some(list)
        })
    }

    /// Where attestations mean another commitment, by rising peer and place.
    pub(super) fn differences(&self) -> Vec<Difference> {
        let difference =
            |((peer, slot), commitment): (&(PeerId, SlotId), &PayloadHash)| Difference {
                peer: *peer,
                slot: *slot,
                commitment: *commitment,
            };
        self.others.iter().map(difference).collect()
    }

    /// The commitment that a place stands for.
    pub(super) fn named(&self, slot: SlotId) -> Option<PayloadHash> {
        self.named.get(&slot).copied()
    }
}
