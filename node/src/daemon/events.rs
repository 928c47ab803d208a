//! What happened, turned into inputs for the core and lines on the page.

use tokio::task::JoinError;
use weal_coordinator_free::Input;
use weal_dashboard::{Level, RoundRecord};
use weal_network::{Event, GossipId, GossipVerdict};
use weal_proto::{Envelope, Message, PeerId, Verdict};

use super::event_loop::Daemon;
use super::jobs::Done;
use super::page::unix_ms;
use crate::error::{Error, Result};
use crate::learner::{Contributed, LearnerEvent};

impl Daemon {
    pub(super) async fn network_event(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Gossip { id, bytes, .. } => return self.gossip_arrived(id, &bytes).await,
            Event::Connected { peer, address } => {
                let name = PeerId::from(peer).short();
                self.page.say(Level::Info, format!("connected to {name}"));
                let address = address.to_string();
                if let Err(error) = self.store.remember_peer(&address, unix_ms() / 1000) {
                    tracing::warn!("the address of {name} could not be saved: {error:#}");
                }
                self.spawn(self.context.clone().request_status(peer));
            }
            Event::Disconnected { peer } => {
                let name = PeerId::from(peer).short();
                self.page
                    .say(Level::Info, format!("disconnected from {name}"));
            }
            Event::Listening { address } => {
                self.page
                    .say(Level::Info, format!("reachable at {address}"));
            }
            Event::NotListening { address } => {
                self.page
                    .say(Level::Warn, format!("no longer reachable at {address}"));
            }
            Event::Stranger { address, speaks } => self.page.say(
                Level::Debug,
                format!("{address} takes part in another run ({speaks})"),
            ),
            Event::BootstrapFailed {
                address,
                why,
                retry_in,
            } => self.page.say(
                Level::Warn,
                format!(
                    "bootstrap peer {address} cannot be reached: {why}; retrying in {} s",
                    retry_in.as_secs()
                ),
            ),
            Event::Banned { peer, offence } => self.page.say(
                Level::Warn,
                format!(
                    "blocking {} for ten minutes: {offence:?}",
                    PeerId::from(peer).short()
                ),
            ),
        }
        Ok(())
    }

    async fn gossip_arrived(&mut self, id: GossipId, bytes: &[u8]) -> Result<()> {
        match Envelope::decode(bytes) {
            Ok(envelope) => self.step_for(Input::Received(envelope), Some(id)).await,
            Err(error) => {
                tracing::debug!("a gossip message is not an envelope: {error}");
                self.page.count_drop("not_an_envelope");
                self.network.verdict(id, GossipVerdict::Reject).await;
                Ok(())
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
                self.page.examined(peer, refusal);
                self.step(Input::Validated {
                    commitment,
                    verdict,
                })
                .await
            }
            Done::Weights(weights) => self.weights_ready(weights, true).await,
            Done::ApplyFailed { round, why } => {
                let text = format!("round {round} cannot be applied: {why}");
                self.page.say(Level::Warn, text);
                self.step(Input::ApplyFailed { round }).await
            }
            Done::WeightsMissing(why) => {
                self.page.say(Level::Warn, format!("{why}; retrying"));
                // The core then asks for the newest proven weights. Those it asked for before may
                // be deleted everywhere by now.
                let round = self.weights.round();
                self.step(Input::ApplyFailed { round }).await
            }
            Done::Decided(decided) => self.step(Input::Synced(decided)).await,
            Done::Messages(envelopes) => {
                for envelope in envelopes {
                    self.step(Input::Received(envelope)).await?;
                }
                Ok(())
            }
            Done::Status(peer, status) => self.step(Input::PeerStatus { peer, status }).await,
            Done::Nothing => Ok(()),
            Done::Fatal(error) => Err(error),
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
