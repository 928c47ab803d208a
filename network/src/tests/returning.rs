//! Peers that are killed and start again at once.

use std::sync::mpsc;
use std::thread;

use super::*;
use crate::renewal::SIBLINGS;

/// By then both hear each other again, on a busy machine too. Without renewal it takes until the
/// old connection times out: 18 to 20 s.
const BACK: Duration = Duration::from_secs(12);

/// A node in a process of its own, as it were: it can be killed without a word to its peers.
struct Victim {
    runtime: tokio::runtime::Runtime,
    node: Node,
}

/// Starts a node that listens on `listen`, on a runtime of its own.
async fn start_victim(seed: u8, settings: Settings) -> Victim {
    let (send, receive) = mpsc::channel();
    let started = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let node = runtime.block_on(start_with(seed, RUN, settings));
        send.send(Victim { runtime, node }).unwrap();
    });
    let victim = tokio::task::spawn_blocking(move || receive.recv().unwrap());
    let victim = in_time(victim).await.unwrap();
    started.join().unwrap();
    victim
}

impl Victim {
    /// Kills the node: nothing of it runs again, and its connections are not closed.
    fn kill(self) {
        self.runtime.shutdown_background();
        drop(self.node);
    }
}

/// Two nodes of which one is killed once it was connected for `age`, and starts again at once.
/// Returns the time until each hears the other.
async fn time_until_back(transport: usize, age: Duration) -> Duration {
    let mut stays = start_with(1, RUN, settings(Vec::new())).await;
    let known = vec![stays.addresses().await[transport].clone()];
    let victim = start_victim(2, settings(known.clone())).await;
    let connected = Instant::now();
    victim
        .node
        .until_status(|status| status.peers.len() == 1)
        .await;
    // The age of the connection is what this test is about.
    tokio::time::sleep_until(connected + age).await;
    victim.kill();

    let killed = Instant::now();
    let mut back = start_with(2, RUN, settings(known)).await;
    let both = async {
        hears(&mut stays, &back, "from the one that came back").await;
        hears(&mut back, &stays, "from the one that stayed").await;
    };
    in_time(both).await;
    killed.elapsed()
}

/// Waits until gossip of `from` reaches `to`.
async fn hears(to: &mut Node, from: &Node, text: &str) {
    for attempt in 0.. {
        from.network.gossip(format!("{attempt} {text}"));
        if let Ok((id, _, bytes)) = timeout(Duration::from_millis(200), to.next_gossip()).await {
            to.network.verdict(id, GossipVerdict::Accept).await;
            if bytes.ends_with(text.as_bytes()) {
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_killed_and_starts_at_once_takes_part_at_once() {
    let quic = time_until_back(0, SIBLINGS).await;
    assert!(quic < BACK, "by QUIC after {quic:?}");
    let tcp = time_until_back(1, SIBLINGS).await;
    assert!(tcp < BACK, "by TCP after {tcp:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_killed_as_soon_as_it_connects_takes_part_soon() {
    let quic = time_until_back(0, Duration::ZERO).await;
    assert!(quic < BACK, "by QUIC after {quic:?}");
}
