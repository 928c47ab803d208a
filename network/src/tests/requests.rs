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
    let fetch = in_time(
        nodes[0]
            .network
            .fetch_blob([0; 32].into(), 10, vec![nodes[1].key()]),
    )
    .await;
    assert!(matches!(fetch, Err(FetchError::ShutDown)), "{fetch:?}");
}
