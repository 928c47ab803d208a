//! Latency, bandwidth, loss and duplicates.
//!
//! A peer's uplink sends one thing after another. Messages go before bulk (blobs and weights), as
//! the node's upload limit has it: bulk takes what messages leave. The same holds for downlinks.

use super::Network;
use super::traffic::{Traffic, TrafficKind};
use crate::interface::time::Millis;
use crate::sim::random::Random;

/// Bytes that a transport adds to each message: framing, encryption, IP and TCP headers.
const OVERHEAD_BYTES: u64 = 64;
/// Bits in a byte times microseconds in a second: bytes times this over bits per second are
/// microseconds.
const MICROS_OF_BYTE: u64 = 8 * 1_000_000;

/// Something to send from one peer to another.
#[derive(Debug, Clone, Copy)]
pub(in crate::sim) struct Parcel {
    pub from: usize,
    pub to: usize,
    pub kind: TrafficKind,
    pub bytes: u64,
}

impl Parcel {
    const fn is_bulk(&self) -> bool {
        matches!(self.kind, TrafficKind::Blob | TrafficKind::Weights)
    }
}

/// One direction of a peer's line: until when it is busy, in microseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    messages: u64,
    bulk: u64,
}

impl Line {
    /// Takes up the line for `micros` from `start` at the earliest. Returns when it is done.
    fn take(&mut self, start: u64, micros: u64, bulk: bool) -> u64 {
        if bulk {
            self.bulk = self.bulk.max(self.messages).max(start) + micros;
            self.bulk
        } else {
            self.messages = self.messages.max(start) + micros;
            self.bulk = self.bulk.max(start) + micros;
            self.messages
        }
    }
}

/// Every peer's line, and the bytes that went through it.
#[derive(Debug)]
pub(in crate::sim) struct Links {
    up: Vec<Line>,
    down: Vec<Line>,
    pub traffic: Vec<Traffic>,
}

impl Links {
    pub(in crate::sim) fn new(peers: usize) -> Self {
        Self {
            up: vec![Line::default(); peers],
            down: vec![Line::default(); peers],
            traffic: vec![Traffic::default(); peers],
        }
    }

    /// When a peer's uplink is free for more bulk.
    pub(in crate::sim) fn bulk_free_at(&self, peer: usize) -> u64 {
        self.up[peer].bulk
    }

    /// Sends something. Returns the instants at which it arrives: none, one or two.
    pub(in crate::sim) fn send(
        &mut self,
        network: &Network,
        random: &mut Random,
        now: Millis,
        parcel: Parcel,
    ) -> Vec<Millis> {
        let bytes = parcel.bytes + OVERHEAD_BYTES;
        self.traffic[parcel.from].count_sent(parcel.kind, bytes);
        let micros = micros(bytes, network.uplink_bits_per_s);
        let sent = self.up[parcel.from].take(now.0 * 1_000, micros, parcel.is_bulk());
        let lost = random.chance(network.loss_ppm);
        let copies = if random.chance(network.duplicate_ppm) {
            2
        } else {
            1
        };
        if lost || !network.passes(now, parcel.from, parcel.to) {
            return Vec::new();
        }
        (0..copies)
            .map(|_| {
                let reaches = sent + random.within(&network.latency_ms) * 1_000;
                self.receive(network, reaches, parcel, bytes)
            })
            .collect()
    }

    fn receive(&mut self, network: &Network, at: u64, parcel: Parcel, bytes: u64) -> Millis {
        self.traffic[parcel.to].count_received(parcel.kind, bytes);
        let micros = micros(bytes, network.downlink_bits_per_s);
        let arrived = if micros == 0 {
            at
        } else {
            self.down[parcel.to].take(at, micros, parcel.is_bulk())
        };
        Millis(arrived.div_ceil(1_000))
    }
}

const fn micros(bytes: u64, bits_per_s: u64) -> u64 {
    match (bytes * MICROS_OF_BYTE).checked_div(bits_per_s) {
        Some(micros) => micros,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(links: &mut Links, network: &Network, kind: TrafficKind, bytes: u64) -> u64 {
        let parcel = Parcel {
            from: 0,
            to: 1,
            kind,
            bytes: bytes - OVERHEAD_BYTES,
        };
        let at = links.send(network, &mut Random::new(1), Millis(0), parcel);
        at.first().map_or(u64::MAX, |at| at.0)
    }

    fn slow() -> Network {
        Network {
            latency_ms: 100..=100,
            uplink_bits_per_s: 8_000_000,
            ..Network::good()
        }
    }

    #[test]
    fn bytes_take_time_and_wait_for_those_before_them() {
        let (mut links, network) = (Links::new(2), slow());
        let mut send = |bytes| arrival(&mut links, &network, TrafficKind::Decided, bytes);
        assert_eq!(send(1_000_000), 1_100);
        assert_eq!(send(500_000), 1_600);
    }

    #[test]
    fn messages_go_before_bulk_and_bulk_waits_for_them() {
        let (mut links, network) = (Links::new(2), slow());
        let mut send = |kind, bytes| arrival(&mut links, &network, kind, bytes);
        assert_eq!(send(TrafficKind::Blob, 2_000_000), 2_100);
        assert_eq!(send(TrafficKind::Status, 1_000), 101);
        assert_eq!(send(TrafficKind::Blob, 1_000_000), 3_101);
    }

    #[test]
    fn a_downlink_is_shared_by_all_who_send() {
        let network = Network {
            uplink_bits_per_s: 0,
            downlink_bits_per_s: 8_000_000,
            ..slow()
        };
        let mut links = Links::new(3);
        let arrivals: Vec<_> = [0, 2]
            .map(|from| Parcel {
                from,
                to: 1,
                kind: TrafficKind::Blob,
                bytes: 1_000_000 - OVERHEAD_BYTES,
            })
            .iter()
            .flat_map(|parcel| links.send(&network, &mut Random::new(1), Millis(0), *parcel))
            .collect();
        assert_eq!(arrivals, [Millis(1_100), Millis(2_100)]);
        assert_eq!(links.traffic[1].received_bytes(), 2_000_000);
    }
}
