//! How long swarms take, against what their uplinks allow.

use super::fluid::UP;
use super::*;

/// The outline of a blob of this many bytes.
fn outline(bytes: u64, name: u8) -> Arc<Outline> {
    let chunks = Outline::chunk_count(bytes);
    let chunks = (0..chunks).map(|chunk| [name ^ chunk as u8; 32]).collect();
    Arc::new(Outline { bytes, chunks })
}

/// One author, and peers of these kinds that want its blob.
fn one_to_many(bytes: u64, kinds: &[Kind], seed: u64) -> (Duration, Swarm) {
    let all = [&[Kind::Honest][..], kinds].concat();
    let mut swarm = Swarm::new(&all, seed);
    let blob = outline(bytes, 1);
    swarm.publish(0, &blob);
    for node in 1..all.len() {
        swarm.want(node, &blob);
    }
    (swarm.run(), swarm)
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

#[test]
fn a_blob_reaches_twenty_peers_in_little_more_than_the_author_needs_to_send_it_once() {
    let bytes = 100_000_000;
    let bound = bytes as f64 / UP;
    for seed in 0..3 {
        let (took, swarm) = one_to_many(bytes, &[Kind::Honest; 20], seed);
        let wasted = swarm.wasted / 20.0 / bytes as f64;
        println!(
            "{:.1} s, bound {bound:.1} s, wasted {wasted:.3}",
            seconds(took)
        );
        assert!(seconds(took) <= 1.12 * bound, "{took:?}");
        assert_eq!(swarm.failures, 0);
        // If all senders began with the same peers, the author alone would serve the others.
        let firsts = swarm.nodes[1..].iter().map(|node| node.first);
        let last = firsts.max().flatten().map_or(f64::MAX, seconds);
        println!("every peer had a piece after {last:.1} s");
        assert!(last <= 5.0, "{last}");
    }
}

#[test]
fn twenty_peers_exchange_their_blobs_in_little_more_than_their_uplinks_allow() {
    let (peers, bytes) = (20, 5_000_000);
    let bound = (peers - 1) as f64 * bytes as f64 / UP;
    let mut swarm = Swarm::new(&vec![Kind::Honest; peers], 7);
    let blobs: Vec<_> = (0..peers).map(|of| outline(bytes, of as u8 * 8)).collect();
    for (node, blob) in blobs.iter().enumerate() {
        swarm.publish(node, blob);
    }
    for node in 0..peers {
        for (author, blob) in blobs.iter().enumerate() {
            if author != node {
                swarm.want(node, blob);
            }
        }
    }
    let took = seconds(swarm.run());
    println!("{took:.1} s, bound {bound:.1} s");
    assert!(took <= 1.1 * bound, "{took}");
}

#[test]
fn dishonest_peers_delay_a_blob_but_do_not_stop_it() {
    let bytes = 40_000_000;
    let bound = bytes as f64 / UP;
    let bad = [
        Kind::Liar,
        Kind::Drip,
        Kind::Leech,
        Kind::Vanishes(Duration::from_secs(6)),
    ];
    for kind in bad {
        let kinds = [[Kind::Honest; 8], [kind; 8]].concat();
        let (took, swarm) = one_to_many(bytes, &kinds, 3);
        println!("{kind:?}: {:.1} s, bound {bound:.1} s", seconds(took));
        assert_eq!(swarm.failures, 0, "{kind:?}");
        assert!(seconds(took) <= 5.0 * bound, "{kind:?}: {took:?}");
    }
}

#[test]
fn a_blob_whose_author_vanishes_arrives_if_the_others_have_all_of_it() {
    let blob = outline(20_000_000, 1);
    let gone = Kind::Vanishes(Duration::from_millis(9_500));
    let mut swarm = Swarm::new(&[gone, Kind::Honest, Kind::Honest, Kind::Honest], 1);
    swarm.publish(0, &blob);
    for node in 1..4 {
        swarm.want(node, &blob);
    }
    swarm.run();
    assert_eq!(swarm.failures, 0);
}
