//! Publishes gossip, and passes verdicts on to gossipsub.

use std::mem;
use std::time::Instant;

use libp2p::bytes::Bytes;
use libp2p::gossipsub::{self, Message, MessageAcceptance, PublishError};

use super::task::Driver;
use crate::event::Event;
use crate::gossip::{GossipId, GossipVerdict};
use crate::identity::peer_key;
use crate::reputation::Offence;

/// Limit on messages kept while no peer is connected. Beyond it the oldest is dropped.
const EARLY_GOSSIP: usize = 128;

impl Driver {
    pub(super) fn publish(&mut self, bytes: Bytes) {
        let topic = self.protocols.topic.clone();
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        match gossip.publish(topic, bytes.clone()) {
            Ok(_) => {}
            Err(PublishError::NoPeersSubscribedToTopic) => {
                self.early_gossip.push_back(bytes);
                if self.early_gossip.len() > EARLY_GOSSIP {
                    self.early_gossip.pop_front();
                    self.counters.gossip_without_peers.one();
                }
            }
            Err(PublishError::Duplicate) => self.counters.gossip_repeated.one(),
            Err(PublishError::MessageTooLarge) => self.counters.gossip_too_large.one(),
            Err(PublishError::AllQueuesFull(_)) => self.counters.gossip_peers_slow.one(),
            Err(error) => tracing::error!("cannot publish a gossip message: {error}"),
        }
    }

    /// Passes on the node's verdict, and notices peers that send useless messages on purpose.
    pub(super) fn judged(&mut self, id: &GossipId, verdict: GossipVerdict) {
        self.report_verdict(id, verdict);
        if verdict == GossipVerdict::Ignore && self.noise.heard(id.source, Instant::now()) {
            self.offended(id.source, Offence::Noise);
        }
    }

    fn report_verdict(&mut self, id: &GossipId, verdict: GossipVerdict) {
        let acceptance = match verdict {
            GossipVerdict::Accept => MessageAcceptance::Accept,
            GossipVerdict::Ignore => MessageAcceptance::Ignore,
            GossipVerdict::Reject => MessageAcceptance::Reject,
        };
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        if !gossip.report_message_validation_result(&id.message, &id.source, acceptance) {
            self.counters.verdicts_late.one();
        }
    }

    pub(super) fn on_gossip(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            } => {
                let Message { data, .. } = message;
                if let Some(from) = peer_key(&propagation_source) {
                    let id = GossipId {
                        message: message_id,
                        source: propagation_source,
                    };
                    self.tell(Event::Gossip {
                        id,
                        from,
                        bytes: data.into(),
                    });
                }
            }
            gossipsub::Event::Subscribed { topic, .. } if topic == self.protocols.topic.hash() => {
                for bytes in mem::take(&mut self.early_gossip) {
                    self.publish(bytes);
                }
            }
            gossipsub::Event::SlowPeer {
                failed_messages, ..
            } => {
                self.counters
                    .gossip_to_slow_peers
                    .add((failed_messages.priority + failed_messages.non_priority) as u64);
            }
            _ => {}
        }
    }

    /// Tells the node of an event. Ignores a gossip message for which the queue has no space.
    pub(super) fn tell(&mut self, event: Event) {
        if let Some(unread) = self.events.push(event) {
            self.report_verdict(&unread, GossipVerdict::Ignore);
        }
    }
}
