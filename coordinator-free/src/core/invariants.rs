//! What must hold after every step. The simulator checks it after each one.

use super::Core;
use crate::interface::view::Phase;

impl Core {
    /// Checks what must hold between two steps.
    ///
    /// # Errors
    /// The broken statement.
    pub fn check_invariants(&self) -> Result<(), &'static str> {
        let running = self.chain.round();
        self.weight_sync.check_invariants(running)?;
        self.early.check_invariants()?;
        self.round.check_invariants(running)?;
        let engine_runs = self.engine.is_some();
        let deciding = self.round.phase == Phase::Deciding;
        let broken = [
            (
                !self.outputs.is_empty(),
                "outputs of the last step are left",
            ),
            (
                self.chain.ledger().roster().is_empty(),
                "nobody may vote in the running round",
            ),
            (
                engine_runs && !deciding,
                "the engine runs before the round is being decided",
            ),
            (
                self.evidence.contains_key(&self.me),
                "this node holds evidence against itself",
            ),
            (
                self.evidence
                    .keys()
                    .any(|peer| self.chain.ledger().account(peer).is_none()),
                "there is evidence against a peer without an account",
            ),
        ];
        match broken.into_iter().find(|(broken, _)| *broken) {
            Some((_, statement)) => Err(statement),
            None => Ok(()),
        }
    }
}
