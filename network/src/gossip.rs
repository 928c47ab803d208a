//! Gossip: small signed messages, flooded through a mesh. This node validates each message before
//! it forwards it.
//!
//! Messages carry no gossipsub author ([`MessageAuthenticity::Anonymous`]). Every message of a run
//! is already an envelope signed by its author; a second signature would cost each hop a check and
//! 100 bytes, and could name another author. The id of a message is the hash of its bytes, so the
//! same message spreads once, whoever sends it. A message that must spread again within
//! [`REMEMBERED`] has to differ in a byte.

use std::net::IpAddr;
use std::time::Duration;

use libp2p::PeerId;
use libp2p::gossipsub::{
    Behaviour, ConfigBuilder, IdentityTransform, Message, MessageAuthenticity, MessageId,
    PeerScoreParams, PeerScoreThresholds, TopicScoreParams, ValidationMode,
    WhitelistSubscriptionFilter,
};

use crate::error::Error;
use crate::protocols::Protocols;
use crate::settings::Settings;

/// How long a message id is remembered. Copies of the message are dropped during this time.
pub const REMEMBERED: Duration = Duration::from_secs(30);

/// Bytes of a gossip frame beside the message: topic and lengths.
const FRAME_OVERHEAD: usize = 1024;
/// Bytes of the BLAKE3 hash that make up a message id: 160 bits resist collisions.
const ID_BYTES: usize = 20;
/// Heartbeats (seconds) for which a message is kept: for peers that ask for it, and until this
/// node's verdict.
const HISTORY: usize = 12;
/// Heartbeats for which a message is announced to peers outside the mesh, so that late joiners
/// still get it.
const ANNOUNCED: usize = 8;
/// Peers in the mesh, to which a node sends its messages and forwards others'. In a small run that
/// is nearly everybody. In one of hundreds, sending to all connections would take half a minute,
/// because a proposal holds the attestations of all voters.
const MESH: usize = 8;
/// With fewer peers than this in the mesh, a node adds some.
const LEAST_MESH: usize = 6;
/// With more peers than this in the mesh, a node drops some.
const MOST_MESH: usize = 12;
/// Peers in the mesh that this node dialled itself, so that whoever dials it often cannot fill the
/// mesh.
const DIALLED_MESH: usize = 4;
/// Messages that may wait for one slow peer.
const QUEUE_PER_PEER: usize = 512;

/// Peers with one IP address before gossipsub lowers their scores. A household or laboratory behind
/// one router is not an attack.
const PEERS_PER_ADDRESS: f64 = 32.0;
/// Score for the first rejected message. The penalty grows with the square of the count.
const REJECTED: f64 = -20.0;
/// Below this score we announce no messages to the peer. One rejected message is not enough.
const NO_GOSSIP_BELOW: f64 = -40.0;
/// Below this score we send the peer none of our own messages: two rejected messages.
const NO_PUBLISH_BELOW: f64 = -70.0;
/// Below this score we ignore everything from the peer: three rejected messages.
const IGNORED_BELOW: f64 = -120.0;
/// Decay per second of the count of rejected messages: it halves in 140 s.
const REJECTED_DECAY: f64 = 0.995;

/// Identifies a gossip message that waits for this node's [`GossipVerdict`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GossipId {
    pub(crate) message: MessageId,
    pub(crate) source: PeerId,
}

/// Whether a gossip message is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GossipVerdict {
    /// The message is valid: forward it.
    Accept,
    /// The message is useless or cannot be checked, for example because its round is over or its
    /// author is unknown: drop it without a penalty.
    Ignore,
    /// The message breaks the rules: drop it, and penalise every peer that sent it.
    Reject,
}

/// Gossipsub that remembers subscriptions to the run's topic only. Peers could otherwise fill the
/// memory with names of topics.
pub(crate) type Gossip = Behaviour<IdentityTransform, WhitelistSubscriptionFilter>;

pub(crate) fn behaviour(protocols: &Protocols, settings: &Settings) -> Result<Gossip, Error> {
    let setup = |why: String| Error::Setup {
        part: "gossip",
        why,
    };
    let config = ConfigBuilder::default()
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(|message: &Message| {
            MessageId::new(blake3::hash(&message.data).as_bytes().split_at(ID_BYTES).0)
        })
        .max_transmit_size(settings.max_gossip_bytes + FRAME_OVERHEAD)
        .duplicate_cache_time(REMEMBERED)
        .heartbeat_interval(Duration::from_secs(1))
        .heartbeat_initial_delay(Duration::from_millis(200))
        .history_length(HISTORY)
        .history_gossip(ANNOUNCED)
        .flood_publish(false)
        .mesh_n(MESH)
        .mesh_n_low(LEAST_MESH)
        .mesh_n_high(MOST_MESH)
        .mesh_outbound_min(DIALLED_MESH)
        .connection_handler_queue_len(QUEUE_PER_PEER)
        .publish_queue_duration(Duration::from_secs(10))
        .forward_queue_duration(Duration::from_secs(5))
        .prune_backoff(Duration::from_secs(15))
        .build()
        .map_err(|e| setup(e.to_string()))?;
    let topics = WhitelistSubscriptionFilter([protocols.topic.hash()].into());
    let mut gossip =
        Gossip::new_with_subscription_filter(MessageAuthenticity::Anonymous, config, topics)
            .map_err(|e| setup(e.into()))?;
    gossip
        .with_peer_score(scores(protocols), thresholds())
        .map_err(setup)?;
    gossip
        .subscribe(&protocols.topic)
        .map_err(|e| setup(e.to_string()))?;
    Ok(gossip)
}

/// Scores weigh bad messages heavily and good ones little, so that a peer cannot earn credit and
/// spend it on bad messages. Nobody has to deliver messages: a run may be silent for a whole round.
fn scores(protocols: &Protocols) -> PeerScoreParams {
    let topic = TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.01,
        time_in_mesh_quantum: Duration::from_secs(1),
        time_in_mesh_cap: 300.0,
        first_message_deliveries_weight: 0.1,
        first_message_deliveries_decay: 0.95,
        first_message_deliveries_cap: 50.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        invalid_message_deliveries_weight: REJECTED,
        invalid_message_deliveries_decay: REJECTED_DECAY,
        ..TopicScoreParams::default()
    };
    PeerScoreParams {
        topics: [(protocols.topic.hash(), topic)].into(),
        topic_score_cap: 10.0,
        app_specific_weight: 1.0,
        ip_colocation_factor_weight: -1.0,
        ip_colocation_factor_threshold: PEERS_PER_ADDRESS,
        ip_colocation_factor_whitelist: [
            IpAddr::from([127, 0, 0, 1]),
            IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
        ]
        .into(),
        slow_peer_threshold: 50.0,
        ..PeerScoreParams::default()
    }
}

fn thresholds() -> PeerScoreThresholds {
    PeerScoreThresholds {
        gossip_threshold: NO_GOSSIP_BELOW,
        publish_threshold: NO_PUBLISH_BELOW,
        graylist_threshold: IGNORED_BELOW,
        accept_px_threshold: 1000.0,
        opportunistic_graft_threshold: 1.0,
    }
}

#[cfg(test)]
mod tests {
    use libp2p::gossipsub::IdentTopic;

    use super::*;

    #[test]
    fn gossipsub_accepts_the_parameters() {
        let protocols = Protocols::of_run(&[0; 32]).unwrap();
        scores(&protocols).validate().unwrap();
        thresholds().validate().unwrap();
        behaviour(&protocols, &Settings::default()).unwrap();
    }

    #[test]
    fn only_the_topic_of_the_run_is_remembered() {
        let protocols = Protocols::of_run(&[0; 32]).unwrap();
        let mut gossip = behaviour(&protocols, &Settings::default()).unwrap();
        let other = IdentTopic::new("x".repeat(1 << 20));
        assert!(gossip.subscribe(&other).is_err());
    }

    #[test]
    fn a_peer_is_ignored_after_three_rejected_messages() {
        let cost = |count: f64| REJECTED * count * count;
        assert!(cost(1.0) > NO_GOSSIP_BELOW);
        assert!(cost(2.0) < NO_PUBLISH_BELOW && cost(2.0) > IGNORED_BELOW);
        assert!(cost(3.0) < IGNORED_BELOW);
    }
}
