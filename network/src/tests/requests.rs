//! Requests to one peer.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_answered_over_either_transport() {
    let server = start_with(1, RUN, settings(Vec::new())).await;
    for (seed, address) in server.addresses().await.into_iter().enumerate() {
        let client = start_with(10 + seed as u8, RUN, settings(vec![address])).await;
        client.until_status(|status| status.peers.len() == 1).await;
        assert_eq!(
            client.network.request(server.key(), "abc").await.unwrap(),
            "cba"
        );
        assert_eq!(
            client.network.request(server.key(), "").await,
            Err(RequestError::NotHere)
        );
        let sync = client
            .until_status(|status| status.traffic.sync.received > 3)
            .await
            .traffic
            .sync;
        assert!(sync.sent >= 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_above_the_limit_are_not_sent() {
    let nodes = start_connected(2).await;
    let long = nodes[0]
        .network
        .request(nodes[1].key(), vec![0; MAX_SYNC_REQUEST + 1])
        .await;
    assert_eq!(
        long,
        Err(RequestError::TooLong {
            bytes: MAX_SYNC_REQUEST + 1,
            limit: MAX_SYNC_REQUEST
        })
    );

    let most = (MAX_SYNC_ANSWER as u64).to_le_bytes().to_vec();
    assert_eq!(
        nodes[0]
            .network
            .request(nodes[1].key(), most)
            .await
            .unwrap()
            .len(),
        MAX_SYNC_ANSWER
    );
    let more = (MAX_SYNC_ANSWER as u64 + 1).to_le_bytes().to_vec();
    assert_eq!(
        nodes[0].network.request(nodes[1].key(), more).await,
        Err(RequestError::NotHere)
    );
    nodes[1]
        .until_status(|status| status.drops.answers_too_long == 1)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_to_an_unknown_peer_fails() {
    let node = start_with(1, RUN, settings(Vec::new())).await;
    let unknown =
        identity::peer_key(&identity::keypair([77; 32]).unwrap().public().to_peer_id()).unwrap();
    assert_eq!(
        in_time(node.network.request(unknown, "abc")).await,
        Err(RequestError::Unreachable)
    );
    let not_a_point = [2; 32];
    assert_eq!(
        in_time(node.network.request(not_a_point, "abc")).await,
        Err(RequestError::NotAPeer)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_hangs_after_the_shutdown() {
    let nodes = start_connected(2).await;
    nodes[0].network.clone().shutdown().await;
    assert_eq!(
        in_time(nodes[0].network.request(nodes[1].key(), "abc")).await,
        Err(RequestError::ShutDown)
    );
    let fetch = nodes[0].fetch([0; 32].into()).await;
    assert!(matches!(fetch, Err(FetchError::ShutDown)), "{fetch:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_that_hold_every_place_leave_those_of_members() {
    let nodes = start_connected(4).await;
    let [server, member, first, second] = &nodes[..] else {
        panic!("four nodes")
    };
    server.network.set_members([member.key()]);
    server.shelf.set(Lie::Silence);
    let ask = |node: &Node, request: &'static str| {
        let (network, server) = (node.network.clone(), server.key());
        async move { in_time(network.request(server, request)).await }
    };
    let held: Vec<_> = (0..serve::PER_PEER)
        .map(|_| tokio::spawn(ask(first, "wait")))
        .collect();
    in_time(async {
        while server.shelf.waiting_requests.load(Ordering::Relaxed) < serve::PER_PEER {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(ask(second, "abc").await, Err(RequestError::Busy));
    assert_eq!(ask(member, "abc").await.unwrap(), "cba");
    server.shelf.set(Lie::None);
    for held in held {
        assert_eq!(held.await.unwrap().unwrap(), "tiaw");
    }
    assert_eq!(ask(second, "abc").await.unwrap(), "cba");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_answers_keep_the_limit_on_uploads() {
    let rate = 1 << 20;
    let limited = Settings {
        max_upload: std::num::NonZeroU64::new(rate),
        ..settings(Vec::new())
    };
    let server = start_with(1, RUN, limited).await;
    let client = start_with(2, RUN, settings(server.addresses().await)).await;
    client.until_status(|status| status.peers.len() == 1).await;
    let before = Instant::now();
    let wanted = rate.to_le_bytes().to_vec();
    let answer = in_time(client.network.request(server.key(), wanted)).await;
    assert_eq!(answer.unwrap().len() as u64, rate);
    let took = before.elapsed();
    assert!(took >= Duration::from_millis(850), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_asks_again_and_again_hears_busy() {
    let nodes = start_connected(2).await;
    let mut heard_busy = false;
    for _ in 0..1000 {
        let answer = in_time(nodes[0].network.request(nodes[1].key(), "abc")).await;
        heard_busy = answer == Err(RequestError::Busy);
        if heard_busy {
            break;
        }
    }
    assert!(heard_busy);
    nodes[1]
        .until_status(|status| status.drops.requests_busy > 0)
        .await;
}
