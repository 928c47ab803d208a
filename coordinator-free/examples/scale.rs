//! How long voters take to decide a round, and how many bytes that costs, in virtual time.
//!
//! ```text
//! cargo run --release -p weal-coordinator-free --example scale -- 20
//! cargo run --release -p weal-coordinator-free --example scale -- 256 256 10
//! cargo run --release -p weal-coordinator-free --example scale -- 64 1000 10
//! ```
//!
//! The arguments are voters, peers, Mbit/s up (0 for unlimited), rounds, the longest message that
//! its signer sends to all connected peers instead of those of its mesh, and the number of peers in
//! a mesh. Latency is 100 ms.

#![allow(clippy::print_stdout, clippy::print_stderr)] // a developer reads it

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use weal_coordinator_free::sim::{
    Absence, Actors, Network, Outcome, Scenario, TrafficKind, run_with,
};
use weal_proto::manifest::{Manifest, Timing};

/// The timing of a new run, and room for as many peers as the protocol allows.
fn as_in_a_new_run(manifest: &mut Manifest) {
    manifest.timing = Timing {
        train_ms: 60_000,
        fetch_ms: 30_000,
        attest_ms: 5_000,
        propose_ms: 3_000,
        vote_ms: 1_000,
    };
    manifest.limits.contributions = 64;
    manifest.limits.peers = 1_024;
    manifest.membership.credit = 5_000;
}

struct Size {
    voters: usize,
    peers: usize,
    uplink_mbit_per_s: u64,
    rounds: u64,
    flood_below_bytes: u64,
    mesh_degree: usize,
}

fn scenario(size: &Size) -> Scenario {
    let joins = |peer| Absence {
        peer,
        leaves_in: None,
        joins_at: 1,
    };
    Scenario {
        founders: size.voters,
        absences: (size.voters..size.peers).map(joins).collect(),
        rounds: size.rounds,
        give_up_after_ms: 24 * 60 * 60 * 1000,
        network: Network {
            latency_ms: 100..=100,
            uplink_bits_per_s: size.uplink_mbit_per_s * 1_000_000,
            downlink_bits_per_s: size.uplink_mbit_per_s * 10_000_000,
            flood_below_bytes: size.flood_below_bytes,
            mesh_degree: size.mesh_degree,
            ..Network::good()
        },
        train_ms: 10_000..=20_000,
        blob_bytes: 100_000..=100_000,
        ..Scenario::calm(1, size.peers)
    }
}

/// Kinds of traffic and the bytes of each that a peer sends in a round, on average.
fn by_kind(outcome: &Outcome) -> BTreeMap<TrafficKind, u64> {
    let mut kinds = BTreeMap::new();
    for peer in &outcome.peers {
        for (kind, bytes) in &peer.traffic.sent {
            *kinds.entry(*kind).or_default() += bytes;
        }
    }
    let share = outcome.rounds * outcome.peers.len() as u64;
    kinds
        .into_iter()
        .map(|(kind, bytes): (_, u64)| (kind, bytes.checked_div(share).unwrap_or(0)))
        .collect()
}

fn print(outcome: &Outcome) {
    println!(
        "{} rounds decided in {} s of virtual time by {} voters; {} decisions in later views",
        outcome.rounds,
        outcome.virtual_ms / 1_000,
        outcome.voters,
        outcome.later_views
    );
    println!("milliseconds from the last needed attestation to the first and the last decision:");
    println!("  {:?}", outcome.decision_ms);
    let most = outcome.peers.iter().map(|p| p.traffic.sent_bytes()).max();
    println!(
        "bytes sent per peer and round: {} on average, {} by the busiest",
        outcome.bytes_per_peer_round(),
        most.unwrap_or(0) / outcome.rounds.max(1)
    );
    for (kind, bytes) in by_kind(outcome) {
        println!("  {bytes:>10}  {kind:?}");
    }
}

fn main() -> ExitCode {
    let arguments: Vec<u64> = std::env::args()
        .skip(1)
        .filter_map(|a| a.parse().ok())
        .collect();
    let Some(voters) = arguments.first().map(|n| *n as usize) else {
        eprintln!("usage: scale VOTERS [PEERS [MBIT_PER_S_UP [ROUNDS [BYTES [MESH]]]]]");
        return ExitCode::from(2);
    };
    let size = Size {
        voters,
        peers: arguments
            .get(1)
            .map_or(voters, |n| (*n as usize).max(voters)),
        uplink_mbit_per_s: arguments.get(2).copied().unwrap_or(0),
        rounds: arguments.get(3).copied().unwrap_or(5),
        flood_below_bytes: arguments.get(4).copied().unwrap_or(0),
        mesh_degree: arguments.get(5).map_or(8, |n| *n as usize),
    };
    let scenario = scenario(&size);
    let actors = Actors {
        adjust: Box::new(as_in_a_new_run),
        ..Actors::of(&scenario)
    };
    let started = Instant::now();
    match run_with(&scenario, actors) {
        Ok(outcome) => print(&outcome),
        Err(violation) => println!("{violation}"),
    }
    println!("{:.1} s", started.elapsed().as_secs_f32());
    ExitCode::SUCCESS
}
