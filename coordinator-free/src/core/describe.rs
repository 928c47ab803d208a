//! What a round waits for, in a line. The simulator prints it when a run is stuck.

use std::collections::BTreeMap;

use weal_proto::{PeerId, StateRoot};

use super::Core;

impl Core {
    /// Where this node stands in the running round: its phase, its weights, and who has attested
    /// which base root in which attempt.
    pub fn describe(&self) -> String {
        let round = &self.round;
        let weights = self.weight_sync.held().map_or_else(
            || "no weights".to_owned(),
            |held| format!("weights of {} ({})", held.round, held.root.short()),
        );
        let mut said: BTreeMap<(u32, StateRoot), Vec<PeerId>> = BTreeMap::new();
        for ((attempt, peer), (_, attestation)) in &round.attestations {
            let by = said.entry((*attempt, attestation.base_root)).or_default();
            by.push(*peer);
        }
        let said = said.into_iter().rev().take(4).map(|((attempt, root), by)| {
            let weight = self.chain.ledger().roster().weigh(&by);
            format!(
                "{attempt}: {} by {} of weight {weight}",
                root.short(),
                by.len()
            )
        });
        let view = self.engine.as_ref().and_then(|engine| engine.view());
        format!(
            "round {}, {:?}, {weights}, view {:?}, {} closed, {} votes, attempt {} of total {} \
             [{}]",
            self.chain.round(),
            round.phase,
            view.map(|(view, _)| view.0),
            round.closed.len(),
            round.votes.len(),
            round.attempt,
            self.chain.ledger().roster().total(),
            said.collect::<Vec<_>>().join("; "),
        )
    }
}
