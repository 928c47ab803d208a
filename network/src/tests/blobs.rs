//! Blobs from honest peers, and from others.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_comes_from_two_peers_at_once() {
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
            "one peer did all the work"
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
async fn small_and_empty_blobs_come_too() {
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
async fn a_peer_that_forges_chunks_is_found_out_and_the_blob_comes_from_the_other() {
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
async fn who_forges_again_and_again_is_shut_out() {
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
            matches!(event, Event::ShutOut { peer, .. } if peer == liar).then_some(())
        })
        .await;
    let drops = nodes[1]
        .until_status(|status| status.peers.is_empty())
        .await
        .drops;
    assert_eq!((drops.outlines_bad, drops.shut_out), (3, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_that_nobody_has_is_a_clear_error() {
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
async fn peers_that_might_have_it_do_not_hold_up_the_one_that_has() {
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
async fn a_peer_that_has_the_outline_alone_is_given_up() {
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
async fn a_blob_larger_than_wanted_is_not_fetched() {
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
async fn chunks_longer_than_allowed_never_leave_the_node() {
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
async fn many_fetches_at_once_share_the_peers() {
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
async fn a_peer_that_falls_silent_does_not_hold_the_blob_up() {
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
async fn a_fetch_that_is_dropped_leaves_room_for_the_next() {
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
            _ = fetch => panic!("a silent peer gave the blob"),
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
async fn caps_are_kept_and_do_not_touch_what_is_said() {
    let rate = 4 * CHUNK_BYTES as u64;
    let cap = std::num::NonZeroU64::new(rate);
    let server = start_with(
        1,
        RUN,
        Settings {
            max_upload: cap,
            ..settings(Vec::new())
        },
    )
    .await;
    let capped = start_with(
        2,
        RUN,
        Settings {
            max_download: cap,
            ..settings(server.addresses().await)
        },
    )
    .await;
    let free = start_with(3, RUN, settings(server.addresses().await)).await;
    let blob = bytes(4 * CHUNK_BYTES, 6);
    // The server's cap binds the one, the fetcher's own the other.
    for (fetcher, holder) in [(&free, &server), (&capped, &free)] {
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
            let said = in_time(fetcher.network.request(holder.key(), "abc")).await;
            (said, before.elapsed())
        };
        let (fetched, (said, said_after)) = futures::join!(fetch, ask);
        assert!(fetched.unwrap() == blob);
        assert!(
            before.elapsed() >= Duration::from_millis(850),
            "{:?}",
            before.elapsed()
        );
        assert_eq!(said.unwrap(), "cba");
        assert!(
            said_after < before.elapsed(),
            "what is said waited for the blob"
        );
    }
}
