//! How many streams a peer may have open on a connection with Yamux.
//!
//! Yamux lets a peer send 256 KiB on every stream before anybody reads it, and knows no limit for
//! the connection as a whole. So it is the number of streams that bounds the memory for what waits
//! unread. Each connection has a few places for streams. Beyond them, a stream needs one of the
//! spare places that all strangers share, or all members; without one it is reset at once.
//!
//! Yamux has a limit on streams, too, but ends the connection when a peer reaches it.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::StreamMuxer;
use libp2p::core::muxing::{StreamMuxerEvent, StreamMuxerExt};
use libp2p::{PeerId, yamux};

use crate::identity::{PeerKey, peer_key};
use crate::limits::{SPARE_STREAMS, STREAMS_OF_CONNECTION};
use crate::members::{Members, Standing};
use crate::status::Counters;

/// What Yamux itself allows. It lets windows grow by what is left of 1 GiB when every stream has
/// its 256 KiB: that leaves 4 MiB for all streams of a connection together.
const YAMUX_STREAMS: usize = 4096 - STREAMS_OF_CONNECTION;

/// The configuration of Yamux on every connection.
pub(crate) fn yamux_config() -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(YAMUX_STREAMS);
    config
}

/// The spare places, for all connections together.
#[derive(Debug)]
pub(crate) struct StreamPlaces {
    members: Arc<Members>,
    counters: Arc<Counters>,
    of_members: Spare,
    of_strangers: Spare,
}

/// Spare places that are taken.
type Spare = Arc<AtomicUsize>;

impl StreamPlaces {
    pub(crate) fn new(members: Arc<Members>, counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            members,
            counters,
            of_members: Spare::default(),
            of_strangers: Spare::default(),
        })
    }

    /// A spare place for a stream of a peer, if one is free.
    fn take(&self, peer: Option<&PeerKey>) -> Option<SparePlace> {
        let standing = peer.map_or(Standing::Stranger, |peer| self.members.standing(peer));
        let taken = match standing {
            Standing::Member => &self.of_members,
            Standing::Stranger => &self.of_strangers,
        };
        let order = Ordering::Relaxed;
        let one_more = |taken: usize| (taken < SPARE_STREAMS).then_some(taken + 1);
        taken.fetch_update(order, order, one_more).ok()?;
        Some(SparePlace(Arc::clone(taken)))
    }
}

/// A spare place that is taken until this is dropped.
#[derive(Debug)]
struct SparePlace(Spare);

impl Drop for SparePlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection on which a peer opens only as many streams as it has places for.
///
/// The muxer inside must need no other polling than for the peer's streams, as is the case with
/// Yamux.
pub(crate) struct Placed<M: StreamMuxer> {
    inner: M,
    places: Arc<StreamPlaces>,
    peer: Option<PeerKey>,
    /// Each open stream holds a copy.
    open: Arc<()>,
    /// Streams that the peer opened and nobody has taken yet.
    waiting: VecDeque<PlacedStream<M::Substream>>,
    waker: Option<Waker>,
}

/// A stream of the peer, if it has a place.
type Next<M> =
    Result<Option<PlacedStream<<M as StreamMuxer>::Substream>>, <M as StreamMuxer>::Error>;

impl<M> Placed<M>
where
    M: StreamMuxer + Unpin,
    M::Substream: Unpin,
{
    pub(crate) fn new(inner: M, peer: &PeerId, places: &Arc<StreamPlaces>) -> Self {
        Self {
            inner,
            places: Arc::clone(places),
            peer: peer_key(peer),
            open: Arc::new(()),
            waiting: VecDeque::new(),
            waker: None,
        }
    }

    /// The next stream of the peer, if it has a place.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next<M>> {
        let stream = ready!(self.inner.poll_inbound_unpin(cx))?;
        let spare = if Arc::strong_count(&self.open) > STREAMS_OF_CONNECTION {
            let Some(place) = self.places.take(self.peer.as_ref()) else {
                self.places.counters.streams_full.one();
                return Poll::Ready(Ok(None));
            };
            Some(place)
        } else {
            None
        };
        Poll::Ready(Ok(Some(self.placed(stream, spare))))
    }

    fn placed(
        &self,
        stream: M::Substream,
        spare: Option<SparePlace>,
    ) -> PlacedStream<M::Substream> {
        PlacedStream {
            inner: stream,
            _open: Arc::clone(&self.open),
            _spare: spare,
        }
    }
}

impl<M> StreamMuxer for Placed<M>
where
    M: StreamMuxer + Unpin,
    M::Substream: Unpin,
{
    type Substream = PlacedStream<M::Substream>;
    type Error = M::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        if let Some(stream) = self.waiting.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        match self.poll_next(cx)? {
            Poll::Ready(Some(stream)) => Poll::Ready(Ok(stream)),
            // Let others run before the next stream.
            Poll::Ready(None) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => {
                self.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        let stream = ready!(self.inner.poll_outbound_unpin(cx))?;
        Poll::Ready(Ok(self.placed(stream, None)))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_close_unpin(cx)
    }

    /// Drives the connection even while nobody takes streams. Those that have a place wait here.
    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        if let Some(stream) = ready!(self.poll_next(cx))? {
            self.waiting.push_back(stream);
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// A stream that has a place.
pub(crate) struct PlacedStream<S> {
    inner: S,
    _open: Arc<()>,
    _spare: Option<SparePlace>,
}

impl<S: AsyncRead + Unpin> AsyncRead for PlacedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PlacedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buffer)
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
    use std::convert::Infallible;

    use futures::io::Cursor;
    use futures::task::noop_waker;

    use super::*;
    use crate::identity::keypair;

    /// A connection whose peer opens streams without end.
    struct Endless;

    impl StreamMuxer for Endless {
        type Substream = Cursor<Vec<u8>>;
        type Error = Infallible;

        fn poll_inbound(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Result<Cursor<Vec<u8>>, Infallible>> {
            Poll::Ready(Ok(Cursor::default()))
        }

        fn poll_outbound(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Result<Cursor<Vec<u8>>, Infallible>> {
            Poll::Ready(Ok(Cursor::default()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn poll(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Result<StreamMuxerEvent, Infallible>> {
            Poll::Pending
        }
    }

    fn peer(seed: u8) -> PeerId {
        keypair([seed; 32]).unwrap().public().to_peer_id()
    }

    /// Places in a run in which peer 1 is the only member.
    fn places() -> Arc<StreamPlaces> {
        let members = Arc::new(Members::default());
        members.set(peer_key(&peer(1)));
        StreamPlaces::new(members, Arc::default())
    }

    /// Lets the peer open a thousand streams. Returns how many are open, though nobody takes them.
    fn opened(connection: &mut Placed<Endless>) -> usize {
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        for _ in 0..1000 {
            assert!(connection.poll_unpin(&mut cx).is_pending());
        }
        connection.waiting.len()
    }

    #[test]
    fn strangers_share_the_spare_places_and_leave_those_of_members() {
        let places = places();
        let mut first = Placed::new(Endless, &peer(2), &places);
        assert_eq!(opened(&mut first), STREAMS_OF_CONNECTION + SPARE_STREAMS);
        assert!(places.counters.read().streams_full > 800);
        let mut second = Placed::new(Endless, &peer(3), &places);
        assert_eq!(opened(&mut second), STREAMS_OF_CONNECTION);
        let mut member = Placed::new(Endless, &peer(1), &places);
        assert_eq!(opened(&mut member), STREAMS_OF_CONNECTION + SPARE_STREAMS);
        drop(first);
        assert_eq!(opened(&mut second), STREAMS_OF_CONNECTION + SPARE_STREAMS);
    }

    #[test]
    fn a_stream_that_ends_leaves_its_place() {
        let places = places();
        let mut connection = Placed::new(Endless, &peer(2), &places);
        let all = opened(&mut connection);
        connection.waiting.truncate(all / 2);
        assert_eq!(opened(&mut connection), all);
    }

    #[test]
    fn this_node_may_open_streams_when_the_peer_may_not() {
        let places = places();
        let mut connection = Placed::new(Endless, &peer(2), &places);
        opened(&mut connection);
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        assert!(connection.poll_outbound_unpin(&mut cx).is_ready());
    }

    #[test]
    fn yamux_lets_the_windows_of_a_connection_grow_by_four_mebibytes() {
        // It panics if the streams, at 256 KiB each, exceed its limit of 1 GiB.
        let _ = yamux_config();
        let left = (4096 - YAMUX_STREAMS) * (256 << 10);
        assert_eq!(left, 4 << 20);
    }
}
