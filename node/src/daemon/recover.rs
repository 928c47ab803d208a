//! What a node reads back from disk when it starts.

use std::sync::Arc;

use weal_coordinator_free::host::retention;
use weal_coordinator_free::{Chain, Config, Core, Recovered};
use weal_proto::{BlobHash, Commitment, Envelope, Manifest, RoundNumber, SigningKey};

use super::own_contribution::OwnContribution;
use crate::error::{Error, Result};
use crate::home::Home;
use crate::plan::{self, Plan};
use crate::store::Store;
use crate::store::blobs::Blobs;
use crate::store::learner::SavedState;
use crate::store::weights::{WeightFiles, Weights, WeightsId};

/// Rounds that are rather applied again, from contributions on disk, than fetched from peers.
const APPLIED_AGAIN: u64 = 8;

/// The weights that a node starts from.
pub(super) struct StoredWeights {
    /// `None` if there are none on disk, and the core decides which to get.
    pub weights: Option<Weights>,
    /// Newer ones that are damaged, and worth repairing.
    pub damaged: Option<WeightsId>,
}

/// The newest weights on disk whose root is the decided one. If there are none, a founder, who may
/// have to begin the run, computes the initial ones.
pub(super) fn weights(
    home: &Home,
    plan: &Plan,
    (files, key): (&WeightFiles, &SigningKey),
) -> Result<StoredWeights> {
    let StoredWeights {
        mut weights,
        mut damaged,
    } = newest_sound(home, plan, files)?;
    let founders = &home.manifest.founders;
    if weights.is_none() && founders.iter().any(|founder| founder.peer == key.peer()) {
        weights = Some(initial_weights(&home.manifest, plan, (&home.blobs, files))?);
    }
    if let Some(Weights { round, .. }) = weights {
        damaged = damaged.filter(|id| id.round.0.saturating_sub(round.0) > APPLIED_AGAIN);
    }
    Ok(StoredWeights { weights, damaged })
}

fn newest_sound(home: &Home, plan: &Plan, files: &WeightFiles) -> Result<StoredWeights> {
    let store = &home.store;
    let decided = store.decided_rounds()?;
    let rounds = files.rounds()?.into_iter().rev();
    let mut damaged: Option<WeightsId> = None;
    for round in rounds.filter(|round| round.0 <= decided) {
        let decided = store.decided_root(round)?;
        let root = decided.or_else(|| files.written_root(round));
        match files.load(&plan.layout, round) {
            Ok(weights) if root.is_none_or(|root| root == weights.root) => {
                // A process that ended while it caught up left that to the system.
                files.sync(round)?;
                let weights = Some(weights);
                return Ok(StoredWeights { weights, damaged });
            }
            Ok(_) => tracing::warn!("the weights of round {round} on disk are damaged"),
            Err(error) => tracing::warn!("the weights of round {round} are ignored: {error:#}"),
        }
        damaged = damaged.or_else(|| root.map(|root| WeightsId { round, root }));
    }
    let weights = None;
    Ok(StoredWeights { weights, damaged })
}

/// The initial weights, which are on disk then.
pub(super) fn initial_weights(
    manifest: &Manifest,
    plan: &Plan,
    (blobs, files): (&Blobs, &WeightFiles),
) -> Result<Weights> {
    let initial = plan::initial_weights(manifest, plan, |hash| blobs.sound_file(hash))?;
    let (layout, values) = (&plan.layout, &initial.values);
    match &initial.file {
        Some(file) => files.adopt(layout, RoundNumber(0), (file, values)),
        None => files.store(layout, RoundNumber(0), values),
    }
}

/// The core, with what all decided rounds lead to, and what the undecided one left on disk.
pub(super) fn core(home: &Home, key: &SigningKey, weights_round: RoundNumber) -> Result<Core> {
    let start = starting_point(home, weights_round)?;
    let mut failed = Ok(());
    let decided = home
        .store
        .decided_from(start.round())
        .map_while(|decided| decided.map_err(|error| failed = Err(error)).ok());
    let records = home.store.undecided_records()?;
    let mut recovered = Recovered::from_decided(start, decided, weights_round, records)?;
    failed?;
    let (expected, found) = (home.store.decided_rounds()?, recovered.chain.round());
    if found.0 != expected {
        let why = format!("round {found} of {expected} decided rounds is missing");
        return Err(Error::corrupt(&home.folder.store(), why));
    }
    recovered.genesis = home.store.has_genesis()?;
    Ok(Core::new(Config::new(key.clone()), recovered)?)
}

/// The newest sound snapshot of what was decided, or the manifest if there is none.
fn starting_point(home: &Home, weights_round: RoundNumber) -> Result<Chain> {
    let store = &home.store;
    let manifest = Arc::new(home.manifest.clone());
    let decided = RoundNumber(store.decided_rounds()?);
    for round in retention::starting_points(&store.snapshots()?, weights_round, decided) {
        let restored = store
            .snapshot(round)?
            .and_then(|snapshot| Chain::restore(manifest.clone(), &snapshot).ok());
        match restored {
            Some(chain) => return Ok(chain),
            None => tracing::warn!(
                "the snapshot of round {round} is damaged, or from another version: starting from \
                 an earlier one"
            ),
        }
    }
    home.first_chain()
}

/// This node's newest contribution, and whether its round was decided without it, or the node
/// crashed after storing it and before committing to it.
pub(super) fn own_contribution(
    store: &Store,
    learnt: Option<&SavedState>,
    key: &SigningKey,
) -> Result<OwnContribution> {
    let Some(state) = learnt else {
        return Ok(OwnContribution::default());
    };
    let (round, blob) = (state.round, state.blob);
    let committed = store
        .own_commitment(round)?
        .is_some_and(|envelope| commits_to(&envelope, blob));
    let chosen = store.decided(round, 1, 0)?.first().map(|decided| {
        let mut contributions = decided.value.contributions.iter();
        contributions
            .find(|envelope| envelope.signer == key.peer())
            .is_some_and(|envelope| commits_to(envelope, blob))
    });
    Ok(match (committed, chosen) {
        (_, Some(true)) => OwnContribution::default(),
        (committed, chosen) => {
            OwnContribution::recovered(round, blob, !committed || chosen.is_some())
        }
    })
}

fn commits_to(envelope: &Envelope, blob: BlobHash) -> bool {
    envelope
        .open::<Commitment>()
        .is_ok_and(|commitment| commitment.blob == blob)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::folder::Folder;
    use crate::lone_founder::LoneFounder;
    use crate::new_run::{NewRun, Right, RunFile};

    const ROUNDS: u64 = 140;

    /// A folder in which this many rounds are decided, and its founder.
    fn decided(dir: &Path, rounds: u64) -> (Home, LoneFounder) {
        let folder = Folder::new(dir);
        let key = folder.key().unwrap();
        let run = RunFile::default();
        let new = NewRun::from_file(&run, dir, key.peer(), Path::new("run.toml")).unwrap();
        let home = new.adopt(folder.enter().unwrap(), Right::Begin).unwrap();
        let mut founder = LoneFounder::new(&home.manifest, &key, [7; 32].into());
        home.store.persist(&founder.decide_until(rounds)).unwrap();
        (home, founder)
    }

    /// The round whose snapshot the node starts from, after the start was compared with the
    /// founder.
    fn start(home: &Home, founder: &LoneFounder, weights: u64) -> u64 {
        let weights = RoundNumber(weights);
        let core = core(home, &home.folder.key().unwrap(), weights).unwrap();
        let expected = founder.core().chain().snapshot();
        assert_eq!(core.chain().snapshot(), expected);
        starting_point(home, weights).unwrap().round().0
    }

    #[test]
    fn a_node_starts_from_the_newest_snapshot_that_is_older_than_its_weights() {
        let dir = tempfile::tempdir().unwrap();
        let (home, founder) = decided(dir.path(), ROUNDS);
        let starts = [ROUNDS, 128, 127, 100, 80].map(|weights| start(&home, &founder, weights));
        assert_eq!(starts, [128, 128, 96, 96, 64]);
        // So far behind, it fetches weights and applies no round since.
        assert_eq!(start(&home, &founder, 0), 128);
    }

    #[test]
    fn damaged_snapshots_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let (home, founder) = decided(dir.path(), ROUNDS);
        for (damaged, begins) in [(128, 96), (96, 64), (64, 0)] {
            home.store.damage_snapshot(RoundNumber(damaged), 50);
            assert_eq!(start(&home, &founder, ROUNDS), begins);
        }
    }

    #[test]
    fn a_short_history_is_read_from_its_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let (home, founder) = decided(dir.path(), 31);
        assert_eq!(start(&home, &founder, 31), 0);
    }
}
