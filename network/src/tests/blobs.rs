//! Fetching blobs from honest and dishonest peers.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_is_fetched_from_two_peers_at_once() {
    let nodes = start_connected(3).await;
    let blob = bytes(20 * CHUNK_BYTES + 12_345, 1);
    let hash = nodes[0].shelf.put(&blob);
    nodes[1].shelf.put(&blob);
    let holders = vec![nodes[0].key(), nodes[1].key()];
    let fetched = in_time(
        nodes[2]
            .network
            .fetch_blob(hash, blob.len() as u64, holders),
    )
    .await
    .unwrap();
    assert!(fetched == blob);
    for node in &nodes[..2] {
        assert!(
            node.shelf.chunk_requests.load(Ordering::Relaxed) > 0,
            "one peer sent every chunk"
        );
    }
    let size = blob.len() as u64;
    let status = nodes[2]
        .until_status(|status| status.traffic.blob.received > size)
        .await;
    assert!(
        status.traffic.blob.received < size + size / 50,
        "chunks were fetched twice"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_and_empty_blobs_are_fetched() {
    let nodes = start_connected(2).await;
    for blob in [
        bytes(0, 0),
        bytes(1, 0),
        bytes(CHUNK_BYTES, 0),
        bytes(CHUNK_BYTES + 1, 0),
    ] {
        let hash = nodes[0].shelf.put(&blob);
        let fetched = in_time(
            nodes[1]
                .network
                .fetch_blob(hash, 1 << 30, vec![nodes[0].key()]),
        )
        .await
        .unwrap();
        assert!(fetched == blob);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_chunks_are_detected_and_fetched_from_another_peer() {
    let nodes = start_connected(3).await;
    let blob = bytes(12 * CHUNK_BYTES, 2);
    let hash = nodes[0].shelf.put(&blob);
    nodes[1].shelf.put(&blob);
    nodes[1].shelf.set(Lie::Chunks);
    let holders = vec![nodes[0].key(), nodes[1].key()];
    let fetched = in_time(nodes[2].network.fetch_blob(hash, 1 << 30, holders))
        .await
        .unwrap();
    assert!(fetched == blob);
    nodes[2]
        .until_status(|status| status.drops.chunks_bad > 0)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_keeps_forging_is_banned() {
    let mut nodes = start_connected(2).await;
    let liar = nodes[0].key();
    nodes[0].shelf.set(Lie::Outline);
    for seed in 0..3 {
        let hash = nodes[0].shelf.put(&bytes(100, seed));
        let fetched = in_time(nodes[1].network.fetch_blob(hash, 1 << 30, vec![liar])).await;
        let Err(FetchError::NotFound { causes, .. }) = fetched else {
            panic!("{fetched:?}")
        };
        assert_eq!(causes[0].peer, liar);
    }
    nodes[1]
        .until_event(|event| {
            matches!(event, Event::Banned { peer, .. } if peer == liar).then_some(())
        })
        .await;
    let drops = nodes[1]
        .until_status(|status| status.peers.is_empty())
        .await
        .drops;
    assert_eq!((drops.outlines_bad, drops.banned), (3, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fetching_a_blob_that_nobody_has_names_a_cause_for_each_holder() {
    let nodes = start_connected(3).await;
    let holders = vec![nodes[0].key(), nodes[1].key()];
    let fetched = in_time(
        nodes[2]
            .network
            .fetch_blob([9; 32].into(), 1 << 30, holders),
    )
    .await;
    let error = fetched.unwrap_err();
    let FetchError::NotFound { causes, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(causes.len(), 2);
    assert!(
        causes
            .iter()
            .all(|cause| cause.why == RequestError::NotHere.to_string()),
        "{error}"
    );

    let nobody = nodes[2]
        .network
        .fetch_blob([9; 32].into(), 1 << 30, Vec::new())
        .await;
    assert!(matches!(nobody, Err(FetchError::NoHolders { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holders_without_the_blob_do_not_delay_the_one_that_has_it() {
    let nodes = start_connected(4).await;
    let blob = bytes(2 * CHUNK_BYTES, 5);
    let hash = nodes[2].shelf.put(&blob);
    let likely = nodes[..3].iter().map(Node::key).collect();
    let fetched = in_time(nodes[3].network.fetch_blob(hash, 1 << 30, likely))
        .await
        .unwrap();
    assert!(fetched == blob);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_sends_only_the_outline_is_given_up() {
    let nodes = start_connected(2).await;
    let hash = nodes[0].shelf.put(&bytes(3 * CHUNK_BYTES, 0));
    nodes[0].shelf.set(Lie::NoChunks);
    let fetched = in_time(
        nodes[1]
            .network
            .fetch_blob(hash, 1 << 30, vec![nodes[0].key()]),
    )
    .await;
    assert!(
        matches!(fetched, Err(FetchError::Incomplete { missing: 3, .. })),
        "{fetched:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_above_the_limit_is_not_fetched() {
    let nodes = start_connected(2).await;
    let blob = bytes(2 * CHUNK_BYTES, 0);
    let hash = nodes[0].shelf.put(&blob);
    let limit = blob.len() as u64 - 1;
    let fetched = in_time(
        nodes[1]
            .network
            .fetch_blob(hash, limit, vec![nodes[0].key()]),
    )
    .await;
    assert!(
        matches!(fetched, Err(FetchError::TooLarge { bytes, .. }) if bytes == limit + 1),
        "{fetched:?}"
    );
    assert_eq!(nodes[0].shelf.chunk_requests.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_above_the_limit_are_not_sent() {
    let nodes = start_connected(2).await;
    let hash = nodes[0].shelf.put(&bytes(10, 0));
    nodes[0].shelf.set(Lie::LongChunks);
    let fetched = in_time(
        nodes[1]
            .network
            .fetch_blob(hash, 1 << 30, vec![nodes[0].key()]),
    )
    .await;
    assert!(
        matches!(fetched, Err(FetchError::Incomplete { .. })),
        "{fetched:?}"
    );
    nodes[0]
        .until_status(|status| status.drops.answers_too_long > 0)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_fetches_share_the_peers() {
    let nodes = start_connected(2).await;
    let blobs: Vec<_> = (0..12)
        .map(|seed| bytes(2 * CHUNK_BYTES + 7, seed))
        .collect();
    let hashes: Vec<_> = blobs.iter().map(|blob| nodes[0].shelf.put(blob)).collect();
    let fetches = hashes.iter().map(|hash| {
        nodes[1]
            .network
            .fetch_blob(*hash, 1 << 30, vec![nodes[0].key()])
    });
    let fetched = in_time(futures::future::join_all(fetches)).await;
    for (fetched, blob) in fetched.into_iter().zip(&blobs) {
        assert!(fetched.unwrap() == *blob);
    }
    assert_eq!(nodes[0].network.status().borrow().drops.requests_busy, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_peer_does_not_delay_a_fetch() {
    let nodes = start_connected(3).await;
    let blob = bytes(12 * CHUNK_BYTES, 3);
    let hash = nodes[0].shelf.put(&blob);
    nodes[1].shelf.put(&blob);
    nodes[1].shelf.set(Lie::Silence);
    let holders = vec![nodes[1].key(), nodes[0].key()];
    let before = Instant::now();
    let fetched = in_time(nodes[2].network.fetch_blob(hash, 1 << 30, holders))
        .await
        .unwrap();
    assert!(
        before.elapsed() < frames::STALL,
        "it waited for the silent peer"
    );
    nodes[1].shelf.set(Lie::None);
    assert!(fetched == blob);
    assert!(
        nodes[1].shelf.chunk_requests.load(Ordering::Relaxed) > 0,
        "the silent peer was not asked"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_fetch_frees_its_slots() {
    let nodes = start_connected(2).await;
    let blob = bytes(30 * CHUNK_BYTES, 4);
    let hash = nodes[0].shelf.put(&blob);
    nodes[0].shelf.set(Lie::Silence);
    for round in 1..=5 {
        let fetch = nodes[1]
            .network
            .fetch_blob(hash, 1 << 30, vec![nodes[0].key()]);
        let asked = nodes[0].until_asked(round);
        tokio::select! {
            _ = fetch => panic!("a silent peer sent the blob"),
            () = asked => {}
        }
    }
    nodes[0].shelf.set(Lie::None);
    let fetched = in_time(
        nodes[1]
            .network
            .fetch_blob(hash, 1 << 30, vec![nodes[0].key()]),
    )
    .await
    .unwrap();
    assert!(fetched == blob);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rate_limits_hold_for_blobs_and_do_not_delay_requests() {
    let rate = 4 * CHUNK_BYTES as u64;
    let limit = std::num::NonZeroU64::new(rate);
    let server = start_with(
        1,
        RUN,
        Settings {
            max_upload: limit,
            ..settings(Vec::new())
        },
    )
    .await;
    let limited = start_with(
        2,
        RUN,
        Settings {
            max_download: limit,
            ..settings(server.addresses().await)
        },
    )
    .await;
    let free = start_with(3, RUN, settings(server.addresses().await)).await;
    let blob = bytes(4 * CHUNK_BYTES, 6);
    // The first fetch is limited by the holder's upload, the second by the fetcher's download.
    for (fetcher, holder) in [(&free, &server), (&limited, &free)] {
        fetcher
            .until_status(|status| status.peers.iter().any(|peer| peer.peer == holder.key()))
            .await;
        let hash = holder.shelf.put(&blob);
        let before = Instant::now();
        let fetch = in_time(
            fetcher
                .network
                .fetch_blob(hash, 1 << 30, vec![holder.key()]),
        );
        let ask = async {
            holder.until_asked(1).await;
            let answer = in_time(fetcher.network.request(holder.key(), "abc")).await;
            (answer, before.elapsed())
        };
        let (fetched, (answer, answered_after)) = futures::join!(fetch, ask);
        assert!(fetched.unwrap() == blob);
        assert!(
            before.elapsed() >= Duration::from_millis(850),
            "{:?}",
            before.elapsed()
        );
        assert_eq!(answer.unwrap(), "cba");
        assert!(
            answered_after < before.elapsed(),
            "the request waited for the blob"
        );
    }
}
