//! Which incoming connections are let in.
//!
//! Connections cost a handshake, a place, and memory for what waits unread. So the attempts and the
//! pending connections of an address block are limited before the handshake, when nobody knows who
//! comes; and after it, the connections of strangers by address block and in all. Members always
//! get in as long as there is a place: strangers never take them all.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};

use crate::identity::{PeerKey, peer_key};
use crate::limits::{ATTEMPTS, PENDING_PER_BLOCK, STRANGERS_PER_BLOCK, STRANGERS_THROUGH_RELAYS};
use crate::members::{Members, Standing};
use crate::origin::Origin;
use crate::quota::Buckets;
use crate::status::Counters;

/// Why a connection is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The address block tries too often.
    Attempts,
    /// Too many connections of the address block are being established.
    Pending,
    /// Strangers of the address block have enough connections.
    Block,
    /// Peers of the address block were banned.
    BannedBlock,
    /// Strangers have enough connections.
    Strangers,
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Attempts => "too many connection attempts from this address block",
            Self::Pending => "too many pending connections from this address block",
            Self::Block => "strangers from this address block have all their places",
            Self::BannedBlock => "peers from this address block were banned",
            Self::Strangers => "strangers have all their places",
        })
    }
}

impl std::error::Error for Refused {}

/// Lets connections in, or does not.
pub(crate) struct Gate {
    members: Arc<Members>,
    counters: Arc<Counters>,
    /// Places for connections that strangers open.
    strangers: usize,
    attempts: Buckets<Origin>,
    pending: HashMap<ConnectionId, Origin>,
    incoming: HashMap<ConnectionId, (Option<PeerKey>, Origin)>,
    banned: HashSet<Origin>,
}

impl Gate {
    /// A gate with this number of places for connections that strangers open.
    pub(crate) fn new(members: Arc<Members>, counters: Arc<Counters>, strangers: usize) -> Self {
        Self {
            members,
            counters,
            strangers,
            attempts: Buckets::new(ATTEMPTS),
            pending: HashMap::new(),
            incoming: HashMap::new(),
            banned: HashSet::new(),
        }
    }

    /// Lets no stranger in from an address block.
    pub(crate) fn ban(&mut self, block: Origin) {
        self.banned.insert(block);
    }

    /// A ban is over.
    pub(crate) fn unban(&mut self, block: &Origin) {
        self.banned.remove(block);
    }

    fn knocks(&mut self, origin: Origin, now: Instant) -> Result<(), Refused> {
        let pending = self.pending.values().filter(|other| **other == origin);
        if pending.count() >= PENDING_PER_BLOCK {
            return Err(Refused::Pending);
        }
        let in_time = !origin.is_internet() || self.attempts.bucket(origin, now).take(now);
        in_time.then_some(()).ok_or(Refused::Attempts)
    }

    fn enters(&self, key: Option<PeerKey>, origin: Origin) -> Result<(), Refused> {
        if !self.is_member(key) {
            let limit = match origin {
                Origin::Internet(_) => STRANGERS_PER_BLOCK,
                Origin::Relayed => STRANGERS_THROUGH_RELAYS,
                // What a proxy passes on comes from one such address.
                Origin::Local(_) => usize::MAX,
            };
            if self.banned.contains(&origin) {
                return Err(Refused::BannedBlock);
            }
            let others = self.incoming.values();
            let same = others.filter(|(key, other)| *other == origin && !self.is_member(*key));
            if same.count() >= limit {
                return Err(Refused::Block);
            }
        }
        if self.is_stranger(key) {
            let others = self.incoming.values();
            let strangers = others.filter(|(key, _)| self.is_stranger(*key));
            if strangers.count() >= self.strangers {
                return Err(Refused::Strangers);
            }
        }
        Ok(())
    }

    fn is_member(&self, key: Option<PeerKey>) -> bool {
        key.is_some_and(|key| self.members.is_member(&key))
    }

    /// As long as nobody knows the members, nobody is a stranger.
    fn is_stranger(&self, key: Option<PeerKey>) -> bool {
        key.is_none_or(|key| self.members.standing(&key) == Standing::Stranger)
    }

    fn denied(&self, refused: Refused) -> ConnectionDenied {
        match refused {
            Refused::Strangers => self.counters.strangers_full.one(),
            _ => self.counters.address_block_full.one(),
        }
        ConnectionDenied::new(refused)
    }
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let origin = Origin::of_incoming(local, remote);
        let knocks = self.knocks(origin, Instant::now());
        knocks.map_err(|refused| self.denied(refused))?;
        self.pending.insert(connection, origin);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending.remove(&connection);
        let (key, origin) = (peer_key(&peer), Origin::of_incoming(local, remote));
        let enters = self.enters(key, origin);
        enters.map_err(|refused| self.denied(refused))?;
        self.incoming.insert(connection, (key, origin));
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            // Another behaviour may refuse a connection that this one has let in.
            FromSwarm::ListenFailure(failed) => {
                self.pending.remove(&failed.connection_id);
                self.incoming.remove(&failed.connection_id);
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.incoming.remove(&closed.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::identity::keypair;

    const HERE: &str = "/ip4/9.9.9.9/tcp/7700";
    const STRANGERS: usize = 40;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    fn origin(text: &str) -> Origin {
        Origin::of(&address(text))
    }

    fn peer(seed: u8) -> PeerId {
        keypair([seed; 32]).unwrap().public().to_peer_id()
    }

    fn stranger() -> PeerId {
        let key = keypair(rand::random()).unwrap();
        key.public().to_peer_id()
    }

    /// A gate of a run in which peer 1 is the only member.
    fn gate() -> Gate {
        let members = Arc::new(Members::default());
        members.set(peer_key(&peer(1)));
        Gate::new(members, Arc::default(), STRANGERS)
    }

    fn connection(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    /// Connects a peer from an address. Returns whether it gets in.
    fn connect(gate: &mut Gate, number: usize, peer: PeerId, from: &str) -> bool {
        let (id, local, remote) = (connection(number), address(HERE), address(from));
        let entered = gate.handle_established_inbound_connection(id, peer, &local, &remote);
        entered.is_ok()
    }

    #[test]
    fn a_block_has_its_share_of_places_whatever_keys_it_makes() {
        let mut gate = gate();
        let from = |host: usize| format!("/ip4/8.8.8.{host}/tcp/1");
        let strangers = (0..2 * STRANGERS_PER_BLOCK)
            .filter(|number| connect(&mut gate, *number, stranger(), &from(*number)));
        assert_eq!(strangers.count(), STRANGERS_PER_BLOCK);
        assert_eq!(gate.counters.read().address_block_full, 16);
        assert!(connect(&mut gate, 100, stranger(), "/ip4/8.8.9.1/tcp/1"));
        assert!(connect(&mut gate, 101, peer(1), &from(1)), "a member");
    }

    #[test]
    fn strangers_of_many_blocks_leave_places_for_members() {
        let mut gate = gate();
        let from = |number: usize| format!("/ip4/8.8.{number}.1/tcp/1");
        let strangers = (0..2 * STRANGERS)
            .filter(|number| connect(&mut gate, *number, stranger(), &from(*number)));
        assert_eq!(strangers.count(), STRANGERS);
        for number in 100..110 {
            assert!(connect(&mut gate, number, peer(1), &from(1)));
        }
        // Who becomes a member takes no stranger's place any longer.
        let all = gate.incoming.values().filter_map(|(key, _)| *key);
        let all: Vec<_> = all.collect();
        gate.members.set(all);
        assert!(connect(&mut gate, 200, stranger(), &from(1)));
    }

    #[test]
    fn a_place_is_free_again_when_the_connection_ends() {
        let mut gate = gate();
        let endpoint = libp2p::core::ConnectedPoint::Listener {
            local_addr: address(HERE),
            send_back_addr: address("/ip4/8.8.8.1/tcp/1"),
        };
        for number in 0..10 * STRANGERS_PER_BLOCK {
            let stranger = stranger();
            assert!(connect(&mut gate, number, stranger, "/ip4/8.8.8.1/tcp/1"));
            gate.on_swarm_event(FromSwarm::ConnectionClosed(
                libp2p::swarm::behaviour::ConnectionClosed {
                    peer_id: stranger,
                    connection_id: connection(number),
                    endpoint: &endpoint,
                    cause: None,
                    remaining_established: 0,
                },
            ));
        }
    }

    #[test]
    fn half_open_connections_of_a_block_do_not_keep_others_out() {
        let mut gate = gate();
        let mut knock = |number: usize, from: &str| {
            let (id, local) = (connection(number), address(HERE));
            let knocked = gate.handle_pending_inbound_connection(id, &local, &address(from));
            knocked.is_ok()
        };
        for local in ["/ip4/127.0.0.1/tcp/1", "/ip4/8.8.8.1/tcp/1"] {
            let pending = (0..100).filter(|number| knock(*number, local)).count();
            assert_eq!(pending, PENDING_PER_BLOCK, "{local}");
        }
        assert!(knock(200, "/ip4/8.8.9.1/tcp/1"));
    }

    #[test]
    fn a_block_that_tries_all_the_time_pays_no_handshakes_with_them() {
        let (mut gate, start) = (gate(), Instant::now());
        let mut tries = |from: &str, now: Instant| {
            let tries = (0..1000).filter(|_| gate.knocks(origin(from), now).is_ok());
            tries.count()
        };
        assert_eq!(tries("/ip4/8.8.8.1/tcp/1", start), 32);
        assert_eq!(tries("/ip4/8.8.9.1/tcp/1", start), 32);
        let later = start + Duration::from_secs(5);
        assert_eq!(tries("/ip4/8.8.8.2/tcp/1", later), 5);
        // A proxy on this machine passes on the connections of everybody.
        assert_eq!(tries("/ip4/127.0.0.1/tcp/1", start), 1000);
    }

    #[test]
    fn a_banned_block_lets_only_members_in() {
        let mut gate = gate();
        gate.ban(origin("/ip4/8.8.8.1/tcp/1"));
        let stranger = stranger();
        assert!(!connect(&mut gate, 1, stranger, "/ip4/8.8.8.7/tcp/1"));
        assert!(connect(&mut gate, 2, peer(1), "/ip4/8.8.8.7/tcp/1"));
        gate.unban(&origin("/ip4/8.8.8.1/tcp/1"));
        assert!(connect(&mut gate, 3, stranger, "/ip4/8.8.8.7/tcp/1"));
    }

    #[test]
    fn before_the_members_are_known_only_blocks_are_limited() {
        let mut gate = Gate::new(Arc::default(), Arc::default(), STRANGERS);
        let from = |number: usize| format!("/ip4/8.8.{}.1/tcp/1", number / 8);
        let entered = (0..2 * STRANGERS)
            .filter(|number| connect(&mut gate, *number, stranger(), &from(*number)));
        assert_eq!(entered.count(), 2 * STRANGERS);
        let of_block = (100..200)
            .filter(|number| connect(&mut gate, *number, stranger(), "/ip4/7.7.7.7/tcp/1"));
        assert_eq!(of_block.count(), STRANGERS_PER_BLOCK);
    }
}
