//! Streams for blobs on each connection, opened and accepted without a request protocol around
//! them.
//!
//! Frames go over one long-lived stream in each direction, and each piece over a stream of its
//! own, so that no frame waits behind a piece and a piece can be cancelled on its way.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::core::{Endpoint, UpgradeInfo};
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionClosed, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId,
    FromSwarm, NetworkBehaviour, NotifyHandler, Stream, SubstreamProtocol, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{InboundUpgrade, Multiaddr, PeerId, StreamProtocol};
use tokio::sync::oneshot;

use crate::protocols::Protocols;

/// Limit on the streams that a peer has open on one connection.
const STREAMS: usize = 16;
/// Streams that wait to be opened on one connection.
const WAITING: usize = 64;

/// What a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carries {
    /// Frames, from the peer that opened it.
    Frames,
    /// One piece, from the peer that opened it.
    Piece,
}

/// Both protocol names.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    frames: StreamProtocol,
    piece: StreamProtocol,
}

/// A stream that a peer opened.
#[derive(Debug)]
pub(crate) struct Inbound {
    pub peer: PeerId,
    pub carries: Carries,
    pub stream: Accepted,
}

/// A stream, and its place among those of its connection.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub stream: Stream,
    /// Drop it with the stream.
    pub place: Arc<()>,
}

/// Where an opened stream goes. It is dropped if the stream cannot be opened.
pub(crate) type Opened = oneshot::Sender<Stream>;

/// A request for a stream.
#[derive(Debug)]
pub(crate) struct Open {
    carries: Carries,
    opened: Opened,
}

/// How a connection reaches the peer, the better way first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Direct,
    Relayed,
}

#[derive(Debug)]
pub(crate) struct Behaviour {
    names: Names,
    /// The oldest first.
    connections: HashMap<PeerId, Vec<(ConnectionId, Way)>>,
    events: VecDeque<ToSwarm<Inbound, Open>>,
}

impl Behaviour {
    pub(crate) fn new(protocols: &Protocols) -> Self {
        let names = Names {
            frames: protocols.blob.clone(),
            piece: protocols.piece.clone(),
        };
        Self {
            names,
            connections: HashMap::new(),
            events: VecDeque::new(),
        }
    }

    /// Opens a stream to a peer, on its oldest direct connection. Without one it is relayed: the
    /// fetcher decides whether that is worth it.
    pub(crate) fn open(&mut self, peer: PeerId, carries: Carries, opened: Opened) {
        let connections = self.connections.get(&peer).into_iter().flatten();
        let best = connections.min_by_key(|(_, way)| *way);
        if let Some((connection, _)) = best {
            self.events.push_back(ToSwarm::NotifyHandler {
                peer_id: peer,
                handler: NotifyHandler::One(*connection),
                event: Open { carries, opened },
            });
        }
    }

    fn handler(&self) -> Handler {
        Handler {
            names: self.names.clone(),
            place: Arc::new(()),
            waiting: VecDeque::new(),
            accepted: VecDeque::new(),
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Inbound;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler())
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionEstablished(made) => {
                let connections = self.connections.entry(made.peer_id).or_default();
                let way = if made.endpoint.is_relayed() {
                    Way::Relayed
                } else {
                    Way::Direct
                };
                connections.push((made.connection_id, way));
            }
            FromSwarm::ConnectionClosed(ConnectionClosed {
                peer_id,
                connection_id,
                remaining_established,
                ..
            }) => {
                if remaining_established == 0 {
                    self.connections.remove(&peer_id);
                } else if let Some(connections) = self.connections.get_mut(&peer_id) {
                    connections.retain(|(id, _)| *id != connection_id);
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        _: ConnectionId,
        (carries, stream): THandlerOutEvent<Self>,
    ) {
        let inbound = Inbound {
            peer,
            carries,
            stream,
        };
        self.events.push_back(ToSwarm::GenerateEvent(inbound));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Inbound, THandlerInEvent<Self>>> {
        self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Handler {
    names: Names,
    /// Each stream of the peer holds a copy.
    place: Arc<()>,
    waiting: VecDeque<Open>,
    accepted: VecDeque<(Carries, Accepted)>,
}

impl Handler {
    /// Takes a stream that the peer opened. One beyond the limit is dropped, which resets it.
    fn accept(&mut self, stream: Stream, name: &StreamProtocol) {
        if Arc::strong_count(&self.place) > STREAMS {
            return;
        }
        let carries = if *name == self.names.frames {
            Carries::Frames
        } else {
            Carries::Piece
        };
        let place = Arc::clone(&self.place);
        self.accepted
            .push_back((carries, Accepted { stream, place }));
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = (Carries, Accepted);
    type InboundProtocol = Names;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Opened;

    fn listen_protocol(&self) -> SubstreamProtocol<Names> {
        SubstreamProtocol::new(self.names.clone(), ())
    }

    fn on_behaviour_event(&mut self, open: Open) {
        if self.waiting.len() < WAITING {
            self.waiting.push_back(open);
        }
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Opened, Self::ToBehaviour>> {
        if let Some(accepted) = self.accepted.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(accepted));
        }
        while let Some(Open { carries, opened }) = self.waiting.pop_front() {
            // Nobody waits for it any longer.
            if opened.is_closed() {
                continue;
            }
            let name = match carries {
                Carries::Frames => self.names.frames.clone(),
                Carries::Piece => self.names.piece.clone(),
            };
            let protocol = SubstreamProtocol::new(ReadyUpgrade::new(name), opened);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Names, Self::OutboundProtocol, (), Opened>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, name),
                ..
            }) => {
                self.accept(stream, &name);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol,
                info,
            }) => {
                let _ = info.send(protocol);
            }
            _ => {}
        }
    }
}

impl UpgradeInfo for Names {
    type Info = StreamProtocol;
    type InfoIter = [StreamProtocol; 2];

    fn protocol_info(&self) -> Self::InfoIter {
        [self.frames.clone(), self.piece.clone()]
    }
}

impl InboundUpgrade<Stream> for Names {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, name: StreamProtocol) -> Self::Future {
        ready(Ok((stream, name)))
    }
}
