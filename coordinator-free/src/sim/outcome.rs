//! What a simulated run showed.

use std::collections::BTreeMap;

use weal_proto::PeerId;

use super::network::Traffic;
use crate::interface::event::DropCause;

/// What a simulated run showed. Two runs of one scenario have equal outcomes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// A hash over every input and output of every peer, in order.
    pub trace: [u8; 32],
    /// How long the run took, in milliseconds of virtual time.
    pub virtual_ms: u64,
    /// The number of rounds that some honest peer has decided.
    pub rounds: u64,
    /// The number of gossip messages that reached a core.
    pub delivered: u64,
    /// The number of gossip messages that a filter dropped, because they had come before.
    pub duplicates: u64,
    /// The number of crashes.
    pub crashes: u64,
    /// How often a peer started from a snapshot of what was decided.
    pub from_snapshot: u64,
    /// The number of writes that failed.
    pub failed_writes: u64,
    /// How often a peer whose disk was lost or rolled back contradicted what it had signed before.
    pub contradictions_after_loss: u64,
    /// Rounds decided in a later view than 0, summed over peers.
    pub later_views: u64,
    /// Rounds that a peer learnt from others instead of deciding them, summed over peers.
    pub synced: u64,
    /// How often a peer fetched weights from others.
    pub weights_fetched: u64,
    /// The number of contributions in decided rounds.
    pub contributions: u64,
    /// Commitments that honest peers signed in time for a decided round.
    pub honest_committed: u64,
    /// How many of these the voters chose.
    pub honest_chosen: u64,
    /// How often an honest peer revealed its contribution while honest voters with more than a
    /// third of the weight were still open to commitments.
    pub early_reveals: u64,
    /// For each decided round, the milliseconds from the attestation that completed two thirds of
    /// the weight to the first decision, and to the last one that a peer reached by itself.
    pub decision_ms: Vec<(u64, u64)>,
    /// The number of peers that have a vote at the end.
    pub voters: usize,
    /// The peers that are banned at the end.
    pub banned: Vec<PeerId>,
    /// How many messages were dropped for each cause.
    pub dropped: BTreeMap<DropCause, u64>,
    /// Each peer, by index.
    pub peers: Vec<PeerOutcome>,
}

/// What became of one peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerOutcome {
    /// Whether it followed the rules.
    pub honest: bool,
    /// The weight it holds at the end.
    pub weight: u64,
    /// How much its vote counts at the end.
    pub voting_weight: u64,
    /// The number of its contributions in decided rounds.
    pub contributions: u64,
    /// The bytes it sent and received.
    pub traffic: Traffic,
}

impl Outcome {
    /// The share of the weight that honest peers hold at the end, in parts per million.
    pub fn honest_weight_ppm(&self) -> u64 {
        let weight = |honest_only: bool| -> u128 {
            let counted = self.peers.iter().filter(|p| p.honest || !honest_only);
            counted.map(|peer| u128::from(peer.weight)).sum()
        };
        let ppm = (weight(true) * 1_000_000).checked_div(weight(false));
        ppm.and_then(|ppm| u64::try_from(ppm).ok()).unwrap_or(0)
    }

    /// Bytes that a peer sent per decided round, on average.
    pub fn bytes_per_peer_round(&self) -> u64 {
        let sent: u64 = self.peers.iter().map(|p| p.traffic.sent_bytes()).sum();
        sent.checked_div(self.rounds * self.peers.len() as u64)
            .unwrap_or(0)
    }
}
