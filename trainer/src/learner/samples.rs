//! Which windows of the corpus to train on or to measure.

use std::ops::Range;

use crate::corpus::{Corpus, Window};
use crate::engine::Batch;
use crate::error::Result;
use crate::sampling::{Assignment, uniform};

/// Windows of the corpus on which to measure weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Samples<'a> {
    /// Windows spread evenly over the held-out part.
    Heldout {
        /// Number of windows; 0 for the whole part.
        sequences: usize,
    },
    /// Windows of the held-out part drawn with a seed, which the peer that measures may keep
    /// private.
    RandomHeldout {
        /// The seed.
        seed: [u8; 32],
        /// Number of windows.
        sequences: usize,
    },
    /// Samples that a round assigned to a peer.
    Assigned {
        /// The peer's samples of the round.
        assignment: &'a Assignment,
        /// Numbers of the samples.
        indices: &'a [u64],
    },
}

impl Samples<'_> {
    /// The first token of each window of `context` tokens.
    pub(super) fn starts(&self, corpus: &Corpus, context: usize) -> Vec<u64> {
        let heldout = corpus.heldout_windows(context);
        match *self {
            Self::Heldout { sequences } => {
                let apart = context as u64;
                let all = (heldout - 1) / apart + 1;
                match sequences as u64 {
                    0 => (0..all).map(|index| index * apart).collect(),
                    sequences if sequences >= all => (0..all).map(|index| index * apart).collect(),
                    sequences => (0..sequences)
                        .map(|index| index * all / sequences * apart)
                        .collect(),
                }
            }
            Self::RandomHeldout { seed, sequences } => (0..sequences as u64)
                .map(|index| uniform(&seed, index, heldout))
                .collect(),
            Self::Assigned {
                assignment,
                indices,
            } => {
                let training = corpus.training_windows(context);
                indices
                    .iter()
                    .map(|index| assignment.start(*index, &training))
                    .collect()
            }
        }
    }

    /// The window of `context` tokens that begins at `start`.
    pub(super) fn window(&self, corpus: &Corpus, start: u64, context: usize) -> Result<Window> {
        match self {
            Self::Assigned { .. } => corpus.training_window(start, context),
            _ => corpus.heldout_window(start, context),
        }
    }
}

/// The batch of the assigned samples `indices`.
pub(super) fn assigned_batch(
    corpus: &Corpus,
    context: usize,
    assignment: &Assignment,
    indices: Range<u64>,
) -> Result<Batch> {
    let windows = corpus.training_windows(context);
    let row = |index| corpus.training_window(assignment.start(index, &windows), context);
    let rows: Vec<Window> = indices.map(row).collect::<Result<_>>()?;
    Ok(batch_of(rows, context))
}

/// A batch of windows.
pub(super) fn batch_of(windows: Vec<Window>, context: usize) -> Batch {
    let rows = windows
        .into_iter()
        .map(|window| (window.tokens, window.learnt));
    Batch::partly_learnt(rows, context)
}
