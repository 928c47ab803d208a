//! Nodes that cannot dial each other, and what is relayed between them.

use super::*;

/// A node that only dials.
async fn private(seed: u8, bootstrap: Vec<Multiaddr>) -> Node {
    let silent = Settings {
        listen: Vec::new(),
        ..settings(bootstrap)
    };
    start_with(seed, RUN, silent).await
}

async fn relay(limits: RelayLimits) -> Node {
    let relays = Settings {
        relay: Some(limits),
        ..settings(Vec::new())
    };
    start_with(1, RUN, relays).await
}

/// A relay, and two nodes that only dial it.
async fn start_apart(limits: RelayLimits) -> [Node; 3] {
    let relay = relay(limits).await;
    let known = relay.addresses().await;
    let first = private(2, known.clone()).await;
    let second = private(3, known).await;
    [relay, first, second]
}

fn relays(status: &Status) -> &[PeerKey] {
    match &status.reachability {
        Reachability::Private { relays } => relays,
        _ => &[],
    }
}

async fn until_relayed(node: &Node, other: &Node) {
    let other = other.key();
    let is_other = |peer: &PeerStatus| peer.peer == other && peer.relayed;
    node.until_status(|status| status.peers.iter().any(is_other))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_never_dialled_each_other_tell_whether_they_reach_a_node() {
    let nodes = start(3).await;
    for node in &nodes {
        let status = node
            .until_status(|status| status.reachability != Reachability::Unknown)
            .await;
        let Reachability::Public { addresses } = status.reachability else {
            panic!("{status:#?}");
        };
        let listens = |address: &Multiaddr| {
            let mut own = status.listen.iter();
            own.any(|own| own.to_string().starts_with(&address.to_string()))
        };
        assert!(addresses.iter().all(listens), "{addresses:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_cannot_dial_each_other_gossip_through_a_relay() {
    let [relay, first, mut second] = start_apart(RelayLimits::default()).await;
    for node in [&first, &second] {
        node.until_status(|status| relays(status) == [relay.key()])
            .await;
    }
    until_relayed(&first, &second).await;
    until_relayed(&second, &first).await;
    // The relay's node reads nothing, and so forwards nothing.
    first.network.gossip("through the relay");
    let (_, from, bytes) = second.next_gossip().await;
    assert_eq!(
        (bytes.as_ref(), from),
        (&b"through the relay"[..], first.key())
    );
    let answer = in_time(second.network.request(first.key(), "abc")).await;
    assert_eq!(answer.unwrap(), "cba");
    let seen = relay
        .until_status(|status| status.traffic.relay.sent > 0)
        .await;
    assert_eq!(seen.relayed_peers, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_comes_through_a_relay_only_if_no_direct_peer_has_it() {
    let [relay, first, second] = start_apart(RelayLimits::default()).await;
    until_relayed(&second, &first).await;
    let (common, rare) = (bytes(3 * CHUNK_BYTES, 1), bytes(2 * CHUNK_BYTES, 2));
    for holder in [&first, &relay] {
        holder.shelf.put(&common);
    }
    let hash = Outline::of(&common).hash();
    assert_eq!(second.fetch(hash).await.unwrap(), common);
    assert_eq!(first.shelf.chunk_requests.load(Ordering::Relaxed), 0);
    let hash = first.shelf.put(&rare);
    assert_eq!(second.fetch(hash).await.unwrap(), rare);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_refuses_circuits_and_places_beyond_its_limits() {
    let no_circuits = RelayLimits {
        circuits: 0,
        ..RelayLimits::default()
    };
    let [relay, first, second] = start_apart(no_circuits).await;
    relay
        .until_status(|status| status.drops.relaying_refused > 0 && status.relayed_peers == 2)
        .await;
    assert_eq!(first.network.status().borrow().peers.len(), 1);
    drop([relay, first, second]);

    let one_place = RelayLimits {
        reservations: 1,
        ..RelayLimits::default()
    };
    let [relay, _first, _second] = start_apart(one_place).await;
    let seen = relay
        .until_status(|status| status.drops.relaying_refused > 0)
        .await;
    assert_eq!(seen.relayed_peers, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_circuit_ends_when_it_has_carried_its_share() {
    let short = RelayLimits {
        circuit_bytes: 300_000,
        ..RelayLimits::default()
    };
    let [_relay, mut first, second] = start_apart(short).await;
    until_relayed(&first, &second).await;
    until_relayed(&second, &first).await;
    let gone = Event::Disconnected { peer: second.key() };
    let mut message = vec![0; 100_000];
    let ended = async {
        loop {
            // The same bytes are sent only once.
            message[0] = u8::wrapping_add(message[0], 1);
            first.network.gossip(message.clone());
            let is_gone = first.until_event(|event| (event == gone).then_some(()));
            if timeout(Duration::from_millis(200), is_gone).await.is_ok() {
                return;
            }
        }
    };
    in_time(ended).await;
    // Both sides may open another.
    until_relayed(&first, &second).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_relay_is_replaced() {
    let first_relay = relay(RelayLimits::default()).await;
    let known = first_relay.addresses().await;
    let second_relay = start_with(4, RUN, settings(known.clone())).await;
    let mut both = known;
    both.extend(second_relay.addresses().await);
    let node = private(2, both.clone()).await;
    let _witness = private(3, both).await;
    let mut keys = [first_relay.key(), second_relay.key()];
    keys.sort_unstable();
    node.until_status(|status| relays(status) == keys).await;
    first_relay.network.shutdown().await;
    let left = second_relay.key();
    node.until_status(|status| relays(status) == [left]).await;
}
