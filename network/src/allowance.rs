//! How many bytes this node may still send and receive. Once one of these allowances is used up, it
//! exchanges no more blobs in that direction, and relays nothing. Gossip, which carries the votes,
//! and control requests go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::traffic::{Bytes, Traffic};

/// Bytes after which a node stops exchanging blobs. `None` means never. All kinds of traffic count,
/// with what lies below the protocols.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrafficLeft {
    /// Bytes that this node may still send.
    pub sent: Option<u64>,
    /// Bytes that it may still receive.
    pub received: Option<u64>,
}

/// Headers of IP, UDP and QUIC, in thousandths of the bytes that the protocols write. They are
/// somewhat smaller over TCP.
const HEADERS: u64 = 45;
/// Acknowledgements, in thousandths of the bytes that they acknowledge.
const ACKNOWLEDGEMENTS: u64 = 23;

/// About the bytes that the network's interface has counted.
fn on_the_wire(counted: Bytes) -> Bytes {
    let Bytes { received, sent } = counted;
    let with_rest = |bytes: u64, other: u64| {
        let headers = bytes.saturating_mul(HEADERS) / 1000;
        let acknowledgements = other.saturating_mul(ACKNOWLEDGEMENTS) / 1000;
        bytes
            .saturating_add(headers)
            .saturating_add(acknowledgements)
    };
    Bytes {
        received: with_rest(received, sent),
        sent: with_rest(sent, received),
    }
}

/// The allowances, compared with what was sent and received.
#[derive(Debug)]
pub(crate) struct Allowance {
    traffic: Arc<Traffic>,
    /// The counts at which blobs stop.
    sent_until: AtomicU64,
    received_until: AtomicU64,
}

impl Allowance {
    pub(crate) fn new(traffic: Arc<Traffic>, left: TrafficLeft) -> Self {
        let allowance = Self {
            traffic,
            sent_until: AtomicU64::new(u64::MAX),
            received_until: AtomicU64::new(u64::MAX),
        };
        allowance.set(left);
        allowance
    }

    /// Replaces what is left from now on.
    pub(crate) fn set(&self, left: TrafficLeft) {
        let now = self.used();
        let until =
            |now: u64, left: Option<u64>| left.map_or(u64::MAX, |left| now.saturating_add(left));
        let (sent, received) = (
            until(now.sent, left.sent),
            until(now.received, left.received),
        );
        self.sent_until.store(sent, Ordering::Relaxed);
        self.received_until.store(received, Ordering::Relaxed);
    }

    /// Bytes since the start, with what lies below the protocols.
    pub(crate) fn used(&self) -> Bytes {
        on_the_wire(self.traffic.total())
    }

    /// Whether this node may send blobs.
    pub(crate) fn sends(&self) -> bool {
        self.used().sent < self.sent_until.load(Ordering::Relaxed)
    }

    /// Whether this node may receive blobs.
    pub(crate) fn receives(&self) -> bool {
        self.used().received < self.received_until.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use futures::AsyncWriteExt;
    use futures::io::Cursor;
    use libp2p::PeerId;

    use super::*;
    use crate::protocols::Protocols;
    use crate::traffic::CountedConnection;

    async fn send(traffic: &Arc<Traffic>, bytes: usize) {
        let connection = CountedConnection::new((), PeerId::random(), traffic);
        let mut stream = connection.of_this_node(Cursor::new(Vec::new()));
        stream.write_all(&vec![0; bytes]).await.unwrap();
    }

    #[tokio::test]
    async fn blobs_stop_when_the_allowance_is_used_up_and_go_on_with_a_new_one() {
        let traffic = Traffic::new(&Protocols::of_run(&[1; 32]).unwrap());
        send(&traffic, 5000).await;
        let left = TrafficLeft {
            sent: Some(10_000),
            received: None,
        };
        let allowance = Allowance::new(Arc::clone(&traffic), left);
        send(&traffic, 9_000).await;
        assert!(allowance.sends());
        send(&traffic, 800).await;
        assert!(!allowance.sends(), "headers count");
        assert!(allowance.receives());
        allowance.set(left);
        assert!(allowance.sends());
        allowance.set(TrafficLeft::default());
        send(&traffic, 100_000).await;
        assert!(allowance.sends());
    }
}
