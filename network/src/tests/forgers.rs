//! Peers that speak the run's protocols and break them.

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::Swarm;
use libp2p::swarm::{Stream, SwarmEvent};
use tokio::sync::oneshot;

use super::*;
use crate::identity::{keypair, peer_id};
use crate::protocols::Protocols;
use crate::stream_places::StreamPlaces;
use crate::streams::{Behaviour, Carries};
use crate::traffic::Traffic;
use crate::transport;

/// Places for streams of a node that knows no members.
pub(super) fn unlimited() -> Arc<StreamPlaces> {
    StreamPlaces::new(Arc::default(), Arc::default())
}

/// A swarm that speaks only the blob protocols, without limits, connected to `node`.
pub(super) async fn forger(node: &Node, seed: u8) -> Swarm<Behaviour> {
    forger_at(node.addresses().await[1].clone(), seed).await
}

pub(super) async fn forger_at(address: Multiaddr, seed: u8) -> Swarm<Behaviour> {
    let key = keypair([seed; 32]).unwrap();
    let protocols = Protocols::of_run(&RUN).unwrap();
    let built = transport::build(&key, &Traffic::new(&protocols), &unlimited()).unwrap();
    let config =
        libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(DEADLINE);
    let local = key.public().to_peer_id();
    let mut swarm = Swarm::new(built.transport, Behaviour::new(&protocols), local, config);
    swarm.dial(address).unwrap();
    let connected = async {
        while !matches!(
            swarm.select_next_some().await,
            SwarmEvent::ConnectionEstablished { .. }
        ) {}
    };
    in_time(connected).await;
    swarm
}

pub(super) async fn open(forger: &mut Swarm<Behaviour>, node: &Node, carries: Carries) -> Stream {
    open_to(forger, &node.key(), carries).await
}

pub(super) async fn open_to(
    forger: &mut Swarm<Behaviour>,
    to: &PeerKey,
    carries: Carries,
) -> Stream {
    let (opened, mut stream) = oneshot::channel();
    let peer = peer_id(to).unwrap();
    forger.behaviour_mut().open(peer, carries, opened);
    in_time(async {
        loop {
            tokio::select! {
                stream = &mut stream => return stream.unwrap(),
                _ = forger.select_next_some() => {}
            }
        }
    })
    .await
}

/// Keeps the forger's connection alive until the status is as expected.
pub(super) async fn until(
    forger: &mut Swarm<Behaviour>,
    node: &Node,
    is: impl Fn(&Status) -> bool,
) {
    let run = async {
        loop {
            forger.select_next_some().await;
        }
    };
    tokio::select! {
        _ = node.until_status(is) => {}
        () = run => unreachable!(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_frames_are_counted_and_harmless() {
    let node = start_with(1, RUN, settings(Vec::new())).await;
    let mut forger = forger(&node, 2).await;
    let nonsense: [&[u8]; 3] = [&[1, 0, 0, 0, 99], &u32::MAX.to_le_bytes(), &[0; 4]];
    for (count, nonsense) in (1..).zip(nonsense) {
        let mut stream = open(&mut forger, &node, Carries::Frames).await;
        stream.write_all(nonsense).await.unwrap();
        stream.flush().await.unwrap();
        until(&mut forger, &node, |status| {
            status.drops.requests_malformed == count
        })
        .await;
    }
    assert!(node.network.status().borrow().drops.banned == 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pieces_that_nobody_asked_for_are_refused() {
    let node = start_with(1, RUN, settings(Vec::new())).await;
    let mut forger = forger(&node, 2).await;
    for length in [5u32, u32::MAX] {
        let mut stream = open(&mut forger, &node, Carries::Piece).await;
        let head = [&[7; 32][..], &[0; 4], &length.to_le_bytes()].concat();
        stream.write_all(&head).await.unwrap();
        stream.flush().await.unwrap();
        let run = async {
            loop {
                forger.select_next_some().await;
            }
        };
        let mut answer = [0];
        tokio::select! {
            read = in_time(stream.read(&mut answer)) => assert!(!matches!(read, Ok(1..))),
            () = run => unreachable!(),
        }
    }
}
