//! Brings a node up: from a data folder and settings to a [`Daemon`] that can run.

use std::sync::{Arc, RwLock};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use weal_dashboard::{Dashboard, Level, Node, RoundRecord, Run, Snapshot};
use weal_network::{self as network, Network};
use weal_proto::{Message, PeerId, RoundNumber, SigningKey};
use weal_trainer::{Corpus, OpenDevice};

use super::current_weights::CurrentWeights;
use super::event_loop::Daemon;
use super::examinations::Examinations;
use super::fetch_progress::FetchProgress;
use super::finding_peers::{add_link_peers, call_known_peers};
use super::jobs::JobContext;
use super::met_peers::{Loneliness, MetPeers};
use super::milestone;
use super::own_contribution::OwnContribution;
use super::page::{self, PageFeed};
use super::places::Places;
use super::recover;
use super::round_messages::{MessagesRequest, RoundMessages};
use super::service::{NodeService, Position, SharedPosition};
use super::sole_use::new_session;
use super::timers::Timers;
use super::unchecked_weights::UncheckedWeights;
use crate::error::{Error, Result};
use crate::full_disk::FullDisk;
use crate::home::Home;
use crate::learner::{LearnerEvent, LearnerHandle, LearnerSetup};
use crate::node_network::settings_of_node;
use crate::page_port::listen_for_page;
use crate::plan::{self, Plan};
use crate::settings::Settings;
use crate::store::learner::LearnerFiles;
use crate::store::weights::WeightFiles;
use crate::traffic_meter::{MonthlyTraffic, TrafficMeter};

/// Records of rounds that the page begins with, and about as many of earlier ones.
const RECORDS_SHOWN: usize = 4_096;
/// Events of the learner that may wait for the daemon.
const LEARNER_EVENTS: usize = 16;

/// How a node is to run.
pub struct Options {
    /// The run that it takes part in.
    pub home: Home,
    /// How this machine takes part.
    pub settings: Settings,
    /// Train only until this many rounds are decided; the node then answers peers only.
    pub rounds: Option<u64>,
    /// Voters that the operator declares gone for ever.
    pub gone: Vec<PeerId>,
    /// A device that is open already. `None`: the one that the settings name.
    pub device: Option<OpenDevice>,
    /// A page that is served already. `None`: the node listens at the address of the settings.
    pub dashboard: Option<Dashboard>,
}

/// Brings a node up.
///
/// # Errors
/// Whatever is wrong with manifest, data, device, store or ports: each with its own kind.
pub async fn open(options: Options) -> Result<Daemon> {
    let Options {
        home,
        mut settings,
        rounds,
        device,
        gone,
        dashboard,
    } = options;
    let key = home.folder.key()?;
    if !home.store.belongs_to(key.peer())? {
        return Err(another_key(&home, &key));
    }
    let plan = Arc::new(Plan::new(&home.manifest)?);
    let device = match device {
        Some(device) => device,
        None => OpenDevice::open(settings.compute.device)?,
    };
    let corpus = Arc::new(plan::corpus(&home.manifest, &home.blobs)?);
    let weight_files = WeightFiles::new(home.folder.weights());
    let recover::StoredWeights { weights, damaged } =
        recover::weights(&home, &plan, (&weight_files, &key))?;
    let weights_round = weights.as_ref().map(|weights| weights.round);
    let core = recover::core(&home, &key, weights_round.unwrap_or_default())?;

    add_link_peers(&home.store, &mut settings.network)?;
    let page_port = match dashboard {
        Some(_) => None,
        None => Some(listen_for_page(&mut settings, &home.folder).await?),
    };
    let position: SharedPosition = Arc::new(RwLock::new(Position::start(home.run)));
    let (network, network_events, message_requests, meter) =
        start_network(&home, &key, &settings, position.clone()).await?;
    let disk = FullDisk::default();
    let (learner, learner_events, own) =
        start_learner(&home, &key, &settings, (&plan, &corpus, device, &disk))?;

    let milestone = milestone::newest(&home.store, &home.blobs)?;
    let context = JobContext {
        run: home.run,
        codec: home.manifest.compression.codec,
        plan,
        blobs: home.blobs,
        store: home.store.clone(),
        weight_files: weight_files.clone(),
        network: network.clone(),
        position: position.clone(),
        fetching: FetchProgress::default(),
        disk,
        places: Places::new(),
        examined: Arc::default(),
        sketches: Arc::default(),
        copy_ppm: home.manifest.trust.copy_ppm,
    };
    let mut daemon = Daemon {
        run: home.run,
        unchecked: UncheckedWeights::of(&weight_files, &home.store, weights_round)?,
        weights: CurrentWeights::new(weights, weight_files, settings.keep.weights()),
        damaged,
        weights_job: None,
        settings,
        last_round: rounds.map(RoundNumber),
        core,
        milestone,
        gone,
        timers: Timers::new(),
        store: home.store,
        key_use: network.key_use(),
        network,
        network_events,
        learner,
        learner_events,
        message_requests,
        context,
        jobs: JoinSet::new(),
        examinations: Examinations::default(),
        met: MetPeers::default(),
        loneliness: Loneliness::default(),
        position,
        own,
        own_work: None,
        page_port,
        meter,
        dashboard: dashboard.unwrap_or_default(),
        page: PageFeed::new(&home.manifest, this_node(&key), page::floors(&corpus)),
        train_loss: None,
        _lock: home.lock,
    };
    daemon.show_history()?;
    daemon.tell_members();
    Ok(daemon)
}

/// What is wrong with a folder whose key was replaced.
fn another_key(home: &Home, key: &SigningKey) -> Error {
    let place = home.folder.path().display();
    Error::folder(format!(
        "{place}: this node took part under another key than {}",
        key.peer().short()
    ))
    .with_hint("put the file `key` back, or `weal join` the run in a new folder as another peer")
}

/// What the page shows of this node.
fn this_node(key: &SigningKey) -> Node {
    Node {
        id: key.peer().to_string(),
        name: key.peer().short(),
        version: env!("CARGO_PKG_VERSION").into(),
        threads: rayon::current_num_threads() as u64,
        ..Node::default()
    }
}

type NetworkParts = (
    Network,
    network::Events,
    mpsc::Receiver<MessagesRequest>,
    TrafficMeter,
);

/// Starts the network and calls the peers that an earlier process reached.
async fn start_network(
    home: &Home,
    key: &SigningKey,
    settings: &Settings,
    position: SharedPosition,
) -> Result<NetworkParts> {
    let (messages, message_requests) = RoundMessages::new();
    let service = NodeService {
        manifest: home.manifest.encode(),
        store: home.store.clone(),
        first: home.store.first_round()?,
        blobs: home.blobs.clone(),
        position,
        messages,
    };
    let traffic = MonthlyTraffic::open(&home.folder, &settings.network);
    let addresses = network::Settings {
        session: Some(new_session(&home.store)?),
        ..settings_of_node(&settings.network, &home.folder, &traffic)
    };
    let (network, events) =
        Network::start(key.seed(), home.run.into(), addresses, Arc::new(service)).await?;
    call_known_peers(&home.store, &network).await?;
    let meter = TrafficMeter::start(traffic, network.clone());
    Ok((network, events, message_requests, meter))
}

type LearnerParts = (LearnerHandle, mpsc::Receiver<LearnerEvent>, OwnContribution);

/// Starts the thread that trains, with what an earlier process learnt.
fn start_learner(
    home: &Home,
    key: &SigningKey,
    settings: &Settings,
    (plan, corpus, device, disk): (&Arc<Plan>, &Arc<Corpus>, OpenDevice, &FullDisk),
) -> Result<LearnerParts> {
    let moments_every = settings.keep.moments_every(plan.layout.parameters());
    let files = LearnerFiles::new(home.folder.learner(), moments_every);
    let learnt = files.newest();
    let own = recover::own_contribution(&home.store, learnt.as_ref(), key)?;
    let setup = LearnerSetup {
        run: home.run,
        peer: key.peer(),
        plan: plan.clone(),
        corpus: corpus.clone(),
        device,
        blobs: home.blobs.clone(),
        files,
        disk: disk.clone(),
        learnt,
        evaluation_sequences: settings.evaluation.sequences,
        codec: home.manifest.compression.codec,
        compute: settings.compute.clone(),
    };
    let (sender, events) = mpsc::channel(LEARNER_EVENTS);
    Ok((LearnerHandle::start(setup, sender)?, events, own))
}

impl Daemon {
    /// Begins the page with what earlier processes recorded.
    fn show_history(&mut self) -> Result<()> {
        let decided = self.store.decided_rounds()?;
        let mut position = self
            .position
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        position.decided_rounds = decided;
        position.newest = self.core.chain().parent();
        drop(position);
        let history: Vec<RoundRecord> = self
            .store
            .history(RECORDS_SHOWN)?
            .iter()
            .filter_map(|json| serde_json::from_slice(json).ok())
            .collect();
        for record in &history {
            self.page.remember(record.clone());
        }
        let text = format!(
            "run {}: {decided} rounds decided; this node is {}",
            self.run.short(),
            PeerId::from(self.network.local()).short()
        );
        self.page.say(Level::Info, text);
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
}
