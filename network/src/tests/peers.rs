//! Connecting and disconnecting.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_of_a_run_find_each_other_through_one_bootstrap_peer() {
    let mut nodes = start(4).await;
    for node in &nodes {
        node.until_status(|status| status.peers.len() == 3).await;
    }
    let (peer, address) = nodes[0]
        .until_event(|event| match event {
            Event::Connected { peer, address } => Some((peer, address)),
            _ => None,
        })
        .await;
    assert_eq!(peer_in_address(&address), Some(peer));
    let place = nodes.iter().position(|node| node.key() == peer).unwrap();
    assert!(
        nodes[place].addresses().await.contains(&address),
        "{address} cannot be dialled"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_different_runs_disconnect() {
    let mut ours = start_with(1, RUN, settings(Vec::new())).await;
    let mut theirs = start_with(2, [43; 32], settings(ours.addresses().await)).await;
    let speaks = ours
        .until_event(|event| match event {
            Event::Stranger { speaks, .. } => Some(speaks),
            Event::Connected { .. } => panic!("a stranger was admitted"),
            _ => None,
        })
        .await;
    assert_eq!(speaks, format!("/commonweal/{}", hex::encode([43; 32])));
    let why = theirs
        .until_event(|event| match event {
            Event::BootstrapFailed { why, .. } => Some(why),
            Event::Connected { .. } => panic!("a stranger was admitted"),
            _ => None,
        })
        .await;
    assert!(!why.is_empty());
    assert_eq!(
        in_time(theirs.network.request(ours.key(), "abc"))
            .await
            .ok(),
        None
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bootstrap_address_is_retried_until_a_node_listens_there() {
    // While the socket holds this port, no other program gets it.
    let held = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let quic = Settings::listen_on_loopback(port)[0].clone();
    let mut early = start_with(1, RUN, settings(vec![quic.clone()])).await;
    let failed = early
        .until_event(|event| match event {
            Event::BootstrapFailed {
                address,
                why,
                retry_in,
            } => Some((address, why, retry_in)),
            _ => None,
        })
        .await;
    assert_eq!(failed.0, quic);
    assert!(
        !failed.1.is_empty() && failed.2 < Duration::from_secs(2),
        "{failed:?}"
    );

    drop(held);
    let late = start_with(
        2,
        RUN,
        Settings {
            listen: vec![quic],
            ..settings(Vec::new())
        },
    )
    .await;
    early
        .until_status(|status| status.peers.iter().any(|peer| peer.peer == late.key()))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_names_the_port_in_use() {
    let first = start_with(1, RUN, settings(Vec::new())).await;
    let listen: Vec<Multiaddr> = first
        .addresses()
        .await
        .iter()
        .map(|address| address.iter().take_while(|p| p.tag() != "p2p").collect())
        .collect();
    for address in listen {
        let taken = Settings {
            listen: vec![address.clone()],
            ..settings(Vec::new())
        };
        let error = Network::start([2; 32], RUN, taken, Arc::<Shelf>::default())
            .await
            .err()
            .unwrap();
        assert!(
            matches!(&error, Error::PortInUse { address: named } if *named == address),
            "{error}"
        );
        assert!(error.hint().unwrap().contains("`listen`"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_names_an_unusable_address() {
    for text in [
        "/ip4/127.0.0.1",
        "/dns4/example.org/tcp/1",
        "/ip4/127.0.0.1/udp/0",
        "/ip4/192.0.2.1/tcp/0",
    ] {
        let address: Multiaddr = text.parse().unwrap();
        let wrong = Settings {
            listen: vec![address],
            ..settings(Vec::new())
        };
        let error = Network::start([2; 32], RUN, wrong, Arc::<Shelf>::default())
            .await
            .err()
            .unwrap();
        assert!(
            matches!(&error, Error::Listen { .. }) && error.to_string().contains(text),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_notice_a_shutdown_at_once() {
    let mut nodes = start_connected(2).await;
    let gone = nodes.pop().unwrap();
    let before = Instant::now();
    let key = gone.key();
    gone.network.shutdown().await;
    nodes[0]
        .until_event(|event| (event == Event::Disconnected { peer: key }).then_some(()))
        .await;
    assert!(
        before.elapsed() < Duration::from_secs(5),
        "the peer noticed only after a timeout"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_peer_is_redialled() {
    let first = start_with(1, RUN, settings(Vec::new())).await;
    let known = first.addresses().await;
    let second = start_with(2, RUN, settings(vec![known[0].clone()])).await;
    second.until_status(|status| status.peers.len() == 1).await;
    first.network.shutdown().await;
    second.until_status(|status| status.peers.is_empty()).await;
    let listen = known
        .iter()
        .map(|address| address.iter().take_while(|p| p.tag() != "p2p").collect())
        .collect();
    let _again = start_with(
        1,
        RUN,
        Settings {
            listen,
            ..settings(Vec::new())
        },
    )
    .await;
    second.until_status(|status| status.peers.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_may_list_its_own_address_as_bootstrap() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    drop(held);
    let tcp = Settings::listen_on_loopback(port)[1].clone();
    let own = Settings {
        listen: vec![tcp.clone()],
        ..settings(vec![tcp.clone()])
    };
    let node = start_with(1, RUN, own).await;
    let other = start_with(2, RUN, settings(vec![tcp])).await;
    node.until_status(|status| status.peers.len() == 1).await;
    other.until_status(|status| status.peers.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_transports_listen_on_one_port_on_every_interface() {
    // Find a port that is free for both transports.
    let port = loop {
        let tcp = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        if std::net::UdpSocket::bind(("0.0.0.0", port)).is_ok() {
            break port;
        }
    };
    let everywhere = Settings {
        listen: Settings::listen_on_port(port),
        ..settings(Vec::new())
    };
    let node = start_with(1, RUN, everywhere).await;
    let listen = node
        .until_status(|status| status.listen.len() >= 2)
        .await
        .listen;
    for part in [format!("/udp/{port}/quic-v1/"), format!("/tcp/{port}/")] {
        assert!(
            listen
                .iter()
                .any(|address| address.to_string().contains(&part)),
            "{part} is not in {listen:?}"
        );
    }
}
