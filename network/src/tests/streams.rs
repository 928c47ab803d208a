//! Peers that open streams and say nothing on them.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use futures::AsyncWrite;
use libp2p::Transport;
use libp2p::core::Endpoint;
use libp2p::core::muxing::StreamMuxerExt;
use libp2p::core::transport::{DialOpts, PortUse};

use super::forgers::unlimited;
use super::hostile::seed;
use super::*;
use crate::identity::keypair;
use crate::protocols::Protocols;
use crate::traffic::Traffic;
use crate::transport;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_over_tcp_beyond_their_places_are_reset() {
    let nodes = start_connected(2).await;
    let (hash, blob) = seed(&nodes[0], &nodes[1], 20);
    let mut addresses = nodes[0].addresses().await.into_iter();
    let tcp = addresses.find(|address| address.to_string().contains("/tcp/"));
    let tcp = tcp.unwrap();
    let attack = tokio::spawn(open_raw_streams(tcp, 50));
    let full = |status: &Status| status.drops.streams_full >= 200 - 16 - 128;
    nodes[0].until_status(full).await;
    assert!(nodes[1].fetch(hash).await.unwrap() == blob);
    attack.abort();
}

/// Opens 200 streams, and names a protocol on none of them.
async fn open_raw_streams(to: Multiaddr, seed: u8) {
    let key = keypair([seed; 32]).unwrap();
    let protocols = Protocols::of_run(&RUN).unwrap();
    let traffic = Traffic::new(&protocols);
    let built = transport::build(&key, &traffic, &unlimited()).unwrap();
    let mut transport = built.transport;
    let how = DialOpts {
        role: Endpoint::Dialer,
        port_use: PortUse::New,
    };
    let (_, mut connection) = transport.dial(to, how).unwrap().await.unwrap();
    let (mut new, mut held, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    poll_fn(|cx| {
        while new.len() + held.len() < 200
            && let Poll::Ready(stream) = connection.poll_outbound_unpin(cx)
        {
            new.push(stream.unwrap());
        }
        // The first byte of a length.
        held.extend(new.extract_if(.., |stream| {
            Pin::new(&mut *stream).poll_write(cx, &[19]).is_ready()
        }));
        for stream in &mut held {
            let _ = Pin::new(stream).poll_flush(cx);
        }
        // Also takes the streams of the node, and says nothing on them.
        while let Poll::Ready(Ok(stream)) = connection.poll_inbound_unpin(cx) {
            theirs.push(stream);
        }
        let _ = connection.poll_unpin(cx);
        Poll::<()>::Pending
    })
    .await;
}
