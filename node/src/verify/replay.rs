//! Computes a run's weights again from the contributions that were decided.

use weal_coordinator_free::Apply;
use weal_kernels::{Contribution, OuterStep, apply_and_outline, state};
use weal_proto::{RoundNumber, StateRoot};

use super::ProvenHistory;
use crate::check::Check;
use crate::error::{Error, ErrorKind, Result};
use crate::home::Home;
use crate::plan::{self, Plan, outer_rate, outer_rule};
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
/// # Errors
/// [`ErrorKind::Unproven`] when a root differs; [`ErrorKind::Folder`] when the folder does not keep
/// what a replay needs.
pub(crate) fn replay(
    home: &Home,
    plan: &Plan,
    history: &ProvenHistory,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Replayed> {
    let (from, mut values) = start(home, plan, history)?;
    let all = history.rounds() - from.0;
    let mut root = StateRoot::from(state::root(&plan.layout, &values)?);
    expect_root(history, from, root)?;
    let mut to = from;
    for (done, apply) in (1..).zip(&history.applies()[from.0 as usize..]) {
        root = step(home, plan, &mut values, apply)?;
        to = apply.round.next();
        expect_root(history, to, root)?;
        progress(done, all);
    }
    Ok(Replayed { from, to, root })
}

/// The oldest weights from which the folder can go on to the newest, and the round that starts from
/// them.
fn start(home: &Home, plan: &Plan, history: &ProvenHistory) -> Result<(RoundNumber, Vec<f32>)> {
    let is_here = |apply: &&Apply| {
        let mut chosen = apply.contributions.iter();
        chosen.all(|one| home.blobs.has(&one.commitment.blob))
    };
    let kept = history.applies().iter().rev().take_while(is_here).count() as u64;
    let oldest = RoundNumber(history.rounds() - kept);
    if oldest.0 == 0 {
        let values = plan::initial_weights(&home.manifest, plan, &home.blobs)?;
        return Ok((RoundNumber(0), values));
    }
    let files = WeightFiles::new(home.folder.weights());
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

/// Applies a round's contributions to the weights. Returns their state root.
fn step(home: &Home, plan: &Plan, values: &mut [f32], apply: &Apply) -> Result<StateRoot> {
    let check = Check {
        plan,
        run: home.run,
        codec: home.manifest.compression.codec,
    };
    let contribution = |chosen: &weal_coordinator_free::Chosen| -> Result<Contribution> {
        let (round, peer) = (apply.round, chosen.peer.short());
        let missing =
            || Error::folder(format!("round {round}: the contribution of {peer} is gone"));
        let blob = home.blobs.get(&chosen.commitment.blob)?;
        let blob = blob.ok_or_else(missing)?;
        check
            .contribution(chosen.peer, &chosen.commitment, &blob)
            .map_err(|refusal| {
                let what = format!("round {round}: the contribution of {peer} is not valid");
                Error::new(ErrorKind::Unproven, what).caused_by(refusal.why)
            })
    };
    let contributions = apply.contributions.iter().map(contribution);
    let contributions = contributions.collect::<Result<Vec<_>>>()?;
    let coefficients = apply.contributions.iter().map(|one| one.coefficient_ppm);
    let outer = OuterStep {
        contributions: &contributions,
        coefficients_ppm: &coefficients.collect::<Vec<_>>(),
        alpha: outer_rate(apply.outer_rate_ppm),
        rule: outer_rule(apply.rule),
    };
    let outline = apply_and_outline(&plan.layout, values, &outer)?;
    Ok(outline.root(&plan.layout)?.into())
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
