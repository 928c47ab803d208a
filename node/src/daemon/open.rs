//! Brings a node up: from a data folder and settings to a [`Daemon`] that can run.

use std::num::NonZeroU64;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use weal_coordinator_free::{Config, Core, Recovered};
use weal_dashboard::{Dashboard, Floor, Level, Node, RoundRecord, Run, Snapshot};
use weal_proto::manifest::{Data, Manifest};
use weal_proto::{Commitment, Message, RoundNumber, SigningKey, limits};
use weal_trainer::{Corpus, OpenDevice};

use super::Daemon;
use super::jobs::Workshop;
use super::own::Own;
use super::page::Page;
use super::service::{NodeService, SharedPosition};
use super::timers::Timers;
use crate::error::{Error, ErrorKind, Result};
use crate::folder::Folder;
use crate::learner::{LearnerHandle, LearnerSetup};
use crate::plan::{self, Plan};
use crate::settings::Settings;
use crate::store::Store;
use crate::store::blobs::Blobs;
use crate::store::learner::{LearnerFiles, LearnerState};
use crate::store::weights::{WeightFiles, Weights};
use weal_network::{self as network, Network};

/// Events of the learner that may wait for the daemon.
const LEARNER_EVENTS: usize = 16;
/// Requests for a round's messages that may wait for the daemon.
const MESSAGE_REQUESTS: usize = 64;

/// How a node is to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its data folder, which holds a run.
    pub folder: Folder,
    /// How this machine takes part.
    pub settings: Settings,
    /// Ends the training after so many decided rounds; the node goes on answering others.
    pub rounds: Option<u64>,
    /// A device that is open already, instead of the settings'.
    pub device: Option<OpenDevice>,
}

/// Brings a node up.
///
/// # Errors
/// Whatever is wrong with folder, manifest, data, device, store, ports: each with its own variant.
pub async fn open(options: Options) -> Result<Daemon> {
    let Options {
        folder,
        mut settings,
        rounds,
        device,
    } = options;
    let lock = folder.lock()?;
    let manifest = folder.manifest()?.ok_or_else(|| {
        let place = folder.path().display();
        Error::folder(format!(
            "{place}: no run in this data folder; start one with `weal new`, or join one with `weal join <run link>`"
        ))
    })?;
    let key = folder.key()?;
    let run = manifest.run();
    let plan = Arc::new(Plan::new(&manifest)?);
    let store = Store::open(&folder.store(), run)?;
    let blobs = Blobs::open(folder.blobs(), store.clone())?;
    let device = match device {
        Some(device) => device,
        None => OpenDevice::open(settings.compute.device)
            .map_err(|error| Error::of(ErrorKind::Device, error))?,
    };
    let corpus = Arc::new(plan::corpus(&manifest, &blobs)?);
    let weight_files = WeightFiles::new(folder.weights());
    let weights = recover_weights(&manifest, &plan, &store, &blobs, &weight_files)?;

    let page = listen_for_page(&settings).await?;
    if let Ok(address) = page.local_addr() {
        settings.page.listen = address;
    }
    let position = SharedPosition::default();
    let (messages_in, messages) = mpsc::channel(MESSAGE_REQUESTS);
    let service = NodeService {
        manifest: manifest.encode(),
        store: store.clone(),
        blobs: blobs.clone(),
        position: position.clone(),
        messages: messages_in,
    };
    let (network, network_events) = Network::start(
        key.seed(),
        run.into(),
        network_settings(&settings),
        Arc::new(service),
    )
    .await
    .map_err(|error| Error::of(ErrorKind::Network, error))?;
    for address in store.known_peers()? {
        if let Ok(address) = address.parse() {
            network.dial(address).await;
        }
    }

    let dashboard = Dashboard::new();
    let serving = weal_dashboard::serve(page, dashboard.clone(), std::future::pending());
    tokio::spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "the page is no longer served");
        }
    });

    let learner_files = LearnerFiles::new(folder.learner());
    let learnt = learner_files.newest(plan.layout.parameters());
    let own = recover_own(&store, learnt.as_ref(), &key)?;
    let (learner_in, learner_events) = mpsc::channel(LEARNER_EVENTS);
    let setup = LearnerSetup {
        run,
        peer: key.peer(),
        plan: plan.clone(),
        corpus: corpus.clone(),
        device,
        blobs: blobs.clone(),
        files: learner_files,
        learnt,
        evaluation_sequences: settings.evaluation.sequences,
        codec: manifest.compression.codec,
        compute: settings.compute.clone(),
    };
    let learner = LearnerHandle::start(setup, learner_in)?;

    let core = recover_core(&manifest, &key, &store, weights.round)?;
    let node = Node {
        id: key.peer().to_string(),
        name: key.peer().short(),
        version: env!("CARGO_PKG_VERSION").into(),
        threads: rayon::current_num_threads() as u64,
        ..Node::default()
    };
    let context = u64::from(manifest.model.context);
    let board = Page::new(describe(&manifest), node, floors(&corpus), context);
    let workshop = Workshop {
        run,
        codec: manifest.compression.codec,
        plan,
        blobs,
        weight_files,
        network: network.clone(),
        fetches: Workshop::fetch_slots(),
    };
    let mut daemon = Daemon {
        run,
        settings,
        last_round: rounds.map(RoundNumber),
        core,
        timers: Timers::new(),
        store,
        network,
        network_events,
        learner,
        learner_events,
        messages,
        workshop,
        jobs: JoinSet::new(),
        position,
        weights,
        own,
        verdicts: Default::default(),
        next_message: 0,
        dashboard,
        board,
        train_loss: None,
        skipped: None,
        _lock: lock,
    };
    daemon.show_history()?;
    Ok(daemon)
}

impl Daemon {
    /// The page begins with what earlier processes knew.
    fn show_history(&mut self) -> Result<()> {
        let decided = self.store.decided_rounds()?;
        self.position
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .decided_rounds = decided;
        let history: Vec<RoundRecord> = self
            .store
            .history()?
            .iter()
            .filter_map(|json| serde_json::from_slice(json).ok())
            .collect();
        for record in &history {
            self.page.remember(record.clone());
        }
        let device = format!(
            "run {}: {decided} rounds decided; this is {}",
            self.run.short(),
            weal_proto::PeerId::from(self.network.local()).short()
        );
        self.page.say(Level::Info, device);
        self.dashboard.publish(Snapshot {
            history,
            run: Run {
                id: self.run.to_string(),
                ..Run::default()
            },
            ..Snapshot::default()
        });
        Ok(())
    }

    /// Address of the page.
    pub fn page(&self) -> std::net::SocketAddr {
        self.settings.page.listen
    }
}

fn network_settings(settings: &Settings) -> network::Settings {
    network::Settings {
        listen: settings.network.listen.clone(),
        external: settings.network.external.clone(),
        bootstrap: settings.network.bootstrap.clone(),
        mdns: settings.network.mdns,
        max_gossip_bytes: limits::ENVELOPE_BYTES,
        max_upload: NonZeroU64::new(settings.network.max_upload),
        max_download: NonZeroU64::new(settings.network.max_download),
        ..network::Settings::default()
    }
}

async fn listen_for_page(settings: &Settings) -> Result<TcpListener> {
    let address = settings.page.listen;
    TcpListener::bind(address).await.map_err(|error| {
        Error::network(format!(
            "the page cannot listen on {address}: {error}; choose another address with --page"
        ))
    })
}

/// The newest weights on disk whose root is the decided one; else the initial ones, from which
/// decided rounds are applied anew.
fn recover_weights(
    manifest: &Manifest,
    plan: &Plan,
    store: &Store,
    blobs: &Blobs,
    files: &WeightFiles,
) -> Result<Weights> {
    let decided = store.decided_rounds()?;
    for round in files
        .rounds()?
        .into_iter()
        .rev()
        .filter(|round| round.0 <= decided)
    {
        let weights = match files.load(&plan.layout, round) {
            Ok(weights) => weights,
            Err(error) => {
                tracing::warn!(%error, "weights on disk are passed over");
                continue;
            }
        };
        let known = store
            .decided(round, 1, 0)?
            .first()
            .map(|decided| decided.value.base_root);
        if known.is_none_or(|root| root == weights.root) {
            return Ok(weights);
        }
        tracing::warn!(%round, "weights on disk are not the decided ones; they are deleted");
        files.remove(round)?;
    }
    let values = plan::initial_weights(manifest, plan, blobs)?;
    let weights = Weights::new(&plan.layout, RoundNumber(0), values)?;
    files.save(&weights)?;
    Ok(weights)
}

fn recover_core(
    manifest: &Manifest,
    key: &SigningKey,
    store: &Store,
    weights: RoundNumber,
) -> Result<Core> {
    let mut decided = Vec::new();
    let mut next = RoundNumber(0);
    loop {
        let batch = store.decided(next, limits::DECIDED_BATCH, usize::MAX)?;
        let Some(last) = batch.last() else { break };
        next = last.value.round.next();
        decided.extend(batch);
    }
    let records = store.open_round()?.records;
    let internal = |error: weal_coordinator_free::Error| Error::of(ErrorKind::Internal, error);
    let recovered = Recovered::from_decided(Arc::new(manifest.clone()), decided, weights, records)
        .map_err(internal)?;
    Core::new(Config::new(key.clone()), recovered).map_err(internal)
}

/// The own newest contribution, and whether it was left out of its round: by a decision, or by a
/// crash between storing and committing to it.
fn recover_own(store: &Store, learnt: Option<&LearnerState>, key: &SigningKey) -> Result<Own> {
    let Some(state) = learnt else {
        return Ok(Own::default());
    };
    let (round, blob) = (state.round, state.blob);
    let committed = match store.own_commitment(round)? {
        Some(envelope) => envelope
            .open::<Commitment>()
            .is_ok_and(|commitment| commitment.blob == blob),
        None => false,
    };
    let chosen = store.decided(round, 1, 0)?.first().map(|decided| {
        let own = decided
            .value
            .contributions
            .iter()
            .find(|envelope| envelope.signer == key.peer());
        own.is_some_and(|envelope| {
            envelope
                .open::<Commitment>()
                .is_ok_and(|commitment| commitment.blob == blob)
        })
    });
    Ok(match (committed, chosen) {
        (_, Some(true)) => Own::default(),
        (committed, chosen) => Own::recovered(round, blob, !committed || chosen.is_some()),
    })
}

fn describe(manifest: &Manifest) -> Run {
    let model = &manifest.model;
    let data = match &manifest.data {
        Data::Generator { bytes, .. } => format!("built-in generator, {bytes} bytes"),
        Data::Prepared(tokens) => {
            let tokens: u64 = tokens
                .training
                .shards
                .iter()
                .map(|shard| shard.tokens)
                .sum();
            format!("{tokens} prepared tokens")
        }
        Data::Sources(sources) => match sources.as_slice() {
            [one] => format!("{}, {} bytes", one.name, one.bytes),
            many => format!(
                "{} files, {} bytes",
                many.len(),
                many.iter().map(|source| source.bytes).sum::<u64>()
            ),
        },
    };
    Run {
        id: manifest.run().to_string(),
        name: manifest.name.clone(),
        link: String::new(),
        model: format!(
            "{} layers, width {}, context {}",
            model.layers, model.width, model.context
        ),
        parameters: model.parameters(),
        data,
        inner_steps: u64::from(manifest.inner.steps),
        batch: u64::from(manifest.inner.batch),
        keep: u64::from(manifest.compression.keep),
        chunk: u64::from(manifest.compression.chunk),
    }
}

fn floors(corpus: &Corpus) -> Vec<Floor> {
    let floors = corpus.floors();
    let named = [
        ("unigram", Some(floors.unigram)),
        ("bigram", Some(floors.bigram)),
        ("trigram", Some(floors.trigram)),
        ("entropy", floors.entropy),
    ];
    named
        .into_iter()
        .filter_map(|(name, nats)| {
            Some(Floor {
                name: name.to_owned(),
                nats_per_byte: nats?,
            })
        })
        .collect()
}
