//! The network between peers: who is connected to whom, how long bytes travel, and what is lost.
//!
//! | file | holds |
//! |---|---|
//! | `conditions` | partitions, one-way links, eclipsed peers: whom a peer reaches at an instant |
//! | `links` | latency, bandwidth, loss and duplicates; the bytes counted |
//! | `mesh` | who forwards gossip to whom, and the filter against duplicates |
//! | `traffic` | bytes by kind |

mod conditions;
mod links;
mod mesh;
mod traffic;

use std::ops::RangeInclusive;

pub use conditions::{Eclipse, OneWay, Partition};
pub(super) use links::{Links, Parcel};
pub(super) use mesh::{Gossip, Mesh, SeenMessages};
pub use traffic::{Traffic, TrafficKind};

/// What happens to messages between peers.
#[derive(Debug, Clone)]
pub struct Network {
    /// How long a message travels, in milliseconds. A later message may overtake an earlier one.
    pub latency_ms: RangeInclusive<u64>,
    /// How many messages are lost on a hop, in parts per million.
    pub loss_ppm: u32,
    /// How many messages arrive twice, in parts per million.
    pub duplicate_ppm: u32,
    /// How many peers a peer forwards a gossip message to, if that many are up.
    pub mesh_degree: usize,
    /// How many peers a peer is connected to. It asks only these.
    pub connections: usize,
    /// Gossip messages of its own that are no longer than this go to all peers that a peer is
    /// connected to, and longer ones to those of its mesh.
    pub flood_below_bytes: u64,
    /// Bandwidth from each peer, in bits per second; 0 for unlimited.
    pub uplink_bits_per_s: u64,
    /// Bandwidth to each peer, in bits per second; 0 for unlimited.
    pub downlink_bits_per_s: u64,
    /// When the network is split.
    pub partitions: Vec<Partition>,
    /// When messages pass in one direction only.
    pub one_way: Vec<OneWay>,
    /// When a peer is connected to a few others only.
    pub eclipses: Vec<Eclipse>,
}

impl Network {
    /// A network that loses nothing and has unlimited bandwidth. Its mesh is that of
    /// `weal_network`.
    pub const fn good() -> Self {
        Self {
            latency_ms: 10..=150,
            loss_ppm: 0,
            duplicate_ppm: 0,
            mesh_degree: 8,
            connections: 128,
            flood_below_bytes: 0,
            uplink_bits_per_s: 0,
            downlink_bits_per_s: 0,
            partitions: Vec::new(),
            one_way: Vec::new(),
            eclipses: Vec::new(),
        }
    }
}
