//! Comparing and measuring contributions, as a node does it.

use std::collections::BTreeMap;
use std::sync::Arc;

use weal_coordinator_free::{Candidate, Judge, Judged, Signal};
use weal_kernels::{Contribution, Error, Overlaps, clip_factors};
use weal_proto::{BlobHash, RoundNumber, Score};

use crate::history::Measured;
use crate::lab::{Lab, positions};
use crate::model;
use crate::source::{Example, Source};

/// Documents of each sort that a contribution is measured on.
const WINDOWS: usize = 8;
/// Held-out documents from which a judge draws.
const HELD_OUT: std::ops::Range<u64> = 10_000..20_000;
/// Two contributions that share this part of their values are alike.
const COPY_PPM: u32 = 500_000;

impl Lab {
    /// How contributions compare, as this peer says.
    pub(crate) fn signals(
        &self,
        index: usize,
        round: RoundNumber,
        found: &[Candidate],
        earlier: &[BlobHash],
    ) -> Result<Vec<Signal>, Error> {
        let held = |one: &Candidate| self.blobs.contains_key(&one.fetch.commitment.blob);
        let found: Vec<&Candidate> = found.iter().filter(|one| held(one)).collect();
        let contributions: Vec<&Contribution> = found
            .iter()
            .filter_map(|one| self.contribution(&one.fetch.commitment.blob))
            .collect();
        let overlaps = Overlaps::of(&self.layout, &contributions)?;
        let among: Vec<bool> = found.iter().map(|one| one.trusted).collect();
        let peer = self.peers.get(index);
        let work = peer.and_then(|peer| peer.work.get(&round.0));
        let mut signals = Vec::new();
        for (place, (one, contribution)) in found.iter().zip(&contributions).enumerate() {
            let agreement = match work {
                Some(work) => work.agreement(&self.layout, contribution)?,
                None => None,
            };
            let net = overlaps.net(place, &among);
            let alike =
                |other: &usize| *other != place && overlaps.shared_ppm(place, *other) >= COPY_PPM;
            signals.push(Signal {
                slot: one.fetch.slot,
                net: net.map(|net| net.ppm),
                net_noise: net.map_or(0, |net| net.noise_ppm),
                work: agreement.map(|found| found.to_send_ppm.max(found.learnt_ppm)),
                alike: (0..found.len())
                    .filter(alike)
                    .filter_map(|other| Some(found.get(other)?.fetch.slot))
                    .collect(),
                repeats: self.repeats(&one.fetch.commitment.blob, earlier),
            });
        }
        let scoring = peer.map(|peer| peer.scoring).unwrap_or_default();
        let found: Vec<Candidate> = found.into_iter().cloned().collect();
        let is_friend = |place: usize| {
            let found = found.get(place);
            found.is_some_and(|one| self.is_friend(index, &one.fetch.commitment.blob))
        };
        Ok(scoring.signals(signals, &found, is_friend))
    }

    /// Whether a contribution repeats one of these.
    fn repeats(&self, blob: &BlobHash, earlier: &[BlobHash]) -> bool {
        let sketch = |blob| self.blobs.get(blob).map(|blob| &blob.sketch);
        let mut earlier = earlier.iter().filter_map(sketch);
        sketch(blob).is_some_and(|one| earlier.any(|other| one.shared_ppm(other) >= COPY_PPM))
    }

    /// What contributions do to the loss, as this peer says.
    pub(crate) fn scores(&mut self, index: usize, judge: &Judge) -> Result<Vec<Score>, Error> {
        let Some(theta) = self.weights.get(&judge.base_root).map(Arc::clone) else {
            return Ok(Vec::new());
        };
        let known: Vec<&Judged> = judge
            .contributions
            .iter()
            .filter(|one| self.blobs.contains_key(&one.chosen.commitment.blob))
            .collect();
        let clip = self.clip(&known);
        let held_out = self.drawn_held_out(index);
        let before = model::loss(&theta, &held_out);
        let mut scores = Vec::new();
        for (one, clip) in known.iter().zip(&clip).filter(|(one, _)| one.measure) {
            let Some(contribution) = self.contribution(&one.chosen.commitment.blob) else {
                continue;
            };
            let coefficient = match one.chosen.coefficient_ppm {
                0 => 1_000_000, // on probation: measured as if it counted
                coefficient => coefficient,
            };
            let scale = judge.outer_rate_ppm as f32 / 1e6 * coefficient as f32 / 1e6;
            let mut after = theta.to_vec();
            contribution.add_clipped_to(&self.layout, &mut after, -scale, clip)?;
            let blob = one.chosen.commitment.blob;
            let own = self.drawn_own(index, one);
            let score = Score {
                slot: one.slot,
                own_ppm: fall_ppm(model::loss(&theta, &own), model::loss(&after, &own)),
                held_ppm: fall_ppm(before, model::loss(&after, &held_out)),
            };
            let scoring = self.peers.get(index).map(|peer| peer.scoring);
            let is_friend = self.is_friend(index, &blob);
            scores.extend(scoring.unwrap_or_default().score(score, is_friend));
        }
        Ok(scores)
    }

    /// What all contributions of a round measure, for somebody who has all of them.
    pub(crate) fn measure_all(&self, round: u64) -> Result<BTreeMap<usize, Measured>, Error> {
        let sent: Vec<(usize, &Contribution)> = self
            .history
            .sent_in(round)
            .filter_map(|(index, blob)| Some((index, self.contribution(&blob)?)))
            .collect();
        let root = self.starts.get(&round);
        let Some(theta) = root.and_then(|root| self.weights.get(root)) else {
            return Ok(BTreeMap::new());
        };
        let contributions: Vec<&Contribution> = sent.iter().map(|(_, one)| *one).collect();
        let overlaps = Overlaps::of(&self.layout, &contributions)?;
        let among = vec![true; sent.len()];
        let held_out = self.some_held_out(round);
        let before = model::loss(theta, &held_out);
        let mut measured = BTreeMap::new();
        for (place, (index, contribution)) in sent.iter().enumerate() {
            let mut after = theta.to_vec();
            contribution.add_to(&self.layout, &mut after, -0.7)?;
            let own = self.some_claimed(*index);
            let one = Measured {
                net: overlaps.net(place, &among).map_or(0, |net| net.ppm),
                work: self.median_work(round, *index, contribution)?,
                own: fall_ppm(model::loss(theta, &own), model::loss(&after, &own)),
                held: fall_ppm(before, model::loss(&after, &held_out)),
            };
            measured.insert(*index, one);
        }
        Ok(measured)
    }

    /// The median agreement with what honest peers, without the contributor, learnt in the round.
    fn median_work(&self, round: u64, of: usize, one: &Contribution) -> Result<i32, Error> {
        let mut found = Vec::new();
        let judges = self.peers.iter().enumerate();
        for (_, judge) in judges.filter(|(index, _)| *index != of && self.is_honest(*index)) {
            if let Some(work) = judge.work.get(&round) {
                let agreement = work.agreement(&self.layout, one)?;
                found.extend(agreement.map(|one| one.to_send_ppm.max(one.learnt_ppm)));
            }
        }
        found.sort_unstable();
        Ok(found.get(found.len() / 2).copied().unwrap_or(0))
    }

    fn some_held_out(&self, round: u64) -> Vec<Example> {
        let first = HELD_OUT.end + round * WINDOWS as u64;
        Source::held_out(self.seed()).examples(first..first + WINDOWS as u64)
    }

    fn some_claimed(&self, index: usize) -> Vec<Example> {
        let claims = self.peers.get(index).map(|peer| &peer.claims);
        let claims = claims.into_iter().flatten().take(WINDOWS);
        claims
            .flat_map(|position| self.source.examples(*position..position + 1))
            .collect()
    }

    fn contribution(&self, blob: &BlobHash) -> Option<&Contribution> {
        self.blobs.get(blob).map(|blob| &blob.contribution)
    }

    fn clip(&self, judged: &[&Judged]) -> Vec<Vec<f32>> {
        let contributions: Vec<Contribution> = judged
            .iter()
            .filter_map(|one| self.contribution(&one.chosen.commitment.blob).cloned())
            .collect();
        let coefficients: Vec<u32> = judged
            .iter()
            .map(|one| one.chosen.coefficient_ppm)
            .collect();
        clip_factors(&contributions, &coefficients)
    }

    /// Whether a contribution is by the peer itself, or by one that is as dishonest.
    fn is_friend(&self, index: usize, blob: &BlobHash) -> bool {
        let by = self.blobs.get(blob).map(|blob| blob.by);
        by.is_some_and(|by| by == index || !self.is_honest(by) && !self.is_honest(index))
    }

    /// Documents that nobody trains on, drawn by the judge alone.
    fn drawn_held_out(&mut self, index: usize) -> Vec<Example> {
        let source = Source::held_out(self.seed());
        let Some(peer) = self.peers.get_mut(index) else {
            return Vec::new();
        };
        (0..WINDOWS)
            .map(|_| HELD_OUT.start + peer.random.next() % (HELD_OUT.end - HELD_OUT.start))
            .flat_map(|position| source.examples(position..position + 1))
            .collect()
    }

    /// Documents that the contributor says it trained on, drawn by the judge alone.
    fn drawn_own(&self, index: usize, judged: &Judged) -> Vec<Example> {
        let positions = positions(&judged.share, &judged.chosen.peer);
        let mut random = self.peers.get(index).map(|peer| peer.random.clone());
        (0..WINDOWS)
            .filter_map(|_| {
                let drawn = random.as_mut()?.next() as usize % positions.len().max(1);
                positions.get(drawn)
            })
            .flat_map(|position| self.source.examples(*position..position + 1))
            .collect()
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
