//! Computes a run's weights again from the contributions that were decided.

use std::fs;

use weal_coordinator_free::{Apply, Chosen};
use weal_kernels::{Contribution, apply_and_outline, state};
use weal_proto::{BlobHash, Outline, RoundNumber, StateRoot};

use super::ProvenHistory;
use crate::check::Check;
use crate::error::{Error, ErrorKind, Result};
use crate::folder::Folder;
use crate::plan::{self, DecidedStep, Plan};
use crate::store::blobs;
use crate::store::weights::WeightFiles;

/// Rounds that were applied again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Replayed {
    /// The first round.
    pub from: RoundNumber,
    /// The round that starts from the result.
    pub to: RoundNumber,
    /// State root of the result.
    pub root: StateRoot,
}

/// Applies the decided contributions again, as far back as the folder keeps them, and compares the
/// state root after each round with the decided one. `progress` takes the rounds applied, and all.
///
/// A node may be running in the folder: only files are read that nobody changes, and each is
/// checked against its hash.
///
/// # Errors
/// [`ErrorKind::Unproven`] when a root differs; [`ErrorKind::Folder`] when the folder does not keep
/// what a replay needs.
pub(crate) fn replay(
    folder: &Folder,
    plan: &Plan,
    history: &ProvenHistory,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Replayed> {
    let (from, mut values) = start(folder, plan, history)?;
    let all = history.rounds() - from.0;
    let mut root = StateRoot::from(state::root(&plan.layout, &values)?);
    expect_root(history, from, root)?;
    let kept = Contributions {
        folder,
        check: Check {
            plan,
            run: history.chain().run(),
            codec: history.chain().manifest().compression.codec,
        },
    };
    let mut to = from;
    for (done, apply) in (1..).zip(history.applies_from(from)) {
        root = step(&kept, &mut values, apply)?;
        to = apply.round.next();
        expect_root(history, to, root)?;
        progress(done, all);
    }
    Ok(Replayed { from, to, root })
}

/// The oldest weights from which the folder can go on to the newest, and the round that starts from
/// them.
fn start(folder: &Folder, plan: &Plan, history: &ProvenHistory) -> Result<(RoundNumber, Vec<f32>)> {
    let file = |hash: &BlobHash| blobs::path(&folder.blobs(), hash);
    let is_here = |apply: &&Apply| {
        let mut chosen = apply.contributions.iter();
        chosen.all(|one| file(&one.commitment.blob).exists())
    };
    let kept = history.applies().iter().rev().take_while(is_here).count() as u64;
    let oldest = RoundNumber(history.rounds() - kept);
    if oldest.0 == 0 {
        let sound = |hash: &BlobHash| {
            let path = file(hash);
            let is_sound = blobs::holds(&path, hash).unwrap_or(false);
            Ok(is_sound.then_some(path))
        };
        let initial = plan::initial_weights(history.chain().manifest(), plan, sound)?;
        return Ok((RoundNumber(0), initial.values.to_vec()));
    }
    let files = WeightFiles::new(folder.weights());
    let rounds = files.rounds()?;
    let fitting = rounds
        .into_iter()
        .find(|round| *round >= oldest && round.0 <= history.rounds());
    let Some(round) = fitting else {
        let what = format!("the folder keeps no weights of round {oldest} or later to start from");
        return Err(Error::folder(what).with_hint(
            "keep more: raise keep.contributions and keep.weights in settings.toml, on a node that \
             has them from the beginning",
        ));
    };
    Ok((round, files.load(&plan.layout, round)?.values.to_vec()))
}

/// The contributions that a folder keeps.
struct Contributions<'a> {
    folder: &'a Folder,
    check: Check<'a>,
}

impl Contributions<'_> {
    fn read(&self, round: RoundNumber, chosen: &Chosen) -> Result<Contribution> {
        let (peer, hash) = (chosen.peer.short(), &chosen.commitment.blob);
        let failed = |what: &str| format!("round {round}: the contribution of {peer} {what}");
        let path = blobs::path(&self.folder.blobs(), hash);
        let blob = fs::read(&path).map_err(|error| {
            Error::folder(failed("is gone"))
                .caused_by(error)
                .with_hint("verify again: a running node deletes what it no longer needs")
        })?;
        if Outline::of(&blob).hash() != *hash {
            return Err(Error::corrupt(&path, failed("is not what was decided")));
        }
        let checked = self
            .check
            .contribution(chosen.peer, &chosen.commitment, &blob);
        checked.map_err(|refusal| {
            Error::new(ErrorKind::Unproven, failed("is not valid")).caused_by(refusal.why)
        })
    }
}

/// Applies a round's contributions to the weights. Returns their state root.
fn step(kept: &Contributions<'_>, values: &mut [f32], apply: &Apply) -> Result<StateRoot> {
    let contributions = apply.contributions.iter();
    let contributions = contributions.map(|chosen| kept.read(apply.round, chosen));
    let contributions = contributions.collect::<Result<Vec<_>>>()?;
    let layout = &kept.check.plan.layout;
    let step = DecidedStep::of(apply);
    let outline = apply_and_outline(layout, values, &step.with(&contributions))?;
    Ok(outline.root(layout)?.into())
}

/// Compares weights with the decided ones, if their round is decided.
fn expect_root(history: &ProvenHistory, round: RoundNumber, root: StateRoot) -> Result<()> {
    match history.root(round) {
        Some(decided) if decided != root => {
            let (root, decided) = (root.short(), decided.short());
            let what = format!(
                "the weights of round {round} have the state root {root}, and {decided} was decided"
            );
            Err(Error::new(ErrorKind::Unproven, what))
        }
        _ => Ok(()),
    }
}
