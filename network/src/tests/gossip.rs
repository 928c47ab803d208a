//! Gossip to every peer.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gossip_reaches_every_peer() {
    let mut nodes = start_connected(5).await;
    nodes[1].network.gossip("to all of you");
    for place in [0, 2, 3, 4] {
        let (id, _, bytes) = nodes[place].next_gossip().await;
        assert_eq!(bytes, "to all of you");
        nodes[place]
            .network
            .verdict(id, GossipVerdict::Accept)
            .await;
    }
    let traffic = nodes[1]
        .until_status(|status| status.traffic.gossip.sent > 0)
        .await
        .traffic;
    assert_eq!(traffic.blob, ByteCount::default());
}

/// Three nodes in a line: the middle one decides what the last one receives.
async fn line() -> [Node; 3] {
    let middle = start_with(1, RUN, settings(Vec::new())).await;
    let known = middle.addresses().await;
    // The ends must not find each other.
    let alone = |bootstrap| Settings {
        max_connections: 1,
        ..settings(bootstrap)
    };
    let first = start_with(2, RUN, alone(known.clone())).await;
    first.until_status(|status| status.peers.len() == 1).await;
    let last = start_with(3, RUN, alone(known)).await;
    middle.until_status(|status| status.peers.len() == 2).await;
    last.until_status(|status| status.peers.len() == 1).await;
    [first, middle, last]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_forwarded_only_if_it_is_accepted() {
    let [first, mut middle, mut last] = line().await;
    for (message, verdict) in [
        ("bad", GossipVerdict::Reject),
        ("useless", GossipVerdict::Ignore),
        ("good", GossipVerdict::Accept),
    ] {
        first.network.gossip(message);
        let (id, from, bytes) = middle.next_gossip().await;
        assert_eq!((bytes.as_ref(), from), (message.as_bytes(), first.key()));
        middle.network.verdict(id, verdict).await;
    }
    // Messages of one stream keep their order: had "bad" been forwarded, it would come before
    // "good".
    let (_, from, bytes) = last.next_gossip().await;
    assert_eq!((bytes.as_ref(), from), (&b"good"[..], middle.key()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_whose_messages_keep_being_rejected_is_ignored() {
    let mut nodes = start(2).await;
    nodes[1]
        .until_status(|status| status.peers.len() == 1)
        .await;
    for message in ["one", "two", "three"] {
        nodes[1].network.gossip(message);
        let (id, _, _) = nodes[0].next_gossip().await;
        nodes[0].network.verdict(id, GossipVerdict::Reject).await;
    }
    // Gossipsub updates scores once a second; after that it ignores the peer.
    let mut attempt = 0;
    let ignored = async {
        loop {
            attempt += 1;
            nodes[1].network.gossip(format!("attempt {attempt}"));
            match timeout(Duration::from_secs(3), nodes[0].next_gossip()).await {
                Ok((id, _, _)) => nodes[0].network.verdict(id, GossipVerdict::Ignore).await,
                Err(_) => return,
            }
        }
    };
    in_time(ignored).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gossip_published_before_any_peer_connects_reaches_the_first() {
    let early = start_with(1, RUN, settings(Vec::new())).await;
    early.network.gossip("is anybody there?");
    let mut late = start_with(2, RUN, settings(early.addresses().await)).await;
    assert_eq!(late.next_gossip().await.2, "is anybody there?");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_above_the_limit_is_counted_and_one_at_the_limit_arrives() {
    let mut nodes = start(2).await;
    nodes[1]
        .until_status(|status| status.peers.len() == 1)
        .await;
    nodes[1]
        .network
        .gossip(vec![1; DEFAULT_MAX_GOSSIP_BYTES + 1]);
    nodes[1]
        .until_status(|status| status.drops.gossip_too_large == 1)
        .await;
    nodes[1].network.gossip(vec![2; DEFAULT_MAX_GOSSIP_BYTES]);
    assert_eq!(
        nodes[0].next_gossip().await.2,
        vec![2; DEFAULT_MAX_GOSSIP_BYTES]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_does_not_read_its_events_loses_only_gossip() {
    let mut nodes = start(2).await;
    nodes[1]
        .until_status(|status| status.peers.len() == 1)
        .await;
    // More messages than the reader's queue holds, in batches that fit the writer's.
    let mut sent = 0u32;
    let overflow = async {
        let mut seen = nodes[0].network.status();
        loop {
            for _ in 0..100 {
                sent += 1;
                nodes[1].network.gossip(sent.to_le_bytes().to_vec());
            }
            let _ = seen.changed().await;
            if seen.borrow().drops.gossip_unread > 0 {
                return;
            }
        }
    };
    in_time(overflow).await;
    nodes[1].network.clone().shutdown().await;
    let gone = nodes[1].key();
    nodes[0]
        .until_event(|event| (event == Event::Disconnected { peer: gone }).then_some(()))
        .await;
}
