//! What happened, turned into inputs for the core and lines on the page.

use tokio::task::JoinError;
use weal_coordinator_free::Input;
use weal_dashboard::{Level, RoundRecord};
use weal_network::{Event, GossipId, GossipVerdict, PeerKey};
use weal_proto::{Envelope, Message, PeerId, Verdict};

use super::batch::{Batch, MESSAGES};
use super::event_loop::Daemon;
use super::jobs::Done;
use crate::error::{Error, Result};
use crate::learner::{Contributed, LearnerEvent};
use crate::node_network::connected_peers;

impl Daemon {
    /// Handles an event, and those that have happened meanwhile. The messages among them are
    /// stored in one transaction.
    pub(super) async fn network_events(&mut self, first: Event) -> Result<()> {
        let mut batch = Batch::default();
        let mut next = Some(first);
        while let Some(event) = next {
            match event {
                Event::Gossip { id, bytes, .. } => {
                    self.gossip_arrived(&mut batch, id, &bytes).await;
                }
                event => self.network_event(event),
            }
            next = if batch.is_full() {
                None
            } else {
                self.network_events.try_recv()
            };
        }
        self.finish(batch).await
    }

    fn network_event(&mut self, event: Event) {
        match event {
            Event::Gossip { .. } => {}
            Event::Connected { peer, address } => {
                self.say_of(peer, "connected to");
                self.met_peer(peer, &address);
                self.spawn(self.context.clone().request_status(peer));
                self.request_what_gossip_lost(peer);
            }
            Event::Disconnected { peer } => {
                self.say_of(peer, "disconnected from");
            }
            Event::Listening { address } => {
                self.page
                    .say(Level::Info, format!("reachable at {address}"));
            }
            Event::NotListening { address } => {
                self.page
                    .say(Level::Warn, format!("no longer reachable at {address}"));
            }
            Event::Stranger { address, speaks } => self.page.say_of_stranger(
                Level::Debug,
                format!("{address} takes part in another run ({speaks})"),
            ),
            Event::BootstrapFailed {
                address,
                why,
                retry_in,
            } => self.page.say(
                // Among other peers, one that is gone is no news.
                match connected_peers(&self.network).is_empty() {
                    true => Level::Warn,
                    false => Level::Debug,
                },
                format!(
                    "bootstrap peer {address} cannot be reached: {why}; retrying in {} s",
                    retry_in.as_secs()
                ),
            ),
            Event::Banned { peer, offence } => self.page.say_of_stranger(
                Level::Warn,
                format!(
                    "blocking {} for ten minutes: {offence:?}",
                    PeerId::from(peer).short()
                ),
            ),
        }
    }

    /// While a member was not connected, gossip of it may have reached nobody.
    fn request_what_gossip_lost(&mut self, peer: PeerKey) {
        if self.is_member(peer.into()) {
            let round = self.core.chain().round();
            self.spawn(self.context.clone().request_messages(peer, round));
        }
    }

    /// Adds a line on a connection. Strangers decide how often they connect.
    fn say_of(&mut self, peer: PeerKey, what: &str) {
        let peer = PeerId::from(peer);
        let text = format!("{what} {}", peer.short());
        match self.is_member(peer) {
            true => self.page.say(Level::Info, text),
            false => self.page.say_of_stranger(Level::Info, text),
        }
    }

    async fn gossip_arrived(&mut self, batch: &mut Batch, id: GossipId, bytes: &[u8]) {
        match Envelope::decode(bytes) {
            Ok(envelope) => self.add_step(batch, Input::Received(envelope), Some(id)),
            Err(error) => {
                tracing::debug!("a gossip message is not an envelope: {error}");
                self.page.count_drop("not_an_envelope");
                self.network.verdict(id, GossipVerdict::Reject).await;
            }
        }
    }

    pub(super) async fn learner_event(&mut self, event: Option<LearnerEvent>) -> Result<()> {
        // A supervisor can restart a node that exits, but not one that never trains again.
        let event = event.ok_or_else(|| Error::internal("the learner's thread has ended"))?;
        match event {
            LearnerEvent::Trained(contributed) => self.contributed(&contributed).await,
            LearnerEvent::Failed { round, why } => {
                let text = format!("round {round}: no contribution: {why}");
                self.page.say(Level::Warn, text);
                self.step(Input::TrainingFailed { round }).await
            }
            LearnerEvent::Fatal(error) => Err(error),
            LearnerEvent::DeviceLost { device, why, then } => {
                let text = format!("{device} was lost: {why}; {then}");
                self.page.say(Level::Error, text);
                self.publish();
                Ok(())
            }
            LearnerEvent::DeviceReady { device } => {
                let text = format!("training continues on {device}");
                self.page.say(Level::Info, text);
                self.publish();
                Ok(())
            }
            LearnerEvent::Judged { round, scores } => {
                self.step(Input::Judged { round, scores }).await
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

    async fn contributed(&mut self, contributed: &Contributed) -> Result<()> {
        self.page.contributed(contributed);
        self.train_loss = Some(contributed.mean_loss);
        self.own.made(contributed.round, contributed.blob);
        self.own_work = Some((contributed.round, contributed.own_work.clone()));
        self.step(Input::Trained {
            round: contributed.round,
            blob: contributed.blob,
            blob_bytes: contributed.blob_bytes,
            samples: contributed.samples,
        })
        .await?;
        self.evaluate();
        Ok(())
    }

    pub(super) async fn job_done(&mut self, done: Result<Done, JoinError>) -> Result<()> {
        // The job of a round that is decided was ended.
        if done.as_ref().is_err_and(JoinError::is_cancelled) {
            return Ok(());
        }
        // The core waits for this answer. Without it the node would hang.
        let done =
            done.map_err(|error| Error::internal("a job ended unexpectedly").caused_by(error))?;
        match done {
            Done::Examined {
                commitment,
                peer,
                refusal,
            } => {
                let verdict = refusal
                    .as_ref()
                    .map_or(Verdict::Valid, |refusal| refusal.verdict);
                // What this node may not fetch is no fault of the peer's.
                if refusal.is_none() || !self.meter.monthly_use().is_used_up() {
                    self.page.examined(peer, refusal);
                }
                self.step(Input::Validated {
                    commitment,
                    verdict,
                })
                .await
            }
            Done::Compared { round, signals } => {
                self.step(Input::Compared { round, signals }).await
            }
            Done::Weights(weights, durability) => self.new_weights(weights, durability).await,
            Done::Initial(weights) => self.initial_weights(weights).await,
            Done::ApplyFailed { round, why } => {
                self.say_of_fetch(format!("round {round} cannot be applied: {why}"));
                self.step(Input::ApplyFailed { round }).await
            }
            Done::Fetched(fetched) => self.fetched(fetched).await,
            Done::NotRepaired(why) => self.not_repaired(&why).await,
            Done::Checked(checked) => self.checked_weights(checked),
            Done::WeightsMissing(why) => {
                self.say_of_fetch(format!("{why}; retrying"));
                // The core then asks for the same again, or for others. Those it asked for before
                // may be deleted everywhere by now.
                let round = self.weights.round().unwrap_or_default();
                self.step(Input::ApplyFailed { round }).await
            }
            Done::Decided(decided) => self.step(Input::Synced(decided)).await,
            Done::Messages(envelopes) => {
                let mut envelopes = envelopes.into_iter().peekable();
                while envelopes.peek().is_some() {
                    let mut batch = Batch::default();
                    for envelope in envelopes.by_ref().take(MESSAGES) {
                        self.add_step(&mut batch, Input::Received(envelope), None);
                    }
                    self.finish(batch).await?;
                }
                Ok(())
            }
            Done::Status(peer, status) => self.step(Input::PeerStatus { peer, status }).await,
            Done::Ticket(ticket) => self.step(Input::TicketFound(ticket)).await,
            Done::Nothing => Ok(()),
            Done::Fatal(error) => Err(error),
        }
    }

    /// Adds a line on a fetch that failed. While a limit of the month is used up, all of them do.
    fn say_of_fetch(&mut self, text: String) {
        if self.meter.monthly_use().is_used_up() {
            tracing::debug!("{text}");
        } else {
            self.page.say(Level::Warn, text);
        }
    }

    /// Stores what the page shows of a round.
    pub(super) fn save_record(&self, record: &RoundRecord) -> Result<()> {
        match serde_json::to_vec(record) {
            Ok(json) => self.store.put_history(record.round, &json),
            Err(error) => {
                tracing::warn!("the record of round {} is lost: {error}", record.round);
                Ok(())
            }
        }
    }
}
