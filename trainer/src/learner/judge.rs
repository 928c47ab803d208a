//! Judging contributions by what they do: the loss after a round's weights and one contribution
//! alone, against the loss of these weights.
//!
//! It is measured on windows of the samples that the contributor says it trained on, and on windows
//! held out. A peer that worked lowers both. One that learnt its samples by heart lowers the first
//! only. The judge draws the windows with a seed that nobody else knows, so nobody can prepare for
//! them. (Gauntlet, arXiv 2505.21684, compares assigned with random data in the same way.)
//!
//! The contribution is sparse, so the weights on the device change in place, and change back to the
//! bit: there is no second copy of the model. The weights' own loss on held-out windows is measured
//! once for all contributions of the round.

use std::ops::ControlFlow;
use std::sync::Arc;

use weal_kernels::{Contribution, Entries, Layout, entries};

use super::Learner;
use super::samples::{Samples, batch_of};
use crate::corpus::Window;
use crate::error::{Error, Result};
use crate::inner::InnerSpec;
use crate::model_weights::ModelWeights;
use crate::permutation::Permutation;
use crate::sampling::Assignment;

/// Domain separation from every other use of BLAKE3.
const CLAIMED: &[u8] = b"commonweal judged samples v1";
/// More windows than this make no judgement better that is averaged over a committee and rounds.
const MOST_WINDOWS: usize = 16;
/// What a forward and a backward pass cost, in forward passes.
const TRAINING_PASSES: u64 = 3;

/// Judges the contributions of one round.
pub struct Judge {
    /// The weights at the round's start.
    theta: Arc<ModelWeights>,
    /// Draws the windows; known to this peer alone.
    seed: [u8; 32],
    /// Windows of each sort.
    windows: usize,
    /// The loss of `theta` on the held-out windows, once it is measured.
    heldout: Option<f64>,
}

impl Judge {
    /// A judge of contributions to the round that starts from `theta`. It measures each on
    /// `windows` windows of the samples that it claims, and on as many held out.
    pub fn new(theta: Arc<ModelWeights>, seed: [u8; 32], windows: usize) -> Self {
        Self {
            theta,
            seed,
            windows: windows.max(1),
            heldout: None,
        }
    }
}

/// A contribution to judge.
pub struct Candidate<'a> {
    /// The contribution.
    pub contribution: &'a Contribution,
    /// What its values are multiplied by before they are subtracted from the weights: the outer
    /// learning rate times its coefficient.
    pub scale: f32,
    /// The clip factor of each tensor (see [`weal_kernels::clip_factors`]).
    pub clip: &'a [f32],
    /// The samples that the round assigned to its peer.
    pub assignment: &'a Assignment,
    /// How many of them the peer says it trained on.
    pub samples: u64,
}

/// What a contribution does to the loss: the share by which it falls, in parts per million. Below
/// zero if the loss rises. −1,000,000 if it at least doubles or is no longer finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// On the samples that the contributor says it trained on.
    pub own_ppm: i32,
    /// On windows held out.
    pub heldout_ppm: i32,
}

/// The most windows of each sort for which judging `contributions` of them costs at most
/// `share_ppm` of a round's training, in parts per million; at least 1.
pub fn judging_windows(inner: &InnerSpec, contributions: usize, share_ppm: u32) -> usize {
    let trained = u64::from(inner.steps) * u64::from(inner.batch);
    let passes = u128::from(trained * TRAINING_PASSES) * u128::from(share_ppm) / 1_000_000;
    // Each contribution takes two measurements on its own samples and one held out, and all share
    // one of the weights alone.
    let windows = passes / (3 * contributions as u128 + 1);
    usize::try_from(windows)
        .unwrap_or(MOST_WINDOWS)
        .clamp(1, MOST_WINDOWS)
}

impl Learner {
    /// Judges a contribution. Calls `control` after each batch of windows; `None` if it breaks.
    ///
    /// What was last trained is no longer on the device afterwards: call [`Self::compress`] before.
    ///
    /// # Errors
    /// [`Error::Compress`] if the contribution belongs to another model, [`Error::Length`] if its
    /// clip factors do, or if the weights do. [`Error::Device`] if the device fails.
    pub fn judge(
        &mut self,
        judge: &mut Judge,
        candidate: &Candidate<'_>,
        control: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<Judgement>> {
        if self.judges != Some(judge.seed) {
            let theta = judge.theta.clone();
            self.load(&theta)?;
            theta.release();
            self.judges = Some(judge.seed);
        }
        let claimed = self.claimed_windows(judge, candidate)?;
        let heldout = self.heldout_windows(judge)?;
        if judge.heldout.is_none() {
            judge.heldout = self.nats(&heldout, control)?;
        }
        let (Some(heldout_before), Some(own_before)) =
            (judge.heldout, self.nats(&claimed, control)?)
        else {
            return Ok(None);
        };
        let mut changed = changed(&self.layout, &judge.theta, candidate)?;
        self.engine.assign(&changed)?;
        let own_after = self.nats(&claimed, control);
        let heldout_after = self.nats(&heldout, control);
        put_back(&self.layout, &judge.theta, &mut changed);
        self.engine.assign(&changed)?;
        Ok(own_after?
            .zip(heldout_after?)
            .map(|(own, heldout)| Judgement {
                own_ppm: fall_ppm(own_before, own),
                heldout_ppm: fall_ppm(heldout_before, heldout),
            }))
    }

    /// Windows of the samples that a contribution claims, each at most once.
    fn claimed_windows(&self, judge: &Judge, candidate: &Candidate<'_>) -> Result<Vec<Window>> {
        let most = u64::from(self.inner.steps) * u64::from(self.inner.batch);
        let claimed = candidate.samples.clamp(1, most.max(1));
        let mut hasher = blake3::Hasher::new_keyed(&judge.seed);
        hasher.update(CLAIMED).update(&candidate.assignment.peer);
        let order = Permutation::new(hasher.finalize().into(), claimed);
        let drawn = (judge.windows as u64).min(claimed);
        let indices: Vec<u64> = (0..drawn).map(|number| order.apply(number)).collect();
        self.windows(&Samples::Assigned {
            assignment: candidate.assignment,
            indices: &indices,
        })
    }

    fn heldout_windows(&self, judge: &Judge) -> Result<Vec<Window>> {
        self.windows(&Samples::RandomHeldout {
            seed: judge.seed,
            sequences: judge.windows,
        })
    }

    fn windows(&self, samples: &Samples<'_>) -> Result<Vec<Window>> {
        let (corpus, context) = (&self.corpus, self.spec.context);
        let starts = samples.starts(corpus, context);
        let window = |start| samples.window(corpus, start, context);
        starts.into_iter().map(window).collect()
    }

    /// The loss on windows, in nats, batch by batch; `None` if `control` breaks.
    fn nats(
        &mut self,
        windows: &[Window],
        control: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<f64>> {
        let mut nats = 0.0;
        for windows in windows.chunks(self.inner.batch as usize) {
            if control().is_break() {
                return Ok(None);
            }
            let batch = batch_of(windows.to_vec(), self.spec.context);
            nats += self.engine.loss(&batch)?;
        }
        Ok(Some(nats))
    }
}

/// The weights that a contribution changes, as they are with it alone.
fn changed(layout: &Layout, theta: &[f32], candidate: &Candidate<'_>) -> Result<Vec<Entries>> {
    let (expected, found) = (layout.tensors().len(), candidate.clip.len());
    if expected != found {
        return Err(Error::Length {
            what: "the clip factors",
            found,
            expected,
        });
    }
    let mut changed = entries(layout, candidate.contribution).map_err(Error::Compress)?;
    let tensors = layout.ranges().zip(candidate.clip);
    for ((range, clip), entries) in tensors.zip(&mut changed) {
        let theta = &theta[range];
        for (place, value) in entries.places.iter().zip(&mut entries.values) {
            *value = theta[*place] - candidate.scale * (clip * *value);
        }
    }
    Ok(changed)
}

/// Replaces changed weights by what they were.
fn put_back(layout: &Layout, theta: &[f32], changed: &mut [Entries]) {
    for (range, entries) in layout.ranges().zip(changed) {
        let theta = &theta[range];
        for (place, value) in entries.places.iter().zip(&mut entries.values) {
            *value = theta[*place];
        }
    }
}

/// The share by which a loss falls, in parts per million.
fn fall_ppm(before: f64, after: f64) -> i32 {
    let fall = (before - after) / before;
    if fall.is_finite() {
        (fall.clamp(-1.0, 1.0) * 1e6).round() as i32
    } else {
        -1_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_that_is_not_finite_is_the_worst() {
        assert_eq!(fall_ppm(2.0, 1.0), 500_000);
        assert_eq!(fall_ppm(2.0, 2.000_002), -1);
        for worst in [4.0, 100.0, f64::INFINITY, f64::NAN] {
            assert_eq!(fall_ppm(2.0, worst), -1_000_000);
        }
    }

    #[test]
    fn judging_stays_within_its_share_of_a_round() {
        let inner = InnerSpec {
            steps: 30,
            batch: 8,
            ..InnerSpec::default()
        };
        // 20 voters judge 16 contributions, five voters each: four contributions a voter.
        let windows = judging_windows(&inner, 4, 150_000);
        let passes = windows * (3 * 4 + 1);
        assert_eq!((windows, passes), (8, 104));
        assert!(passes as f64 <= 0.15 * (3 * 30 * 8) as f64);
        assert_eq!(judging_windows(&inner, 1000, 150_000), 1);
        assert_eq!(judging_windows(&inner, 0, 1_000_000), MOST_WINDOWS);
    }
}
