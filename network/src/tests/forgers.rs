//! Peers that speak the run's protocols and break them.

use futures::StreamExt;
use libp2p::request_response::ProtocolSupport;
use libp2p::swarm::SwarmEvent;
use libp2p::{Swarm, request_response};

use super::*;
use crate::frames::{Answer, Frames};
use crate::identity::{keypair, peer_id, peer_key};
use crate::protocols::Protocols;
use crate::traffic::Traffic;
use crate::transport;

type Forger = Swarm<request_response::Behaviour<Frames>>;

/// A swarm that speaks only the blob protocol, without limits.
async fn forger(seed: u8) -> (Forger, PeerKey, Multiaddr) {
    let key = keypair([seed; 32]).unwrap();
    let protocols = Protocols::of_run(&RUN).unwrap();
    let transport = transport::build(&key, &Traffic::new(&protocols)).unwrap();
    let frames = Frames {
        max_request: 1 << 30,
        max_answer: 1 << 30,
        upload: None,
        download: None,
    };
    let protocol = [(protocols.blob, ProtocolSupport::Full)];
    let behaviour = request_response::Behaviour::with_codec(
        frames,
        protocol,
        request_response::Config::default(),
    );
    let local = key.public().to_peer_id();
    let config =
        libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(DEADLINE);
    let mut swarm = Swarm::new(transport, behaviour, local, config);
    swarm
        .listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap())
        .unwrap();
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address.with_p2p(local).unwrap();
        }
    };
    (swarm, peer_key(&local).unwrap(), address)
}

async fn answer_above_the_limit(forger: &mut Forger) {
    loop {
        if let SwarmEvent::Behaviour(request_response::Event::Message {
            message: request_response::Message::Request { channel, .. },
            ..
        }) = forger.select_next_some().await
        {
            let too_long = Answer::Here(vec![0; MAX_BLOB_ANSWER + 1].into());
            let _ = forger.behaviour_mut().send_response(channel, too_long);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_above_the_limit_is_refused_and_counted() {
    let node = start_with(1, RUN, settings(Vec::new())).await;
    let (mut forger, key, address) = forger(2).await;
    node.network.dial(address).await;
    in_time(async {
        while !matches!(
            forger.select_next_some().await,
            SwarmEvent::ConnectionEstablished { .. }
        ) {}
    })
    .await;
    let fetched = tokio::select! {
        fetched = in_time(node.network.fetch_blob([5; 32].into(), 1 << 30, vec![key])) => fetched,
        () = answer_above_the_limit(&mut forger) => unreachable!(),
    };
    let Err(FetchError::NotFound { causes, .. }) = fetched else {
        panic!("{fetched:?}")
    };
    assert!(causes[0].why.contains("breaks the protocol"), "{causes:?}");
    node.until_status(|status| status.drops.answers_malformed == 1)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_requests_are_counted_and_harmless() {
    let node = start_with(1, RUN, settings(Vec::new())).await;
    let (mut forger, _, _) = forger(2).await;
    forger.dial(node.addresses().await[1].clone()).unwrap();
    let server = peer_id(&node.key()).unwrap();
    for nonsense in [
        vec![],
        vec![9; 33],
        vec![1; 36],
        vec![0; Exchange::Blob.max_request() + 1],
    ] {
        forger
            .behaviour_mut()
            .send_request(&server, Some(nonsense.into()));
    }
    let run = async {
        loop {
            forger.select_next_some().await;
        }
    };
    tokio::select! {
        _ = node.until_status(|status| status.drops.requests_malformed == 4) => {}
        () = run => unreachable!(),
    }
}
