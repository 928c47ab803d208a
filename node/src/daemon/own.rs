//! What became of the own newest contribution: what was never applied goes back into the error
//! feedback, so that nothing learnt is lost.

use weal_proto::{BlobHash, RoundNumber};

/// The own newest contribution, and the newest round that is settled.
#[derive(Debug, Clone, Copy, Default)]
pub struct Own {
    newest: Option<Contribution>,
    /// The newest round of which it is known what is applied.
    settled: Option<RoundNumber>,
}

#[derive(Debug, Clone, Copy)]
struct Contribution {
    round: RoundNumber,
    blob: BlobHash,
    left_out: bool,
}

impl Own {
    /// A contribution that an earlier process made, and whether it is known to have been left out.
    pub fn recovered(round: RoundNumber, blob: BlobHash, left_out: bool) -> Self {
        Self {
            newest: Some(Contribution {
                round,
                blob,
                left_out,
            }),
            settled: None,
        }
    }

    /// A contribution is made. It may come too late, for a round that is being applied already.
    pub fn made(&mut self, round: RoundNumber, blob: BlobHash) {
        let left_out = self.settled.is_some_and(|settled| settled >= round);
        self.newest = Some(Contribution {
            round,
            blob,
            left_out,
        });
    }

    /// These are applied in `round`. Says whether the own contribution to it is not among them.
    pub fn settle(
        &mut self,
        round: RoundNumber,
        mut applied: impl Iterator<Item = BlobHash>,
    ) -> bool {
        self.settled = self.settled.max(Some(round));
        let Some(own) = self.newest.filter(|own| own.round == round) else {
            return false;
        };
        let left_out = !applied.any(|blob| blob == own.blob);
        self.newest = left_out.then_some(Contribution { left_out, ..own });
        left_out
    }

    /// The contribution whose content has to go back into the error feedback, if there is one.
    pub fn unapplied(&self) -> Option<BlobHash> {
        self.newest.filter(|own| own.left_out).map(|own| own.blob)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND: RoundNumber = RoundNumber(7);

    fn blob(byte: u8) -> BlobHash {
        [byte; 32].into()
    }

    fn made() -> Own {
        let mut own = Own::default();
        own.made(ROUND, blob(1));
        own
    }

    #[test]
    fn what_is_applied_is_done_with() {
        let mut own = made();
        assert_eq!(own.unapplied(), None);
        assert!(!own.settle(ROUND, [blob(2), blob(1)].into_iter()));
        assert_eq!(own.unapplied(), None);
    }

    #[test]
    fn what_is_left_out_goes_back() {
        let mut own = made();
        assert!(own.settle(ROUND, [blob(2)].into_iter()));
        assert_eq!(own.unapplied(), Some(blob(1)));
        own.made(ROUND.next(), blob(3));
        assert_eq!(own.unapplied(), None);
    }

    #[test]
    fn another_round_says_nothing_of_it() {
        let mut own = made();
        assert!(!own.settle(RoundNumber(6), [blob(2)].into_iter()));
        assert_eq!(own.unapplied(), None);
    }

    #[test]
    fn what_comes_after_its_round_was_applied_goes_back() {
        let mut own = Own::default();
        assert!(!own.settle(ROUND, [blob(2)].into_iter()));
        own.made(ROUND, blob(1));
        assert_eq!(own.unapplied(), Some(blob(1)));
        own.made(ROUND.next(), blob(3));
        assert_eq!(own.unapplied(), None);
    }

    #[test]
    fn a_restart_remembers_what_was_left_out() {
        assert_eq!(
            Own::recovered(ROUND, blob(1), true).unapplied(),
            Some(blob(1))
        );
        assert_eq!(Own::recovered(ROUND, blob(1), false).unapplied(), None);
    }
}
