//! Measuring what the contributions of a decided round do to the loss.
//!
//! It runs beside the training of the next round. What is measured in time goes into this node's
//! attestation of that round.

use weal_proto::{RoundNumber, Score};

use super::Core;
use crate::interface::output::{Judge, Output};

/// What this node measured of the last decided round.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Judgement {
    round: Option<RoundNumber>,
    scores: Vec<Score>,
}

impl Core {
    /// Asks the caller to measure the contributions that this node was drawn for, if any.
    pub(super) fn judge(&mut self, mut judge: Judge) {
        let mut drawn = false;
        for judged in &mut judge.contributions {
            judged.measure = self.chain.measures(&self.me, &judged.chosen.peer);
            drawn |= judged.measure;
        }
        self.judgement = Judgement::default();
        if drawn {
            self.judgement.round = Some(judge.round);
            self.outputs.push(Output::Judge(judge));
        }
    }

    /// The caller measured some of them. Each answer replaces the one before.
    pub(super) fn judged(&mut self, round: RoundNumber, mut scores: Vec<Score>) {
        if self.judgement.round == Some(round) {
            scores.sort_by_key(|score| score.slot);
            scores.dedup_by_key(|score| score.slot);
            self.judgement.scores = scores;
        }
    }

    /// The scores for this node's attestation of the running round: those of the round before.
    pub(super) fn scores(&self) -> Vec<Score> {
        if self.judgement.round == self.chain.round().previous() {
            self.judgement.scores.clone()
        } else {
            Vec::new()
        }
    }
}
