//! The daemon: a thin ring of I/O round the pure core.
//!
//! One task owns everything that changes ([`Daemon`]) and does one thing at a time: it takes what
//! happened, steps the core, and carries out what the core asks for, in its order. Whatever takes
//! long runs elsewhere and comes back as an event: training on the learner's thread, jobs on
//! tokio's threads, the network in its own task.
//!
//! ```text
//!   network events ─┐                      ┌─► store (before anything else)
//!   learner events ─┼─► Core::step(input) ─┼─► network: gossip, verdicts
//!   jobs done ──────┤                      ├─► learner: train, stop, evaluate
//!   timers ─────────┘                      └─► jobs: fetch, apply, ask
//! ```

mod jobs;
mod open;
mod outputs;
mod own;
mod page;
mod service;
#[cfg(test)]
mod tests;
mod timers;

use std::collections::VecDeque;
use std::time::Duration;

use libp2p::Multiaddr;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use weal_coordinator_free::{Core, Input, MessageId};
use weal_dashboard::{Dashboard, Level};
use weal_proto::{Envelope, Message, RoundNumber, RunId, Verdict};

use crate::error::{Error, Result};
use crate::folder::FolderLock;
use crate::learner::{LearnerEvent, LearnerHandle};
use crate::link::RunLink;
use crate::settings::Settings;
use crate::store::Store;
use crate::store::weights::Weights;
use weal_network::{self as network, GossipId, Network};

use jobs::{Done, Workshop};
use own::Own;
use page::{Page, Seen, unix_ms};
use service::{MessagesRequest, SharedPosition};
use timers::Timers;

pub use open::{Options, open};

/// How often the page is brought up to date while nothing else happens.
const PUBLISH_EVERY: Duration = Duration::from_millis(500);
/// How often a peer is asked where it is.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// Gossip messages whose verdict may be outstanding.
const VERDICTS: usize = 4096;
/// Names messages that did not come through gossip, and need no verdict.
const NO_VERDICT: MessageId = MessageId(0);
/// Time a leaving node gives its last messages to reach somebody.
const FAREWELL: Duration = Duration::from_millis(300);

/// A running node.
pub struct Daemon {
    run: RunId,
    settings: Settings,
    last_round: Option<RoundNumber>,
    core: Core,
    timers: Timers,
    store: Store,
    network: Network,
    network_events: mpsc::Receiver<network::Event>,
    learner: LearnerHandle,
    learner_events: mpsc::Receiver<LearnerEvent>,
    messages: mpsc::Receiver<MessagesRequest>,
    workshop: Workshop,
    jobs: JoinSet<Done>,
    position: SharedPosition,
    weights: Weights,
    own: Own,
    verdicts: VecDeque<(MessageId, GossipId)>,
    next_message: u64,
    dashboard: Dashboard,
    board: Page,
    train_loss: Option<f64>,
    /// A round that was to be trained in, and is not.
    skipped: Option<RoundNumber>,
    _lock: FolderLock,
}

impl Daemon {
    /// Runs until `stop` says so, then leaves the run politely.
    ///
    /// # Errors
    /// When the node cannot go on; everything that was decided is on disk.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<()> {
        let weights = self.weights.clone();
        self.step(Input::Start).await?;
        self.weights_ready(weights, false).await?;
        let mut publish = tokio::time::interval(PUBLISH_EVERY);
        let mut status = tokio::time::interval(STATUS_EVERY);
        let outcome = loop {
            let timer = self.timers.next();
            let next = tokio::select! {
                biased;
                () = stopped(&mut stop) => break Ok(()),
                Some(done) = self.jobs.join_next(), if !self.jobs.is_empty() => self.job_done(done).await,
                event = self.learner_events.recv() => self.learner_told(event).await,
                () = until(timer), if timer.is_some() => self.fire_timers().await,
                Some(event) = self.network_events.recv() => self.network_told(event).await,
                Some((round, answer)) = self.messages.recv() => {
                    // The one who asked may have gone.
                    let _ = answer.send(self.core.round_messages(round));
                    Ok(())
                }
                _ = publish.tick() => { self.publish(); Ok(()) }
                _ = status.tick() => { self.ask_status(); Ok(()) }
            };
            if let Err(error) = next {
                break Err(error);
            }
        };
        self.farewell(&outcome).await;
        outcome
    }

    async fn farewell(&mut self, outcome: &Result<()>) {
        self.learner.stop(RoundNumber(u64::MAX - 1));
        if outcome.is_ok()
            && let Err(error) = self.step(Input::Leave).await
        {
            tracing::warn!(%error, "could not say goodbye");
        }
        tokio::time::sleep(FAREWELL).await;
        self.jobs.shutdown().await;
        self.network.clone().shutdown().await;
        self.dashboard.close();
    }

    /// Steps the core and carries out what it asks for.
    async fn step(&mut self, input: Input) -> Result<()> {
        let outputs = self.core.step(self.timers.now(), input);
        self.carry_out(outputs).await?;
        // A round that this node does not train in is known at once, so that nobody waits for it.
        if let Some(round) = self.skipped.take() {
            let outputs = self
                .core
                .step(self.timers.now(), Input::TrainingFailed { round });
            self.carry_out(outputs).await?;
        }
        Ok(())
    }

    async fn fire_timers(&mut self) -> Result<()> {
        for id in self.timers.due() {
            self.step(Input::TimerFired(id)).await?;
        }
        Ok(())
    }

    async fn network_told(&mut self, event: network::Event) -> Result<()> {
        use network::Event;
        match event {
            Event::Gossip { id, bytes, .. } => self.gossip_arrived(id, &bytes).await?,
            Event::Connected { peer, address } => {
                self.page.say(
                    Level::Info,
                    format!("connected to {}", weal_proto::PeerId::from(peer).short()),
                );
                if let Err(error) = self
                    .store
                    .remember_peer(&address.to_string(), unix_ms() / 1000)
                {
                    tracing::warn!(%error, "a peer's address could not be saved");
                }
                self.spawn(self.workshop.clone().request_status(peer));
            }
            Event::Disconnected { peer } => {
                self.page.say(
                    Level::Info,
                    format!("lost {}", weal_proto::PeerId::from(peer).short()),
                );
            }
            Event::Listening { address } => self
                .board
                .say(Level::Info, format!("reachable at {address}")),
            Event::NotListening { address } => self
                .board
                .say(Level::Warn, format!("no longer reachable at {address}")),
            Event::Stranger { address, speaks } => {
                self.page.say(
                    Level::Debug,
                    format!("{address} is of another run ({speaks})"),
                );
            }
            Event::BootstrapFailed {
                address,
                why,
                retry_in,
            } => self.page.say(
                Level::Warn,
                format!(
                    "bootstrap peer {address} failed: {why}; tried again in {} s",
                    retry_in.as_secs()
                ),
            ),
            Event::Banned { peer, offence } => self.page.say(
                Level::Warn,
                format!(
                    "{} is shut out for a while: {offence:?}",
                    weal_proto::PeerId::from(peer).short()
                ),
            ),
        }
        Ok(())
    }

    async fn gossip_arrived(&mut self, id: GossipId, bytes: &[u8]) -> Result<()> {
        match Envelope::decode(bytes) {
            Ok(envelope) => {
                self.next_message += 1;
                let message = MessageId(self.next_message);
                if self.verdicts.len() >= VERDICTS {
                    self.verdicts.pop_front();
                }
                self.verdicts.push_back((message, id));
                self.step(Input::Received {
                    id: message,
                    envelope,
                })
                .await
            }
            Err(error) => {
                tracing::debug!(%error, "a gossip message is not an envelope");
                self.page.count_drop("not_an_envelope");
                self.network
                    .verdict(id, network::GossipVerdict::Reject)
                    .await;
                Ok(())
            }
        }
    }

    async fn learner_told(&mut self, event: Option<LearnerEvent>) -> Result<()> {
        // Rather a node that is started again than one that never trains any more.
        let event = event
            .ok_or_else(|| Error::Internal("the learner's thread ended unexpectedly".into()))?;
        match event {
            LearnerEvent::Trained(contributed) => {
                self.page.contributed(&contributed);
                self.train_loss = Some(contributed.mean_loss);
                let (round, blob) = (contributed.round, contributed.blob);
                self.own.made(round, blob);
                let (blob_bytes, samples) = (contributed.blob_bytes, contributed.samples);
                self.step(Input::Trained {
                    round,
                    blob,
                    blob_bytes,
                    samples,
                })
                .await?;
                self.evaluate();
                Ok(())
            }
            LearnerEvent::Failed { round, why } => {
                self.page.say(
                    Level::Warn,
                    format!("round {round}: no contribution: {why}"),
                );
                self.step(Input::TrainingFailed { round }).await
            }
            LearnerEvent::Fatal(error) => Err(error),
            LearnerEvent::DeviceLost { device, why, then } => {
                self.page
                    .say(Level::Error, format!("{device} was lost: {why}; {then}"));
                self.publish();
                Ok(())
            }
            LearnerEvent::DeviceReady { device } => {
                self.page
                    .say(Level::Info, format!("training goes on on {device}"));
                self.publish();
                Ok(())
            }
            LearnerEvent::Evaluated {
                round,
                nats_per_byte,
            } => {
                if let Some(record) = self.page.evaluated(round, nats_per_byte) {
                    self.save_record(&record)?;
                }
                self.publish();
                Ok(())
            }
        }
    }

    async fn job_done(&mut self, done: Result<Done, tokio::task::JoinError>) -> Result<()> {
        match done {
            Ok(Done::Validated {
                commitment,
                peer,
                refusal,
            }) => {
                let verdict = refusal
                    .as_ref()
                    .map_or(Verdict::Valid, |refusal| refusal.verdict);
                self.page.found(peer, refusal);
                self.step(Input::Validated {
                    commitment,
                    verdict,
                })
                .await
            }
            Ok(Done::Weights(weights)) => self.weights_ready(weights, true).await,
            Ok(Done::ApplyFailed { round, why }) => {
                self.page.say(
                    Level::Warn,
                    format!("round {round} cannot be applied: {why}"),
                );
                self.step(Input::ApplyFailed { round }).await
            }
            Ok(Done::WeightsMissing(why)) => {
                self.page.say(Level::Warn, format!("{why}; trying again"));
                // The core then asks for the newest ones that are proven: those asked for may be
                // gone by now.
                self.step(Input::ApplyFailed {
                    round: self.weights.round,
                })
                .await
            }
            Ok(Done::Decided(decided)) => self.step(Input::Synced(decided)).await,
            Ok(Done::Messages(envelopes)) => {
                for envelope in envelopes {
                    self.step(Input::Received {
                        id: NO_VERDICT,
                        envelope,
                    })
                    .await?;
                }
                Ok(())
            }
            Ok(Done::Status(peer, status)) => self.step(Input::PeerStatus { peer, status }).await,
            Ok(Done::Nothing) => Ok(()),
            Ok(Done::Fatal(error)) => Err(error),
            // The core waits for an answer that will never come.
            Err(error) => Err(Error::Internal(format!(
                "a job ended unexpectedly: {error}"
            ))),
        }
    }

    fn ask_status(&mut self) {
        let peers: Vec<_> = self
            .network
            .status()
            .borrow()
            .peers
            .iter()
            .map(|peer| peer.peer)
            .collect();
        if !peers.is_empty() {
            let peer = peers[rand::random_range(0..peers.len())];
            self.spawn(self.workshop.clone().request_status(peer));
        }
    }

    fn spawn(&mut self, job: impl Future<Output = Done> + Send + 'static) {
        self.jobs.spawn(job);
    }

    fn save_record(&self, record: &weal_dashboard::RoundRecord) -> Result<()> {
        match serde_json::to_vec(record) {
            Ok(json) => self.store.put_history(record.round, &json),
            Err(error) => {
                tracing::warn!(%error, "a round's record could not be written");
                Ok(())
            }
        }
    }

    fn publish(&mut self) {
        let status = self.network.status().borrow().clone();
        let view = self.core.view();
        let seen = Seen {
            core: &view,
            network: &status,
            learner: self.learner.progress(),
            health: self.learner.health(),
            link: self.link(&status).to_string(),
            weights_round: Some(self.weights.round),
        };
        self.dashboard.publish(self.page.snapshot(&seen));
    }

    /// How others are invited: settled addresses first, then where this node listens, loopback
    /// last.
    fn link(&self, status: &network::Status) -> RunLink {
        let local = self.network.local();
        let external = self
            .settings
            .network
            .external
            .iter()
            .filter_map(|a| network::address_of(&local, a.clone()));
        let mut listen: Vec<Multiaddr> = status.listen.clone();
        listen.sort_by_key(|address| address.to_string().contains("/127.0.0.1/"));
        RunLink {
            run: self.run,
            peers: external.chain(listen).take(4).collect(),
        }
    }
}

async fn until(timer: Option<std::time::Instant>) {
    match timer {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // When the sender is gone nobody can stop this node any more but a signal that ends the
    // process.
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}
