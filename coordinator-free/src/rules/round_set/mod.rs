//! What a round decides: how a round set is built, and when it is valid.
//!
//! Validity is objective. It depends on the set's bytes and on decided history only: a voter judges
//! a proposal without any blob, clock or memory of gossip. So no honest voter can be tricked into
//! refusing a valid set.
//!
//! | file | holds |
//! |---|---|
//! | `build` | how a proposer builds a set from what it has received |
//! | `check` | when a set is valid |
//! | `verify` | when a set and its certificate prove a decision |
//! | `tally` | the weight behind base roots and contributions |
//! | `lists` | which commitments an attestation speaks of |

mod build;
mod check;
mod lists;
mod tally;
#[cfg(test)]
mod tests;
mod verify;

pub(crate) use build::{Attestations, Collected, SignedCommitment, build};
pub(crate) use check::check;
pub(crate) use tally::Roots;
pub(crate) use verify::verify;

/// The most contributions that the chain's next round may choose.
fn most_contributions(chain: &crate::rules::chain::Chain) -> usize {
    usize::try_from(chain.manifest().limits.contributions).unwrap_or(usize::MAX)
}
