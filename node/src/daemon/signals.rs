//! Comparing the contributions of a round with one another and with this node's own work, and
//! getting those of a decided round ready to be measured.
//!
//! Neither takes a forward pass, so both are jobs like the others. Measuring itself is the
//! learner's ([`learner/judge.rs`](../learner/judge.rs)).

use std::sync::Arc;

use rand::seq::SliceRandom;
use weal_coordinator_free::{Candidate, Judge, Signal};
use weal_kernels::{Contribution, Overlaps, OwnWork, Sketch, clip_factors};
use weal_proto::manifest::{AggregationRule, PPM};
use weal_proto::{BlobHash, Commitment, PeerId, RoundNumber, SlotId};

use super::jobs::{Done, JobContext};
use crate::error::{Error, Result};
use crate::learner::{JudgeJob, JudgedContribution};
use crate::plan::outer_rate;
use crate::store::weights::Weights;

impl JobContext {
    /// Compares the contributions of a round with one another and with what earlier rounds chose.
    /// `own` is what this node learnt in it, if it trained.
    pub(super) async fn compare(
        self,
        round: RoundNumber,
        (candidates, earlier): (Vec<Candidate>, Vec<BlobHash>),
        own: Option<Arc<OwnWork>>,
    ) -> Done {
        let signals = move || self.signals(&candidates, &earlier, own.as_deref());
        let compared = tokio::task::spawn_blocking(signals).await;
        let signals = compared.unwrap_or_else(|error| {
            tracing::error!("the contributions of round {round} cannot be compared: {error}");
            Vec::new()
        });
        Done::Compared { round, signals }
    }

    /// The signals of all contributions that are still here.
    fn signals(
        &self,
        candidates: &[Candidate],
        earlier: &[BlobHash],
        own: Option<&OwnWork>,
    ) -> Vec<Signal> {
        let decoded = candidates.iter().filter_map(|candidate| {
            let fetch = &candidate.fetch;
            let contribution = self.decoded(fetch.peer, &fetch.commitment)?;
            Some((candidate, contribution))
        });
        let decoded: Vec<(&Candidate, Arc<Contribution>)> = decoded.collect();
        let contributions: Vec<&Contribution> = decoded.iter().map(|(_, one)| &**one).collect();
        let trusted: Vec<bool> = decoded.iter().map(|(one, _)| one.trusted).collect();
        let slots: Vec<SlotId> = decoded.iter().map(|(one, _)| one.fetch.slot).collect();
        let repeats = self.repeats(&decoded, earlier);
        let layout = &self.plan.layout;
        // All were decoded for this run's layout, so neither comparison can fail.
        let overlaps = Overlaps::of(layout, &contributions).ok();
        let signal = |number: usize| {
            let net = overlaps.as_ref().and_then(|all| all.net(number, &trusted));
            let is_alike = |other: &usize| {
                let shared = |all: &Overlaps| all.shared_ppm(number, *other) >= self.copy_ppm;
                *other != number && overlaps.as_ref().is_some_and(shared)
            };
            let alike = (0..slots.len()).filter(is_alike);
            Signal {
                slot: slots[number],
                net: net.map(|net| net.ppm),
                net_noise: net.map_or(0, |net| net.noise_ppm),
                work: own.and_then(|own| self.work(own, contributions[number])),
                alike: alike.map(|other| slots[other]).collect(),
                repeats: repeats.get(number).is_some_and(|repeats| *repeats),
            }
        };
        (0..slots.len()).map(signal).collect()
    }

    /// Which contributions repeat what earlier rounds chose.
    fn repeats(
        &self,
        found: &[(&Candidate, Arc<Contribution>)],
        earlier: &[BlobHash],
    ) -> Vec<bool> {
        let key = self.sketches().key();
        let sketch = |(candidate, contribution): &(&Candidate, Arc<Contribution>)| {
            let sketch = Sketch::of(&self.plan.layout, contribution, key).ok()?;
            Some((candidate.fetch.commitment.blob, sketch))
        };
        // All were decoded for this run's layout, so none is missing.
        let sketches: Vec<_> = found.iter().filter_map(sketch).collect();
        self.sketches().repeats(sketches, earlier, self.copy_ppm)
    }

    /// How much a contribution agrees with this node's own work.
    fn work(&self, own: &OwnWork, contribution: &Contribution) -> Option<i32> {
        let agreement = own.agreement(&self.plan.layout, contribution).ok()??;
        let work = agreement.to_send_ppm.max(agreement.learnt_ppm);
        #[cfg(feature = "dishonest")]
        let work = crate::dishonest::work(work);
        Some(work)
    }

    /// A contribution that was examined, from memory or else from disk.
    pub(super) fn decoded(
        &self,
        peer: PeerId,
        commitment: &Commitment,
    ) -> Option<Arc<Contribution>> {
        if let Some(contribution) = self.examined().get(&commitment.blob) {
            return Some(contribution);
        }
        let blob = self.blobs.get(&commitment.blob).ok()??;
        let contribution = Arc::new(self.check(peer, commitment, &blob).ok()?);
        self.examined()
            .keep(commitment.blob, commitment.round, contribution.clone());
        Some(contribution)
    }

    /// The contributions of a decided round, ready to be measured. `weights` are those at the
    /// round's start.
    ///
    /// # Errors
    /// If one of the contributions is not here.
    pub(super) fn judge_job(&self, judge: &Judge, weights: Weights) -> Result<JudgeJob> {
        let decoded = judge.contributions.iter().map(|judged| {
            let chosen = &judged.chosen;
            self.decoded(chosen.peer, &chosen.commitment)
                .ok_or_else(|| {
                    let peer = chosen.peer.short();
                    Error::internal(format!("the contribution of {peer} is not here"))
                })
        });
        let decoded: Vec<Arc<Contribution>> = decoded.collect::<Result<_>>()?;
        let coefficients: Vec<u32> = judge
            .contributions
            .iter()
            .map(|judged| judged.chosen.coefficient_ppm)
            .collect();
        let clips = {
            let all: Vec<Contribution> = decoded.iter().map(|one| (**one).clone()).collect();
            clip_factors(&all, &coefficients)
        };
        let applied = coefficients.iter().filter(|ppm| **ppm > 0).count().max(1);
        let alone = match judge.rule {
            AggregationRule::MeanOfAll => applied as f32,
            AggregationRule::MeanOfSenders | AggregationRule::RootOfSenders => 1.0,
        };
        let all = judge
            .contributions
            .iter()
            .zip(decoded.into_iter().zip(clips));
        let mut contributions: Vec<_> = all
            .filter(|(judged, _)| judged.measure)
            .map(|(judged, (contribution, clip))| JudgedContribution {
                slot: judged.slot,
                peer: judged.chosen.peer,
                contribution,
                scale: outer_rate(judge.outer_rate_ppm)
                    * coefficient(judged.chosen.coefficient_ppm)
                    / alone,
                clip,
                share: judged.share.clone(),
                samples: judged.chosen.commitment.samples(),
            })
            .collect();
        // A slow node measures only some of them. It must not always be the same.
        contributions.shuffle(&mut rand::rng());
        Ok(JudgeJob {
            round: judge.round,
            seed: judge.seed,
            weights,
            contributions: contributions.into(),
        })
    }
}

/// What a contribution is multiplied by. One that is only measured counts as if it were applied in
/// full.
fn coefficient(ppm: u32) -> f32 {
    match ppm {
        0 => 1.0,
        ppm => ppm as f32 / PPM as f32,
    }
}
