//! What stands behind contributions and weights: real ones, of a small model.

use std::collections::BTreeMap;
use std::sync::Arc;

use weal_coordinator_free::sim::{Learning, Random, Task, Trained};
use weal_coordinator_free::{Apply, Candidate, Chain, Fetch, Judge, Millis, Share, Signal};
use weal_kernels::{
    Contribution, Error, Layout, OuterStep, OwnWork, Rule, Sketch, apply, decode, own_work, state,
};
use weal_proto::manifest::AggregationRule;
use weal_proto::{
    BlobHash, BlobHeader, Decided, LayoutHash, PeerId, RoundNumber, Samples, Score, StateRoot,
    Verdict, limits,
};

use crate::craft::{Bench, Craft, STALE_ROUNDS};
use crate::history::History;
use crate::learner::{BATCH, COMPRESSION, STEPS};
use crate::model::{self, initial, layout};
use crate::peer::Peer;
use crate::scoring::Scoring;
use crate::source::{Example, Source};

/// Held-out documents whose loss is reported.
const HELD_OUT: u64 = 256;
/// Trainings with which a coalition guesses what honest peers learn.
const GUESSES: u64 = 4;
/// The distance between the positions of what a coalition trains on and what a run deals.
const FAR_AHEAD: u64 = 1 << 40;

/// The learning of all peers of a run.
pub(crate) struct Lab {
    pub(crate) layout: Layout,
    pub(crate) source: Source,
    /// The number from which all chance here follows.
    seed: u64,
    held_out: Vec<Example>,
    initial: StateRoot,
    pub(crate) weights: BTreeMap<StateRoot, Arc<Vec<f32>>>,
    /// The weights that rounds start from.
    pub(crate) starts: BTreeMap<u64, StateRoot>,
    pub(crate) blobs: BTreeMap<BlobHash, Blob>,
    pub(crate) peers: Vec<Peer>,
    /// The peers' indices, as far as they have trained.
    pub(crate) indices: BTreeMap<PeerId, usize>,
    /// What happened, round by round.
    pub(crate) history: History,
    /// For each key that a crowd acts for, by its index beyond the peers': the crowd's own index.
    pub(crate) crowds: Vec<usize>,
}

/// A contribution's blob.
pub(crate) struct Blob {
    /// All of its bytes.
    pub bytes: Vec<u8>,
    /// What they hold.
    pub contribution: Contribution,
    /// A sample of it.
    pub sketch: Sketch,
    /// The peer that made it, by index.
    pub by: usize,
    /// The round it was made for.
    pub round: u64,
}

impl Lab {
    /// A lab in which the peers make and judge contributions as the lists say, by index.
    ///
    /// # Errors
    /// None while the model's size is fixed.
    pub(crate) fn new(seed: u64, conduct: &[(Craft, Scoring)]) -> Result<Self, Error> {
        let layout = layout()?;
        let first = Arc::new(initial(seed));
        let root = StateRoot::from(state::root(&layout, &first)?);
        let peers = conduct.iter().zip(1..);
        Ok(Self {
            layout,
            source: Source::training(seed),
            seed,
            held_out: Source::held_out(seed).examples(0..HELD_OUT),
            initial: root,
            weights: BTreeMap::from([(root, Arc::clone(&first))]),
            starts: BTreeMap::from([(0, root)]),
            blobs: BTreeMap::new(),
            peers: peers
                .map(|((craft, scoring), number)| {
                    Peer::new(*craft, *scoring, seed ^ (number << 32))
                })
                .collect(),
            indices: BTreeMap::new(),
            history: History::default(),
            crowds: Vec::new(),
        })
    }

    /// The loss of some weights on held-out text, in nats.
    pub(crate) fn held_out_loss(&self, weights: &[f32]) -> f64 {
        model::loss(weights, &self.held_out)
    }

    pub(crate) const fn seed(&self) -> u64 {
        self.seed
    }

    /// Adds a blob that the peer with this index made for this round. Returns its name.
    ///
    /// # Errors
    /// If the contribution is of another model.
    pub(crate) fn keep(
        &mut self,
        bytes: Vec<u8>,
        contribution: Contribution,
        (by, round): (usize, u64),
    ) -> Result<BlobHash, Error> {
        let hash = BlobHash::from(*blake3::hash(&bytes).as_bytes());
        let blob = Blob {
            bytes,
            sketch: Sketch::of(&self.layout, &contribution, self.seed)?,
            contribution,
            by,
            round,
        };
        self.blobs.insert(hash, blob);
        Ok(hash)
    }

    fn make(&mut self, task: &Task) -> Result<Option<Trained>, Error> {
        let Some(base) = self.weights.get(&task.base_root).cloned() else {
            return Ok(None); // damaged weights: there is nothing to train from
        };
        self.indices.insert(task.peer, task.index);
        let craft = self.peers.get(task.index).map(|peer| peer.craft);
        if craft == Some(Craft::Idle) {
            return Ok(None);
        }
        let stale = self.stale(task.round.0, &base);
        let copies = craft.is_some_and(Craft::copies);
        let overheard = match task.round.previous().filter(|_| copies) {
            Some(before) => self.overheard(before.0, task.index)?,
            None => Vec::new(),
        };
        let guesses = self.guesses(task);
        let source = self.source;
        let Some(peer) = self.peers.get_mut(task.index) else {
            return Ok(None);
        };
        let mut bench = Bench {
            layout: &self.layout,
            base: &base,
            stale: &stale,
            round: task.round.0,
            batches: batches(&source, &positions(&task.share, &task.peer)),
            guesses,
            overheard,
            random: Random::new(peer.random.next()),
        };
        let made = peer
            .craft
            .make(&mut peer.learner, peer.last.as_deref(), &mut bench)?;
        let part = own_work::Part {
            start: 0,
            to_send: made.to_send,
            learnt: made.learnt,
        };
        let work = OwnWork::new(&self.layout, split(&self.layout, part))?;
        peer.work.retain(|round, _| round + 2 > task.round.0);
        peer.work.insert(task.round.0, work);
        peer.last = Some(made.body.clone());
        peer.claims = positions(&task.share, &task.peer);
        let contribution = decode(&self.layout, &COMPRESSION, &made.body, made.body.len())?;
        let bytes = self.header(task).lead(&made.body);
        let blob_bytes = bytes.len() as u64;
        let blob = self.keep(bytes, contribution, (task.index, task.round.0))?;
        self.history.sent(task.round.0, task.index, blob);
        Ok(Some(Trained {
            blob,
            blob_bytes,
            samples: Samples(u64::from(STEPS * BATCH)),
        }))
    }

    fn header(&self, task: &Task) -> BlobHeader {
        BlobHeader {
            run: task.run,
            round: task.round,
            peer: task.peer,
            base_root: task.base_root,
            layout: LayoutHash::from(self.layout.hash()),
            codec: limits::CODEC,
        }
    }

    fn stale(&self, round: u64, base: &Arc<Vec<f32>>) -> Arc<Vec<f32>> {
        let root = self.starts.get(&round.saturating_sub(STALE_ROUNDS));
        let weights = root.and_then(|root| self.weights.get(root));
        Arc::clone(weights.unwrap_or(base))
    }

    /// Whether the peer makes and judges contributions as the rules say.
    pub(crate) fn is_honest(&self, index: usize) -> bool {
        let honest = |peer: &Peer| peer.craft == Craft::Honest && peer.scoring == Scoring::Honest;
        self.peers.get(index).is_some_and(honest)
    }

    fn guesses(&self, task: &Task) -> Vec<Vec<Vec<Example>>> {
        if !self
            .peers
            .get(task.index)
            .is_some_and(|peer| peer.craft.guesses())
        {
            return Vec::new();
        }
        let quota = u64::from(STEPS * BATCH);
        let first = FAR_AHEAD + task.round.0 * GUESSES * quota;
        (0..GUESSES)
            .map(|guess| first + guess * quota)
            .map(|first| batches(&self.source, &(first..first + quota).collect::<Vec<_>>()))
            .collect()
    }

    fn take_step(&mut self, base: StateRoot, step: &Apply) -> Result<StateRoot, Error> {
        let Some(before) = self.weights.get(&base) else {
            return Ok(unknown(base));
        };
        let blobs = step.contributions.iter();
        let blobs =
            blobs.filter_map(|chosen| Some((chosen, self.blobs.get(&chosen.commitment.blob)?)));
        let (chosen, contributions): (Vec<_>, Vec<_>) = blobs
            .map(|(chosen, blob)| (chosen.coefficient_ppm, blob.contribution.clone()))
            .unzip();
        let mut after = before.to_vec();
        let outer = OuterStep {
            contributions: &contributions,
            coefficients_ppm: &chosen,
            alpha: step.outer_rate_ppm as f32 / 1e6,
            rule: rule(step.rule),
        };
        apply(&self.layout, &mut after, &outer)?;
        let root = StateRoot::from(state::root(&self.layout, &after)?);
        let next = step.round.0 + 1;
        if base == step.base_root && self.starts.insert(next, root).is_none() {
            let loss = self.held_out_loss(&after);
            self.history.starts_with(next, loss);
        }
        self.weights.entry(root).or_insert_with(|| Arc::new(after));
        Ok(root)
    }

    /// What the structural check of a node would find.
    fn check(&self, fetch: &Fetch) -> Verdict {
        let Some(blob) = self.blobs.get(&fetch.commitment.blob) else {
            return Verdict::Unavailable;
        };
        if blob.bytes.len() as u64 != fetch.commitment.blob_bytes {
            return Verdict::WrongSize;
        }
        match BlobHeader::split(&blob.bytes) {
            Ok((header, _))
                if header.peer != fetch.peer || header.round != fetch.commitment.round =>
            {
                Verdict::WrongHeader
            }
            Ok((header, _)) if header.base_root != fetch.commitment.base_root => Verdict::WrongBase,
            Ok(_) if blob.contribution.values() == 0 => Verdict::Empty,
            Ok(_) => Verdict::Valid,
            Err(_) => Verdict::WrongHeader,
        }
    }
}

impl Learning for Lab {
    fn initial(&self) -> StateRoot {
        self.initial
    }

    fn train(&mut self, task: &Task) -> Option<Trained> {
        self.make(task).ok().flatten()
    }

    fn examine(&mut self, fetch: &Fetch) -> Verdict {
        self.check(fetch)
    }

    fn compare(
        &mut self,
        index: usize,
        round: RoundNumber,
        found: &[Candidate],
        earlier: &[BlobHash],
    ) -> Vec<Signal> {
        self.signals(index, round, found, earlier)
            .unwrap_or_default()
    }

    fn judge(&mut self, index: usize, judge: &Judge) -> Vec<Score> {
        self.scores(index, judge).unwrap_or_default()
    }

    fn apply(&mut self, base: StateRoot, step: &Apply) -> StateRoot {
        self.take_step(base, step).unwrap_or_else(|_| unknown(base))
    }

    fn decided(&mut self, now: Millis, decided: &Decided, chain: &Chain) {
        let round = decided.value.round.0;
        let measured = self.measure_all(round).unwrap_or_default();
        self.history.measured(round, measured);
        self.history.decided(now, chain, &self.indices);
        for (index, peer) in self.peers.iter_mut().enumerate() {
            let chosen = self.history.was_chosen(round, index);
            if let Some(chosen) = chosen {
                // The model's size is fixed, so this cannot fail.
                _ = peer.learner.settle(&self.layout, chosen);
            }
        }
    }
}

/// The root of weights that nobody has: what follows from damaged ones.
fn unknown(base: StateRoot) -> StateRoot {
    (*blake3::hash(base.as_bytes()).as_bytes()).into()
}

const fn rule(rule: AggregationRule) -> Rule {
    match rule {
        AggregationRule::MeanOfSenders => Rule::MeanOfSenders,
        AggregationRule::MeanOfAll => Rule::MeanOfAll,
        AggregationRule::RootOfSenders => Rule::RootOfSenders,
    }
}

/// The positions of the documents that a peer trains on in a round.
pub(crate) fn positions(share: &Share, peer: &PeerId) -> Vec<u64> {
    let quota = (STEPS * BATCH) as usize;
    let dealt: Vec<u64> = share.spans.iter().cloned().flatten().take(quota).collect();
    if !dealt.is_empty() {
        return dealt;
    }
    // A newcomer draws from what lies ahead.
    let mut number = [0; 8];
    number.copy_from_slice(&peer.as_bytes()[..8]);
    let first = share.ahead + u64::from_le_bytes(number) % 100_000;
    (first..first + quota as u64).collect()
}

/// The documents at these positions, in batches of one optimiser step.
fn batches(source: &Source, positions: &[u64]) -> Vec<Vec<Example>> {
    let document = |position: &u64| source.examples(*position..position + 1);
    let batch = |batch: &[u64]| batch.iter().flat_map(document).collect();
    positions.chunks(BATCH as usize).map(batch).collect()
}

/// Cuts own work into one part for each tensor.
fn split(layout: &Layout, whole: own_work::Part) -> Vec<own_work::Part> {
    let part = |range: std::ops::Range<usize>| own_work::Part {
        start: range.start,
        to_send: whole.to_send[range.clone()].to_vec(),
        learnt: whole.learnt[range].to_vec(),
    };
    layout.ranges().map(part).collect()
}
