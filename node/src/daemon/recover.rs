//! What a node reads back from disk when it starts.

use std::sync::Arc;

use weal_coordinator_free::{Config, Core, Recovered};
use weal_proto::{BlobHash, Commitment, Envelope, Manifest, RoundNumber, SigningKey};

use super::own_contribution::OwnContribution;
use crate::error::Result;
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

/// The core, with every decided round and what the undecided one left on disk.
pub(super) fn core(home: &Home, key: &SigningKey, weights_round: RoundNumber) -> Result<Core> {
    let mut failed = Ok(());
    let decided = home
        .store
        .every_decided()
        .map_while(|decided| decided.map_err(|error| failed = Err(error)).ok());
    let records = home.store.undecided_records()?;
    let manifest = Arc::new(home.manifest.clone());
    let mut recovered = Recovered::from_decided(manifest, decided, weights_round, records)?;
    failed?;
    recovered.genesis = home.store.has_genesis()?;
    Ok(Core::new(Config::new(key.clone()), recovered)?)
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
