//! Counts bytes on every stream of every connection.
//!
//! The counts contain what the protocols write to their streams in both directions, with their
//! framing and negotiation, once for each peer. They do not contain what lies below: handshakes,
//! acknowledgements, retransmissions, and the framing of QUIC, Noise and Yamux (a few per cent).

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};

use futures::{AsyncRead, AsyncWrite};
use libp2p::PeerId;
use libp2p::core::StreamMuxer;
use libp2p::core::muxing::{StreamMuxerEvent, StreamMuxerExt};
use libp2p::relay::{HOP_PROTOCOL_NAME, STOP_PROTOCOL_NAME};

use crate::protocols::Protocols;

/// A stream whose first bytes written do not name a known protocol counts as upkeep.
const NAMED_WITHIN: usize = 512;

/// The prefix of every version of the gossip protocol.
const GOSSIP_PREFIX: &[u8] = b"/meshsub/";

/// Which protocol bytes belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Gossip,
    Blob,
    Sync,
    /// A circuit between two other peers.
    Relay,
    /// A circuit of this node. The bytes of the connection through it are counted already.
    OwnCircuit,
    Upkeep,
}

impl Kind {
    /// Whether peers send such bytes without being asked. Pieces of blobs that nobody asked for are
    /// refused one by one, and circuits have limits of their own.
    fn is_unasked(self, opener: Opener) -> bool {
        match self {
            Self::Gossip => true,
            Self::Sync | Self::Upkeep => opener == Opener::Peer,
            Self::Blob | Self::Relay | Self::OwnCircuit => false,
        }
    }
}

/// Which side opened a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opener {
    Peer,
    ThisNode,
}

/// A count of bytes in each direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bytes {
    /// Bytes received.
    pub received: u64,
    /// Bytes sent.
    pub sent: u64,
}

/// Bytes by protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BytesByKind {
    /// Gossip, including messages forwarded for other peers.
    pub gossip: Bytes,
    /// Blobs, and what peers tell each other about them.
    pub blob: Bytes,
    /// Control requests and their answers.
    pub sync: Bytes,
    /// What this node relays between other peers.
    pub relay: Bytes,
    /// Identify, ping, Kademlia, and protocol negotiation.
    pub upkeep: Bytes,
}

#[derive(Debug, Default)]
struct Flow {
    received: AtomicU64,
    sent: AtomicU64,
    /// Of those received, the bytes that this node did not ask for. Counted for peers only.
    unasked: AtomicU64,
}

impl Flow {
    fn read(&self) -> Bytes {
        Bytes {
            received: self.received.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
        }
    }
}

/// The byte counters of this node.
#[derive(Debug)]
pub(crate) struct Traffic {
    gossip: Flow,
    blob: Flow,
    sync: Flow,
    relay: Flow,
    upkeep: Flow,
    blob_name: String,
    piece_name: String,
    sync_name: String,
    /// Owned by the connections, so that a peer's counter is freed with its last connection.
    peers: Mutex<HashMap<PeerId, Weak<Flow>>>,
}

impl Traffic {
    pub(crate) fn new(protocols: &Protocols) -> Arc<Self> {
        Arc::new(Self {
            gossip: Flow::default(),
            blob: Flow::default(),
            sync: Flow::default(),
            relay: Flow::default(),
            upkeep: Flow::default(),
            blob_name: protocols.blob.as_ref().into(),
            piece_name: protocols.piece.as_ref().into(),
            sync_name: protocols.sync.as_ref().into(),
            peers: Mutex::default(),
        })
    }

    /// Bytes since the start.
    pub(crate) fn by_kind(&self) -> BytesByKind {
        BytesByKind {
            gossip: self.gossip.read(),
            blob: self.blob.read(),
            sync: self.sync.read(),
            relay: self.relay.read(),
            upkeep: self.upkeep.read(),
        }
    }

    /// Bytes of all kinds since the start.
    pub(crate) fn total(&self) -> Bytes {
        let kinds = self.by_kind();
        let BytesByKind {
            gossip,
            blob,
            sync,
            relay,
            upkeep,
        } = kinds;
        let all = [gossip, blob, sync, relay, upkeep];
        all.iter().fold(Bytes::default(), |sum, kind| Bytes {
            received: sum.received.saturating_add(kind.received),
            sent: sum.sent.saturating_add(kind.sent),
        })
    }

    /// Bytes exchanged with a peer since its oldest open connection was opened.
    pub(crate) fn with_peer(&self, peer: &PeerId) -> Bytes {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers
            .get(peer)
            .and_then(Weak::upgrade)
            .map(|flow| flow.read())
            .unwrap_or_default()
    }

    /// Bytes that a peer sent and this node did not ask for, since the peer's oldest open
    /// connection was opened.
    pub(crate) fn unasked(&self, peer: &PeerId) -> u64 {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let flow = peers.get(peer).and_then(Weak::upgrade);
        flow.map_or(0, |flow| flow.unasked.load(Ordering::Relaxed))
    }

    fn join(&self, peer: PeerId) -> Arc<Flow> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flow) = peers.get(&peer).and_then(Weak::upgrade) {
            return flow;
        }
        peers.retain(|_, flow| flow.strong_count() > 0);
        let flow = Arc::<Flow>::default();
        peers.insert(peer, Arc::downgrade(&flow));
        flow
    }

    /// Where bytes of a kind are counted, if they are.
    fn of(&self, kind: Kind) -> Option<&Flow> {
        match kind {
            Kind::Gossip => Some(&self.gossip),
            Kind::Blob => Some(&self.blob),
            Kind::Sync => Some(&self.sync),
            Kind::Relay => Some(&self.relay),
            Kind::OwnCircuit => None,
            Kind::Upkeep => Some(&self.upkeep),
        }
    }

    /// The protocol named in the first bytes written to a stream. Both sides write the name: one
    /// proposes it, the other confirms it.
    fn recognise(&self, written: &[u8], opener: Opener) -> Option<Kind> {
        let contains = |name: &[u8]| written.windows(name.len()).any(|part| part == name);
        // Identify lists names, too; in a negotiation a name is a line.
        let line = |name: &str| contains(format!("{name}\n").as_bytes());
        let gossips = || {
            let mut places = written.windows(GOSSIP_PREFIX.len()).enumerate();
            places.any(|(place, part)| {
                let rest = written
                    .get(place + GOSSIP_PREFIX.len()..)
                    .unwrap_or_default();
                let is_version = |byte: &&u8| byte.is_ascii_digit() || **byte == b'.';
                part == GOSSIP_PREFIX && rest.iter().find(|byte| !is_version(byte)) == Some(&b'\n')
            })
        };
        // A peer asks its relay for a circuit, and the relay opens the other half of it.
        if line(HOP_PROTOCOL_NAME.as_ref()) {
            Some(match opener {
                Opener::Peer => Kind::Relay,
                Opener::ThisNode => Kind::OwnCircuit,
            })
        } else if line(STOP_PROTOCOL_NAME.as_ref()) {
            Some(match opener {
                Opener::Peer => Kind::OwnCircuit,
                Opener::ThisNode => Kind::Relay,
            })
        } else if gossips() {
            Some(Kind::Gossip)
        } else if line(&self.blob_name) || line(&self.piece_name) {
            Some(Kind::Blob)
        } else if line(&self.sync_name) {
            Some(Kind::Sync)
        } else {
            None
        }
    }
}

/// A connection whose streams are counted.
pub(crate) struct CountedConnection<M> {
    inner: M,
    traffic: Arc<Traffic>,
    peer: Arc<Flow>,
}

impl<M> CountedConnection<M> {
    pub(crate) fn new(inner: M, peer: PeerId, traffic: &Arc<Traffic>) -> Self {
        Self {
            inner,
            traffic: Arc::clone(traffic),
            peer: traffic.join(peer),
        }
    }

    /// A stream that this node opened.
    #[cfg(test)]
    pub(crate) fn of_this_node<S>(&self, stream: S) -> CountedStream<S> {
        self.counted(stream, Opener::ThisNode)
    }

    fn counted<S>(&self, stream: S, opener: Opener) -> CountedStream<S> {
        CountedStream {
            inner: stream,
            opener,
            kind: Kind::Upkeep,
            beginning: Some(Vec::new()),
            traffic: Arc::clone(&self.traffic),
            peer: Arc::clone(&self.peer),
        }
    }
}

impl<M> StreamMuxer for CountedConnection<M>
where
    M: StreamMuxer + Unpin,
    M::Substream: Unpin,
{
    type Substream = CountedStream<M::Substream>;
    type Error = M::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        let stream = ready!(self.inner.poll_inbound_unpin(cx))?;
        Poll::Ready(Ok(self.counted(stream, Opener::Peer)))
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        let stream = ready!(self.inner.poll_outbound_unpin(cx))?;
        Poll::Ready(Ok(self.counted(stream, Opener::ThisNode)))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_close_unpin(cx)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        self.inner.poll_unpin(cx)
    }
}

/// A stream whose bytes are counted by peer and by protocol.
pub(crate) struct CountedStream<S> {
    inner: S,
    opener: Opener,
    kind: Kind,
    /// The bytes written so far, until the protocol is known.
    beginning: Option<Vec<u8>>,
    traffic: Arc<Traffic>,
    peer: Arc<Flow>,
}

impl<S> CountedStream<S> {
    fn received(&self, bytes: usize) {
        let bytes = bytes as u64;
        let Some(flow) = self.traffic.of(self.kind) else {
            return;
        };
        flow.received.fetch_add(bytes, Ordering::Relaxed);
        self.peer.received.fetch_add(bytes, Ordering::Relaxed);
        if self.kind.is_unasked(self.opener) {
            self.peer.unasked.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    fn sent(&mut self, buffer: &[u8], bytes: usize) {
        if let Some(beginning) = &mut self.beginning {
            let room = NAMED_WITHIN.saturating_sub(beginning.len());
            beginning.extend(buffer.iter().take(bytes.min(room)));
            let full = beginning.len() >= NAMED_WITHIN;
            if let Some(kind) = self.traffic.recognise(beginning, self.opener) {
                self.kind = kind;
                self.beginning = None;
            } else if full {
                self.beginning = None;
            }
        }
        let bytes = bytes as u64;
        let Some(flow) = self.traffic.of(self.kind) else {
            return;
        };
        flow.sent.fetch_add(bytes, Ordering::Relaxed);
        self.peer.sent.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for CountedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        self.received(read);
        Poll::Ready(Ok(read))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for CountedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, buffer))?;
        self.sent(buffer, written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;
    use futures::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn stream(traffic: &Arc<Traffic>, peer: PeerId) -> CountedStream<Cursor<Vec<u8>>> {
        opened_by(Opener::Peer, traffic, peer)
    }

    fn opened_by(
        opener: Opener,
        traffic: &Arc<Traffic>,
        peer: PeerId,
    ) -> CountedStream<Cursor<Vec<u8>>> {
        CountedConnection::new((), peer, traffic).counted(Cursor::new(Vec::new()), opener)
    }

    #[tokio::test]
    async fn a_circuit_counts_at_the_relay_and_not_twice_at_its_ends() {
        let traffic = Traffic::new(&Protocols::of_run(&[1; 32]).unwrap());
        let peer = PeerId::random();
        for (name, opener, is_relay) in [
            (HOP_PROTOCOL_NAME, Opener::Peer, true),
            (STOP_PROTOCOL_NAME, Opener::ThisNode, true),
            (HOP_PROTOCOL_NAME, Opener::ThisNode, false),
            (STOP_PROTOCOL_NAME, Opener::Peer, false),
        ] {
            let before = traffic.by_kind();
            let mut stream = opened_by(opener, &traffic, peer);
            stream
                .write_all(format!("{name}\n").as_bytes())
                .await
                .unwrap();
            stream.write_all(&[b'x'; 1000]).await.unwrap();
            let after = traffic.by_kind();
            let relayed = after.relay.sent - before.relay.sent;
            assert_eq!(relayed >= 1000, is_relay, "{name} {opener:?}");
            assert_eq!(after.upkeep, before.upkeep);
        }
    }

    #[tokio::test]
    async fn bytes_count_for_the_protocol_that_the_stream_names() {
        let protocols = Protocols::of_run(&[1; 32]).unwrap();
        let traffic = Traffic::new(&protocols);
        let peer = PeerId::random();

        let mut blob = stream(&traffic, peer);
        // The name may arrive in pieces.
        let line = format!("{}\n", protocols.blob);
        let name = line.as_bytes();
        blob.write_all(b"\x13/multistream/1.0.0\n").await.unwrap();
        blob.write_all(&name[..30]).await.unwrap();
        blob.write_all(&name[30..]).await.unwrap();
        blob.write_all(&[0; 1000]).await.unwrap();
        assert_eq!(traffic.by_kind().blob.sent, (name.len() - 30) as u64 + 1000);
        assert_eq!(traffic.by_kind().upkeep.sent, 20 + 30);

        let mut gossip = stream(&traffic, peer);
        gossip.write_all(b"\x0f/meshsub/1.2.0\n").await.unwrap();
        assert_eq!(traffic.by_kind().gossip.sent, 16);
        assert_eq!(
            traffic.with_peer(&peer).sent,
            20 + name.len() as u64 + 1000 + 16
        );
    }

    #[tokio::test]
    async fn a_list_of_names_is_no_negotiation() {
        let protocols = Protocols::of_run(&[1; 32]).unwrap();
        let traffic = Traffic::new(&protocols);
        let mut identify = stream(&traffic, PeerId::random());
        let names = format!(
            "/meshsub/1.2.0\x1a{}\x1a{}\"",
            protocols.blob, protocols.sync
        );
        identify.write_all(names.as_bytes()).await.unwrap();
        assert_eq!(traffic.by_kind().upkeep.sent, names.len() as u64);
    }

    #[tokio::test]
    async fn a_stream_of_an_unknown_protocol_counts_as_upkeep() {
        let traffic = Traffic::new(&Protocols::of_run(&[1; 32]).unwrap());
        let mut other = stream(&traffic, PeerId::random());
        other.write_all(&[b'x'; NAMED_WITHIN]).await.unwrap();
        other.write_all(GOSSIP_PREFIX).await.unwrap();
        let length = (NAMED_WITHIN + GOSSIP_PREFIX.len()) as u64;
        other.inner.set_position(0);
        let mut read = Vec::new();
        other.read_to_end(&mut read).await.unwrap();
        assert_eq!(
            traffic.by_kind().upkeep,
            Bytes {
                received: length,
                sent: length
            }
        );
    }

    #[test]
    fn a_peers_counter_is_freed_with_its_last_connection() {
        let traffic = Traffic::new(&Protocols::of_run(&[1; 32]).unwrap());
        let peer = PeerId::random();
        let connection = CountedConnection::new((), peer, &traffic);
        connection.peer.sent.fetch_add(5, Ordering::Relaxed);
        assert_eq!(traffic.with_peer(&peer).sent, 5);
        drop(connection);
        assert_eq!(traffic.with_peer(&peer), Bytes::default());
    }
}
