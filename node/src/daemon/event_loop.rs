//! The event loop: it handles one event at a time.

use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use weal_coordinator_free::{Core, Input};
use weal_dashboard::Dashboard;
use weal_network::{self as network, GossipId, Network};
use weal_proto::{RoundNumber, RunId};

use super::current_weights::CurrentWeights;
use super::jobs::{Done, JobContext};
use super::own_contribution::OwnContribution;
use super::page::{Observed, PageFeed};
use super::service::{MessagesRequest, SharedPosition};
use super::timers::Timers;
use crate::error::Result;
use crate::folder::FolderLock;
use crate::learner::{LearnerEvent, LearnerHandle};
use crate::link::RunLink;
use crate::node_network::connected_peers;
use crate::settings::Settings;
use crate::store::Store;

/// How often the page is brought up to date while nothing else happens.
const PUBLISH_EVERY: Duration = Duration::from_millis(500);
/// How often the node asks a peer how far it is.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// Time a leaving node gives its last messages to reach a peer.
const FAREWELL: Duration = Duration::from_millis(300);
/// Bytes of a round's messages in one answer.
const MESSAGE_BYTES: usize = weal_proto::limits::RESPONSE_BYTES / 2;
/// Addresses in a run link.
const LINK_PEERS: usize = 4;

/// A running node.
pub struct Daemon {
    pub(super) run: RunId,
    pub(super) settings: Settings,
    /// The node does not train in this round or later ones.
    pub(super) last_round: Option<RoundNumber>,
    pub(super) core: Core,
    pub(super) timers: Timers,
    pub(super) store: Store,
    pub(super) network: Network,
    pub(super) network_events: mpsc::Receiver<network::Event>,
    pub(super) learner: LearnerHandle,
    pub(super) learner_events: mpsc::Receiver<LearnerEvent>,
    pub(super) message_requests: mpsc::Receiver<MessagesRequest>,
    pub(super) context: JobContext,
    pub(super) jobs: JoinSet<Done>,
    pub(super) position: SharedPosition,
    pub(super) weights: CurrentWeights,
    pub(super) own: OwnContribution,
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
        let weights = self.weights.newest().clone();
        self.step(Input::Start).await?;
        self.weights_ready(weights, false).await?;
        let outcome = self.handle_events(&mut stop).await;
        self.farewell(&outcome).await;
        outcome
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
                Some(event) = self.network_events.recv() => self.network_event(event).await?,
                Some((round, answer)) = self.message_requests.recv() => {
                    // The peer that asked may be gone.
                    let _ = answer.send(self.core.round_messages(round, MESSAGE_BYTES));
                }
                _ = publish.tick() => self.publish(),
                _ = status.tick() => self.ask_status(),
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
        tokio::time::sleep(FAREWELL).await;
        self.jobs.shutdown().await;
        self.network.clone().shutdown().await;
        self.dashboard.close();
    }

    /// Steps the core and carries out its outputs.
    pub(super) async fn step(&mut self, input: Input) -> Result<()> {
        self.step_for(input, None).await
    }

    /// The same for a message that came through gossip: its verdict goes back there.
    pub(super) async fn step_for(
        &mut self,
        input: Input,
        mut gossip: Option<GossipId>,
    ) -> Result<()> {
        let mut next = Some(input);
        while let Some(input) = next {
            let outputs = self.core.step(self.timers.now(), input);
            next = self.carry_out(outputs, gossip.take()).await?;
        }
        Ok(())
    }

    async fn fire_timers(&mut self) -> Result<()> {
        for id in self.timers.due() {
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

    pub(super) fn spawn(&mut self, job: impl Future<Output = Done> + Send + 'static) {
        self.jobs.spawn(job);
    }

    /// Brings the page up to date.
    pub(super) fn publish(&mut self) {
        let status = self.network.status().borrow().clone();
        let view = self.core.view();
        let observed = Observed {
            core: &view,
            network: &status,
            learner: self.learner.progress(),
            health: self.learner.health(),
            link: self.link(&status).to_string(),
            weights_round: Some(self.weights.round()),
        };
        self.dashboard.publish(self.page.snapshot(&observed));
    }

    /// The link that invites others: external addresses from the settings first, then those this
    /// node listens on, loopback last.
    fn link(&self, status: &network::Status) -> RunLink {
        let local = self.network.local();
        let external = self
            .settings
            .network
            .external
            .iter()
            .filter_map(|address| network::address_of(&local, address.clone()));
        let mut listen: Vec<Multiaddr> = status.listen.clone();
        listen.sort_by_key(|address| address.to_string().contains("/127.0.0.1/"));
        RunLink {
            run: self.run,
            peers: external.chain(listen).take(LINK_PEERS).collect(),
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
