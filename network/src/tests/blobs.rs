//! Fetching blobs from honest and dishonest peers.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_is_fetched_from_two_peers_at_once() {
    let nodes = start_connected(3).await;
    let blob = bytes(20 * CHUNK_BYTES + 12_345, 1);
    let hash = nodes[0].shelf.put(&blob);
    nodes[1].shelf.put(&blob);
    assert!(nodes[2].fetch(hash).await.unwrap() == blob);
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
        status.traffic.blob.received < size + size / 10,
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
        let fetched = nodes[1].fetch(hash).await.unwrap();
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
    let fetched = nodes[2].fetch(hash).await.unwrap();
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
        match nodes[1].fetch(hash).await {
            Err(FetchError::NotFound { causes, .. }) => assert_eq!(causes[0].peer, liar),
            // By now it may be banned.
            Err(FetchError::NoHolders { .. }) if seed == 2 => {}
            other => panic!("{other:?}"),
        }
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
    let error = nodes[2].fetch([9; 32].into()).await.unwrap_err();
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

    let alone = start_with(9, RUN, settings(Vec::new())).await;
    let fetched = alone.fetch([9; 32].into()).await;
    assert!(matches!(fetched, Err(FetchError::NoHolders { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holders_without_the_blob_do_not_delay_the_one_that_has_it() {
    let nodes = start_connected(4).await;
    let blob = bytes(2 * CHUNK_BYTES, 5);
    let hash = nodes[2].shelf.put(&blob);
    let fetched = nodes[3].fetch(hash).await.unwrap();
    assert!(fetched == blob);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_sends_only_the_outline_is_given_up() {
    let nodes = start_connected(2).await;
    let hash = nodes[0].shelf.put(&bytes(3 * CHUNK_BYTES, 0));
    nodes[0].shelf.set(Lie::NoChunks);
    let fetched = nodes[1].fetch(hash).await;
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
    let small = Want {
        max_bytes: limit,
        ..want(hash)
    };
    let fetched = in_time(nodes[1].network.fetch(small)).await;
    assert!(
        matches!(fetched, Err(FetchError::TooLarge { bytes, .. }) if bytes == limit + 1),
        "{fetched:?}"
    );
    assert_eq!(nodes[0].shelf.chunk_requests.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_of_another_length_are_not_sent() {
    let nodes = start_connected(2).await;
    let hash = nodes[0].shelf.put(&bytes(10, 0));
    nodes[0].shelf.set(Lie::LongChunks);
    let fetched = nodes[1].fetch(hash).await;
    let is_incomplete = matches!(fetched, Err(FetchError::Incomplete { .. }));
    assert!(is_incomplete, "{fetched:?}");
    let drops = nodes[1].network.status().borrow().drops;
    assert_eq!(drops.chunks_bad, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_fetches_share_the_peers() {
    let nodes = start_connected(2).await;
    let blobs: Vec<_> = (0..12)
        .map(|seed| bytes(2 * CHUNK_BYTES + 7, seed))
        .collect();
    let hashes: Vec<_> = blobs.iter().map(|blob| nodes[0].shelf.put(blob)).collect();
    let fetches = hashes.iter().map(|hash| nodes[1].fetch(*hash));
    let fetched = futures::future::join_all(fetches).await;
    for (fetched, blob) in fetched.into_iter().zip(&blobs) {
        assert!(fetched.unwrap() == *blob);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_peer_does_not_delay_a_fetch() {
    let nodes = start_connected(3).await;
    let blob = bytes(12 * CHUNK_BYTES, 3);
    let hash = nodes[0].shelf.put(&blob);
    nodes[1].shelf.put(&blob);
    nodes[1].shelf.set(Lie::Silence);
    let before = Instant::now();
    let fetched = nodes[2].fetch(hash).await.unwrap();
    assert!(
        before.elapsed() < patience::STALL,
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
async fn a_blob_that_is_not_served_yet_is_waited_for() {
    let nodes = start_connected(2).await;
    let blob = bytes(CHUNK_BYTES + 1, 3);
    let hash = nodes[0].shelf.put(&blob);
    nodes[0].shelf.set(Lie::NotYet);
    let fetch = nodes[1].fetch(hash);
    // Longer than the patience for a blob that nobody has.
    let reveal = async {
        let mut asked = nodes[1].network.status();
        let often = |status: &Status| status.traffic.blob.sent > 12 * 38;
        in_time(asked.wait_for(often)).await.unwrap();
        nodes[0].shelf.set(Lie::None);
    };
    let (fetched, ()) = futures::join!(fetch, reveal);
    assert!(fetched.unwrap() == blob);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_can_be_cancelled_and_begun_again() {
    let nodes = start_connected(2).await;
    let blob = bytes(30 * CHUNK_BYTES, 4);
    let hash = nodes[0].shelf.put(&blob);
    nodes[0].shelf.set(Lie::Silence);
    for _ in 1..=3 {
        tokio::select! {
            _ = nodes[1].fetch(hash) => panic!("a silent peer sent the blob"),
            () = nodes[0].until_asked(1) => {}
        }
    }
    nodes[0].shelf.set(Lie::None);
    assert!(nodes[1].fetch(hash).await.unwrap() == blob);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_author_sends_little_more_than_one_copy_to_many_peers() {
    let rate = 4 * CHUNK_BYTES as u64;
    let limited = Settings {
        max_upload: std::num::NonZeroU64::new(rate),
        ..settings(Vec::new())
    };
    let author = start_with(1, RUN, limited).await;
    let known = author.addresses().await;
    let mut peers = Vec::new();
    for seed in 2..6 {
        peers.push(start_with(seed, RUN, settings(known.clone())).await);
    }
    for peer in &peers {
        for other in &peers {
            peer.network.dial(other.addresses().await[0].clone()).await;
        }
    }
    for node in peers.iter().chain([&author]) {
        node.until_status(|status| status.peers.len() == 4).await;
    }
    let blob = bytes(24 * CHUNK_BYTES, 9);
    let hash = author.shelf.put(&blob);
    let fetched = futures::future::join_all(peers.iter().map(|peer| peer.fetch(hash))).await;
    assert!(fetched.into_iter().all(|fetched| fetched.unwrap() == blob));
    let sent = author.network.status().borrow().traffic.blob.sent;
    let copies = sent as f64 / blob.len() as f64;
    assert!(copies < 1.6, "the author sent {copies:.2} copies");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_liar_a_silent_peer_and_one_that_leaves_do_not_stop_a_blob() {
    let mut nodes = start_connected(5).await;
    let blob = bytes(24 * CHUNK_BYTES, 8);
    let hash = nodes[0].shelf.put(&blob);
    for node in &nodes[1..4] {
        node.shelf.put(&blob);
    }
    nodes[1].shelf.set(Lie::Chunks);
    nodes[2].shelf.set(Lie::Silence);
    let leaver = nodes.remove(3);
    let leave = async {
        leaver.until_asked(1).await;
        leaver.network.clone().shutdown().await;
    };
    let (fetched, ()) = futures::join!(nodes[3].fetch(hash), leave);
    nodes[2].shelf.set(Lie::None);
    assert!(fetched.unwrap() == blob);
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
    // The first fetch is limited by the holder's upload, the second by the fetcher's download.
    for (seed, fetcher, holder) in [(6, &free, &server), (7, &limited, &free)] {
        let blob = bytes(4 * CHUNK_BYTES, seed);
        fetcher
            .until_status(|status| status.peers.iter().any(|peer| peer.peer == holder.key()))
            .await;
        let hash = holder.shelf.put(&blob);
        let before = Instant::now();
        let fetch = fetcher.fetch(hash);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_is_fetched_into_its_place_in_a_file_from_many_peers_with_a_liar_among_them() {
    let nodes = start_connected(4).await;
    let blob = bytes(24 * CHUNK_BYTES + 77, 6);
    for node in &nodes[..3] {
        node.shelf.put(&blob);
    }
    let hash = Outline::of(&blob).hash();
    nodes[2].shelf.set(Lie::Chunks);
    let folder = tempfile::tempdir().unwrap();
    let place = FilePlace::new(folder.path().join("weights"), 1000);
    // Half of it is there from an earlier attempt, with a byte that is damaged.
    let mut file = vec![3; 1000 + blob.len()];
    let kept = 12 * CHUNK_BYTES;
    file[1000..1000 + kept].copy_from_slice(&blob[..kept]);
    file[1000 + 5 * CHUNK_BYTES] ^= 1;
    std::fs::write(&place.path, &file).unwrap();

    let fetched = nodes[3].network.fetch_into(want(hash), place.clone());
    let outline = in_time(fetched).await.unwrap();
    assert_eq!(outline.hash(), hash);
    let found = std::fs::read(&place.path).unwrap();
    assert!(found[..1000] == [3; 1000] && found[1000..] == blob);
    assert_eq!(place.done.load(Ordering::Relaxed), blob.len() as u64);
    for node in &nodes[..2] {
        assert!(node.shelf.chunk_requests.load(Ordering::Relaxed) > 0);
    }
    let status = nodes[3].network.status().borrow().clone();
    let received = status.traffic.blob.received;
    assert!(received < 18 * CHUNK_BYTES as u64, "{received} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_blobs_fill_every_place_that_wants_them_and_one_is_repaired_at_its_place() {
    let nodes = start_connected(2).await;
    let blob = bytes(2 * CHUNK_BYTES + 7, 6);
    let hash = nodes[0].shelf.put(&blob);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights");
    std::fs::write(&path, vec![0; 3 * blob.len()]).unwrap();
    let places = [0, 1, 2].map(|n| FilePlace::new(path.clone(), n * blob.len() as u64));
    let fetch = |place: &FilePlace| nodes[1].network.fetch_into(want(hash), place.clone());
    let fetches = places.iter().map(fetch);
    for fetched in in_time(futures::future::join_all(fetches)).await {
        fetched.unwrap();
    }
    assert!(std::fs::read(&path).unwrap() == blob.repeat(3));

    let mut damaged = blob.repeat(3);
    damaged[blob.len() + 1] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    in_time(fetch(&places[1])).await.unwrap();
    assert!(std::fs::read(&path).unwrap() == blob.repeat(3));
}
