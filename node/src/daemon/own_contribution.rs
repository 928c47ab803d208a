//! Whether this node's newest contribution was applied. If not, it goes back into the error
//! feedback, so that nothing learnt is lost.

use weal_proto::{BlobHash, RoundNumber};

/// This node's newest contribution, and the newest settled round.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct OwnContribution {
    newest: Option<Contribution>,
    /// The newest round of which the applied contributions are known.
    settled: Option<RoundNumber>,
}

#[derive(Debug, Clone, Copy)]
struct Contribution {
    round: RoundNumber,
    blob: BlobHash,
    left_out: bool,
}

impl OwnContribution {
    /// A contribution that an earlier process made, and whether it is known to have been left out.
    pub(super) fn recovered(round: RoundNumber, blob: BlobHash, left_out: bool) -> Self {
        Self {
            newest: Some(Contribution {
                round,
                blob,
                left_out,
            }),
            settled: None,
        }
    }

    /// A contribution was made. It may be late: its round may be applied already.
    pub(super) fn made(&mut self, round: RoundNumber, blob: BlobHash) {
        let left_out = self.settled.is_some_and(|settled| settled >= round);
        self.newest = Some(Contribution {
            round,
            blob,
            left_out,
        });
    }

    /// These contributions are applied in `round`. Returns whether this node's contribution to the
    /// round is not among them.
    pub(super) fn settle(
        &mut self,
        round: RoundNumber,
        mut applied: impl Iterator<Item = BlobHash>,
    ) -> bool {
        self.settled = self.settled.max(Some(round));
        let Some(newest) = self.newest.filter(|newest| newest.round == round) else {
            return false;
        };
        let left_out = !applied.any(|blob| blob == newest.blob);
        self.newest = left_out.then_some(Contribution { left_out, ..newest });
        left_out
    }

    /// This node's newest contribution, unless it is known to be applied.
    pub(super) fn newest(&self) -> Option<BlobHash> {
        self.newest.map(|newest| newest.blob)
    }

    /// The contribution whose content has to go back into the error feedback.
    pub(super) fn unapplied(&self) -> Option<BlobHash> {
        self.newest
            .filter(|newest| newest.left_out)
            .map(|newest| newest.blob)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND: RoundNumber = RoundNumber(7);

    fn blob(byte: u8) -> BlobHash {
        [byte; 32].into()
    }

    fn made() -> OwnContribution {
        let mut own = OwnContribution::default();
        own.made(ROUND, blob(1));
        own
    }

    #[test]
    fn an_applied_contribution_is_forgotten() {
        let mut own = made();
        assert_eq!(own.unapplied(), None);
        assert!(!own.settle(ROUND, [blob(2), blob(1)].into_iter()));
        assert_eq!(own.unapplied(), None);
    }

    #[test]
    fn a_contribution_that_is_left_out_goes_back() {
        let mut own = made();
        assert!(own.settle(ROUND, [blob(2)].into_iter()));
        assert_eq!(own.unapplied(), Some(blob(1)));
        own.made(ROUND.next(), blob(3));
        assert_eq!(own.unapplied(), None);
    }

    #[test]
    fn another_round_decides_nothing_about_it() {
        let mut own = made();
        assert!(!own.settle(RoundNumber(6), [blob(2)].into_iter()));
        assert_eq!(own.unapplied(), None);
    }

    #[test]
    fn a_contribution_made_after_its_round_was_applied_goes_back() {
        let mut own = OwnContribution::default();
        assert!(!own.settle(ROUND, [blob(2)].into_iter()));
        own.made(ROUND, blob(1));
        assert_eq!(own.unapplied(), Some(blob(1)));
        own.made(ROUND.next(), blob(3));
        assert_eq!(own.unapplied(), None);
    }

    #[test]
    fn a_restart_remembers_a_contribution_that_was_left_out() {
        assert_eq!(
            OwnContribution::recovered(ROUND, blob(1), true).unapplied(),
            Some(blob(1))
        );
        assert_eq!(
            OwnContribution::recovered(ROUND, blob(1), false).unapplied(),
            None
        );
    }
}
