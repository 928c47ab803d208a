//! The event loop: it handles one event at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use weal_coordinator_free::host::answers::ROUND_MESSAGES_BYTES;
use weal_coordinator_free::{Core, Input};
use weal_dashboard::{Dashboard, Level};
use weal_kernels::OwnWork;
use weal_network::{self as network, GossipId, KeyUse, Network};
use weal_proto::{PeerId, RoundNumber, RunId};

use super::batch::Batch;
use super::current_weights::CurrentWeights;
use super::examinations::Examinations;
use super::invitation::addresses_to_give;
use super::jobs::{Done, JobContext};
use super::met_peers::{Loneliness, MetPeers};
use super::own_contribution::OwnContribution;
use super::page::{Observed, PageFeed};
use super::round_messages::MessagesRequest;
use super::service::SharedPosition;
use super::timers::Timers;
use super::unchecked_weights::UncheckedWeights;
use crate::anchor::Anchor;
use crate::error::Result;
use crate::folder::FolderLock;
use crate::learner::{LearnerEvent, LearnerHandle};
use crate::link::RunLink;
use crate::node_network::connected_peers;
use crate::page_port::{PagePort, serve_page};
use crate::settings::Settings;
use crate::store::Store;
use crate::store::weights::WeightsId;
use crate::traffic_meter::TrafficMeter;

/// How often the page is brought up to date while nothing else happens.
const PUBLISH_EVERY: Duration = Duration::from_millis(500);
/// How often the node asks a peer how far it is.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// Time a leaving node gives its last messages to reach a peer.
const FAREWELL: Duration = Duration::from_millis(300);
/// Said by a founder that may have begun the run before, on a disk that is lost.
const WAITS_TO_HEAR: &str = "this folder holds no record of the run: this node waits until it \
    hears of it from the other founders; a run that was never begun begins in the folder in which \
    `weal new` made it";

/// A running node.
pub struct Daemon {
    pub(super) run: RunId,
    pub(super) settings: Settings,
    /// The node does not train in this round or later ones.
    pub(super) last_round: Option<RoundNumber>,
    /// Voters that the operator declares gone for ever; empty once the core knows.
    pub(super) gone: Vec<PeerId>,
    pub(super) core: Core,
    /// The state that this node's link names.
    pub(super) milestone: Option<Anchor>,
    pub(super) timers: Timers,
    pub(super) store: Store,
    pub(super) network: Network,
    pub(super) network_events: network::Events,
    /// Whether another machine uses this node's key.
    pub(super) key_use: watch::Receiver<KeyUse>,
    pub(super) learner: LearnerHandle,
    pub(super) learner_events: mpsc::Receiver<LearnerEvent>,
    pub(super) message_requests: mpsc::Receiver<MessagesRequest>,
    pub(super) context: JobContext,
    pub(super) jobs: JoinSet<Done>,
    /// The contributions to undecided rounds that are being examined.
    pub(super) examinations: Examinations,
    pub(super) met: MetPeers,
    pub(super) loneliness: Loneliness,
    pub(super) position: SharedPosition,
    pub(super) weights: CurrentWeights,
    /// The newest weights on disk, if they are damaged and not among those in memory.
    pub(super) damaged: Option<WeightsId>,
    pub(super) unchecked: UncheckedWeights,
    /// The job that fetches or checks weights.
    pub(super) weights_job: Option<AbortHandle>,
    pub(super) own: OwnContribution,
    /// What this node learnt in the last round that it trained.
    pub(super) own_work: Option<(RoundNumber, Arc<OwnWork>)>,
    /// Where the page is served, until it is.
    pub(super) page_port: Option<PagePort>,
    /// Counts the bytes of the month.
    pub(super) meter: TrafficMeter,
    pub(super) dashboard: Dashboard,
    pub(super) page: PageFeed,
    /// Loss of this round's training, until the round is decided.
    pub(super) train_loss: Option<f64>,
    pub(super) _lock: FolderLock,
}

impl Daemon {
    /// Address of the page.
    pub fn page(&self) -> std::net::SocketAddr {
        self.settings.page.listen
    }

    /// Runs until `stop` becomes true, then tells the peers that this node leaves.
    ///
    /// # Errors
    /// When the node cannot continue. Everything that was decided is on disk.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<()> {
        // Not before: whoever sees the page may rely on a signal to end the node with a farewell.
        self.serve_page();
        self.context.disk.stop_with(stop.clone());
        if self.core.waits_to_hear() {
            self.page.say(Level::Warn, WAITS_TO_HEAR);
        }
        self.wait_for_sole_use().await?;
        self.step(Input::Start).await?;
        let gone = std::mem::take(&mut self.gone);
        if !gone.is_empty() {
            self.step(Input::Recover { gone }).await?;
        }
        self.begin_with_weights().await?;
        let outcome = self.handle_events(&mut stop).await;
        self.farewell(&outcome).await;
        outcome
    }

    fn serve_page(&mut self) {
        if let Some(port) = self.page_port.take() {
            serve_page(port, self.dashboard.clone());
        }
    }

    async fn handle_events(&mut self, stop: &mut watch::Receiver<bool>) -> Result<()> {
        let mut publish = tokio::time::interval(PUBLISH_EVERY);
        let mut status = tokio::time::interval(STATUS_EVERY);
        loop {
            let timer = self.timers.next();
            tokio::select! {
                biased;
                () = stopped(stop) => return Ok(()),
                Some(done) = self.jobs.join_next(), if !self.jobs.is_empty() => {
                    self.job_done(done).await?;
                }
                event = self.learner_events.recv() => self.learner_event(event).await?,
                () = until(timer), if timer.is_some() => self.fire_timers().await?,
                // Before gossip, so that a flood of it does not keep peers from what they missed.
                // One request at a time comes here.
                Ok(()) = self.key_use.changed() => self.check_sole_use()?,
                Some((round, answer)) = self.message_requests.recv() => {
                    // The peer that asked may be gone.
                    let _ = answer.send(self.core.round_messages(round, ROUND_MESSAGES_BYTES));
                }
                Some(event) = self.network_events.recv() => self.network_events(event).await?,
                _ = publish.tick() => self.publish(),
                _ = status.tick() => {
                    self.ask_status();
                    self.remember_peers();
                    self.check_next_weights();
                    self.call_if_alone().await;
                }
            }
        }
    }

    async fn farewell(&mut self, outcome: &Result<()>) {
        self.learner.stop(RoundNumber(u64::MAX - 1));
        if outcome.is_ok()
            && let Err(error) = self.step(Input::Leave).await
        {
            tracing::warn!("could not tell the peers that this node leaves: {error:#}");
        }
        self.remember_peers();
        tokio::time::sleep(FAREWELL).await;
        self.meter.finish();
        self.jobs.shutdown().await;
        self.network.clone().shutdown().await;
        self.dashboard.close();
    }

    /// Steps the core and carries out its outputs.
    pub(super) async fn step(&mut self, input: Input) -> Result<()> {
        let mut batch = Batch::default();
        self.add_step(&mut batch, input, None);
        self.finish(batch).await
    }

    /// Steps the core. The outputs wait in the batch. `gossip` is the message that the input is, if
    /// it came through gossip.
    pub(super) fn add_step(&mut self, batch: &mut Batch, input: Input, gossip: Option<GossipId>) {
        batch.add(self.core.step(self.timers.now(), input), gossip);
    }

    /// Carries out what waits in a batch, and what follows from it at once.
    pub(super) async fn finish(&mut self, mut batch: Batch) -> Result<()> {
        loop {
            let follow_ups = self.carry_out(batch).await?;
            if follow_ups.is_empty() {
                return Ok(());
            }
            batch = Batch::default();
            for input in follow_ups {
                self.add_step(&mut batch, input, None);
            }
        }
    }

    async fn fire_timers(&mut self) -> Result<()> {
        while let Some(id) = self.timers.pop_due() {
            self.step(Input::TimerFired(id)).await?;
        }
        Ok(())
    }

    fn ask_status(&mut self) {
        let peers = connected_peers(&self.network);
        if !peers.is_empty() {
            let peer = peers[rand::random_range(0..peers.len())];
            self.spawn(self.context.clone().request_status(peer));
        }
    }

    pub(super) fn spawn(
        &mut self,
        job: impl Future<Output = Done> + Send + 'static,
    ) -> AbortHandle {
        self.jobs.spawn(job)
    }

    /// Brings the page up to date.
    pub(super) fn publish(&mut self) {
        let status = self.network.status().borrow().clone();
        let view = self.core.view();
        let monthly_use = self.meter.monthly_use();
        self.page.tell_of_limit(monthly_use.message());
        let observed = Observed {
            core: &view,
            network: &status,
            learner: self.learner.progress(),
            health: self.learner.health(),
            link: self.link(&status).to_string(),
            weights_round: self.weights.round(),
            fetch: self.context.fetching.shown(),
            full_disk: self.context.disk.message(),
            monthly_use: &monthly_use,
        };
        self.dashboard.publish(self.page.snapshot(&observed));
    }

    /// The link that invites others: external addresses from the settings, then those this node
    /// listens on.
    fn link(&self, status: &network::Status) -> RunLink {
        let local = self.network.local();
        let external = &self.settings.network.external;
        let external = external.iter();
        let external = external.filter_map(|address| network::address_of(&local, address));
        RunLink {
            run: self.run,
            anchor: self.milestone,
            peers: addresses_to_give(external.collect(), &status.listen),
        }
    }
}

async fn until(timer: Option<Instant>) {
    match timer {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Once the sender is gone, only a signal that ends the process can stop this node.
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}
