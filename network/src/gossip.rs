//! Gossip: small signed messages, flooded through a mesh, validated by this node before it forwards
//! them.
//!
//! Messages carry no author of gossipsub's own ([`MessageAuthenticity::Anonymous`], validated as
//! such). Every message of a run is an envelope signed by its author already; a second signature
//! would cost each hop a check and 100 bytes, and its author field could contradict the envelope's.
//! A message's id is the hash of its bytes, so the same message spreads once, whoever sends it; a
//! message that must spread again within [`REMEMBERED`] has to differ in a byte.

use std::net::IpAddr;
use std::time::Duration;

use libp2p::PeerId;
use libp2p::gossipsub::{
    Behaviour, ConfigBuilder, Message, MessageAuthenticity, MessageId, PeerScoreParams,
    PeerScoreThresholds, TopicScoreParams, ValidationMode,
};

use super::identity::Protocols;
use super::{Error, Settings};

/// For how long the id of a message is remembered, and copies of it are dropped.
pub const REMEMBERED: Duration = Duration::from_secs(30);

/// Bytes of a gossip frame besides the message: topic, lengths.
const FRAME_OVERHEAD: usize = 1024;
/// What a message's id takes of its BLAKE3 hash: nobody finds two with the same 160 bits.
const ID_BYTES: usize = 20;
/// Heartbeats (seconds) for which a message is kept, for peers that ask for it and until this
/// node's verdict.
const HISTORY: usize = 12;
/// Heartbeats for which a message is announced to peers outside the mesh: who joins late still gets
/// it.
const ANNOUNCED: usize = 8;
/// Messages that may wait for one slow peer.
const QUEUE_PER_PEER: usize = 512;

/// Peers from one address before they weigh on each other: a household or a laboratory behind one
/// router is honest.
const PEERS_PER_ADDRESS: f64 = 32.0;
/// What the first rejected message costs; the cost grows with the square of their number.
const REJECTED: f64 = -20.0;
/// Below this a peer is told of no messages; one rejected message alone does not lead here.
const NO_GOSSIP_BELOW: f64 = -40.0;
/// Below this this node's own messages are not sent to it: two rejected messages.
const NO_PUBLISH_BELOW: f64 = -70.0;
/// Below this nothing from it is read any more: three rejected messages.
const IGNORED_BELOW: f64 = -120.0;
/// Kept of the count of rejected messages from second to second: half is forgotten after 140 s.
const REJECTED_KEPT: f64 = 0.995;

/// Names a gossip message that waits for this node's [`Verdict`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GossipId {
    pub(super) message: MessageId,
    pub(super) source: PeerId,
}

/// What becomes of a gossip message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is valid: forward it.
    Accept,
    /// It is of no use, or cannot be judged (of a past round, of an unknown peer): drop it, and
    /// blame nobody.
    Ignore,
    /// It breaks the rules: drop it, and count it against every peer that sent it.
    Reject,
}

pub(super) fn behaviour(protocols: &Protocols, settings: &Settings) -> Result<Behaviour, Error> {
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
        .flood_publish(true)
        .connection_handler_queue_len(QUEUE_PER_PEER)
        .publish_queue_duration(Duration::from_secs(10))
        .forward_queue_duration(Duration::from_secs(5))
        .prune_backoff(Duration::from_secs(15))
        .build()
        .map_err(|e| setup(e.to_string()))?;
    let mut gossip =
        Behaviour::new(MessageAuthenticity::Anonymous, config).map_err(|e| setup(e.into()))?;
    gossip
        .with_peer_score(scores(protocols), thresholds())
        .map_err(setup)?;
    gossip
        .subscribe(&protocols.topic)
        .map_err(|e| setup(e.to_string()))?;
    Ok(gossip)
}

/// Scores count what is wrong, and little of what is right: a peer that earned much must not be
/// able to spend it on bad messages. Deliveries are not demanded of anybody; a run may be silent
/// for a whole round.
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
        invalid_message_deliveries_decay: REJECTED_KEPT,
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
    use super::*;

    #[test]
    fn the_parameters_pass_gossipsubs_own_checks() {
        let protocols = Protocols::of_run(&[0; 32]).unwrap();
        scores(&protocols).validate().unwrap();
        thresholds().validate().unwrap();
        behaviour(&protocols, &Settings::default()).unwrap();
    }

    #[test]
    fn the_third_rejected_message_silences_a_peer() {
        let cost = |count: f64| REJECTED * count * count;
        assert!(cost(1.0) > NO_GOSSIP_BELOW);
        assert!(cost(2.0) < NO_PUBLISH_BELOW && cost(2.0) > IGNORED_BELOW);
        assert!(cost(3.0) < IGNORED_BELOW);
    }
}
