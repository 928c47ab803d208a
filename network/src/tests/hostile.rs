//! Peers that attack: they hold connections and streams, flood, and lie about who is where. Honest
//! peers go on as if they were not there.

use std::net::SocketAddr;

use futures::AsyncWriteExt;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{Swarm, SwarmEvent};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use super::forgers::{forger, forger_at, open, open_to, unlimited, until};
use super::*;
use crate::streams::Carries;

/// Where attackers of another address block than the honest peers come from.
const ATTACKERS: &str = "127.0.1.1:0";

/// A blob, and the seeder that has it and knows `honest` as the only member.
pub(super) fn seed(seeder: &Node, honest: &Node, chunks: usize) -> (BlobHash, Vec<u8>) {
    seeder.network.set_members([honest.key()]);
    let blob = bytes(chunks * CHUNK_BYTES, 9);
    (seeder.shelf.put(&blob), blob)
}

/// Opens connections from the attackers' block to a port, says nothing on them, and opens them
/// again when they are closed.
fn half_open(port: u16, connections: usize) -> Vec<JoinHandle<()>> {
    let target = SocketAddr::from(([127, 0, 0, 1], port));
    let hold = move || async move {
        loop {
            let held = async {
                let socket = TcpSocket::new_v4()?;
                socket.bind(ATTACKERS.parse().unwrap())?;
                let mut held: TcpStream = socket.connect(target).await?;
                let mut nothing = Vec::new();
                tokio::io::AsyncReadExt::read_to_end(&mut held, &mut nothing).await
            };
            // As fast as this, an attacker could go on for long.
            let _ = held.await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let tasks = std::iter::repeat_with(|| tokio::spawn(hold()));
    tasks.take(connections).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_connections_do_not_keep_peers_out() {
    let node = start_with(1, RUN, settings(Vec::new())).await;
    let attack = half_open(Target::of(&node).await.port(), 200);
    node.until_status(|status| status.drops.address_block_full > 100)
        .await;
    let tcp = node.addresses().await[1].clone();
    let honest = start_with(2, RUN, settings(vec![tcp])).await;
    honest.until_status(|status| status.peers.len() == 1).await;
    attack.iter().for_each(JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_say_nothing_hold_up_nobody() {
    let nodes = start_connected(2).await;
    let (hash, blob) = seed(&nodes[0], &nodes[1], 20);
    let mut attackers = Vec::new();
    for attacker in 0..4 {
        let mut swarm = forger(&nodes[0], 50 + attacker).await;
        let mut held = Vec::new();
        for number in 0..12 {
            let carries = [Carries::Frames, Carries::Piece][number % 2];
            let mut stream = open(&mut swarm, &nodes[0], carries).await;
            // One byte of a message, and never another.
            stream.write_all(&[1]).await.unwrap();
            stream.flush().await.unwrap();
            held.push(stream);
        }
        attackers.push(tokio::spawn(async move {
            let _held = held;
            loop {
                futures::StreamExt::select_next_some(&mut swarm).await;
            }
        }));
    }
    assert!(nodes[1].fetch(hash).await.unwrap() == blob);
    attackers.iter().for_each(JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_keeps_sending_unwanted_pieces_is_banned() {
    let mut node = start_with(1, RUN, settings(Vec::new())).await;
    let mut swarm = forger(&node, 2).await;
    let stop = swarm.local_peer_id().to_owned();
    let flood = tokio::spawn(async move {
        let (mut waiting, mut streams) = (Vec::new(), Vec::new());
        let peer = *swarm.connected_peers().next().unwrap();
        loop {
            while waiting.len() < 8 {
                let (opened, stream) = tokio::sync::oneshot::channel();
                swarm.behaviour_mut().open(peer, Carries::Piece, opened);
                waiting.push(stream);
            }
            tokio::select! {
                event = futures::StreamExt::select_next_some(&mut swarm) => {
                    if matches!(event, SwarmEvent::ConnectionClosed { .. }) {
                        return;
                    }
                }
                opened = &mut waiting[0] => {
                    waiting.remove(0);
                    if let Ok(mut stream) = opened {
                        let head = [&[7; 32][..], &[0; 4], &5u32.to_le_bytes()].concat();
                        let _ = stream.write_all(&head).await;
                        let _ = stream.flush().await;
                        streams.push(stream);
                        streams.drain(..streams.len().saturating_sub(8));
                    }
                }
            }
        }
    });
    let banned = node
        .until_event(|event| match event {
            Event::Banned { peer, offence } => Some((peer, offence)),
            _ => None,
        })
        .await;
    let attacker = crate::identity::peer_key(&stop).unwrap();
    assert_eq!(banned, (attacker, Offence::Flood));
    in_time(flood).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_sends_no_blobs_once_its_allowance_is_used_up() {
    let nodes = start_connected(2).await;
    let blob = bytes(30 * CHUNK_BYTES, 3);
    let hash = nodes[0].shelf.put(&blob);
    let allowed = 10 << 20;
    nodes[0].network.set_traffic_left(TrafficLeft {
        sent: Some(allowed),
        received: None,
    });
    let before = nodes[0].network.status().borrow().on_the_wire.sent;
    let fetched = nodes[1].fetch(hash).await;
    assert!(
        matches!(fetched, Err(FetchError::Incomplete { .. })),
        "{:?}",
        fetched.map(|blob| blob.len())
    );
    let status = nodes[0].until_status(|status| !status.sends_blobs).await;
    let sent = status.on_the_wire.sent - before;
    // Pieces that were on their way.
    assert!(sent >= allowed && sent <= allowed + (12 << 20), "{sent}");
    // Gossip and requests go on.
    assert_eq!(
        in_time(nodes[1].network.request(nodes[0].key(), "abc"))
            .await
            .unwrap(),
        "cba"
    );
    nodes[0].network.set_traffic_left(TrafficLeft::default());
    assert!(nodes[1].fetch(hash).await.unwrap() == blob);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_fetches_no_blobs_once_its_allowance_is_used_up() {
    let nodes = start_connected(2).await;
    let blob = bytes(30 * CHUNK_BYTES, 3);
    let hash = nodes[0].shelf.put(&blob);
    nodes[1].network.set_traffic_left(TrafficLeft {
        sent: None,
        received: Some(10 << 20),
    });
    let fetched = nodes[1].fetch(hash).await;
    assert!(
        matches!(fetched, Err(FetchError::LimitReached { hash: of }) if of == hash),
        "{:?}",
        fetched.map(|blob| blob.len())
    );
    nodes[1].network.set_traffic_left(TrafficLeft::default());
    assert!(nodes[1].fetch(hash).await.unwrap() == blob);
}

/// Peers at addresses where nobody is.
fn nobodies(count: usize) -> Vec<(libp2p::PeerId, Multiaddr)> {
    let address = |port: usize| format!("/ip4/127.0.0.1/tcp/{}", 1 + port % 9);
    (0..count)
        .map(|number| {
            let key = crate::identity::keypair(rand::random()).unwrap();
            let peer = key.public().to_peer_id();
            (peer, address(number).parse().unwrap())
        })
        .collect()
}

/// A swarm that takes part in Kademlia and identify, and lies in both.
#[derive(libp2p::swarm::NetworkBehaviour)]
struct Liar {
    identify: libp2p::identify::Behaviour,
    kademlia: libp2p::kad::Behaviour<libp2p::kad::store::MemoryStore>,
}

fn liar(seed: u8) -> Swarm<Liar> {
    let key = crate::identity::keypair([seed; 32]).unwrap();
    let protocols = crate::protocols::Protocols::of_run(&RUN).unwrap();
    let traffic = crate::traffic::Traffic::new(&protocols);
    let built = crate::transport::build(&key, &traffic, &unlimited()).unwrap();
    let local = key.public().to_peer_id();
    let store = libp2p::kad::store::MemoryStore::new(local);
    let config = libp2p::kad::Config::new(protocols.kademlia.clone());
    let mut kademlia = libp2p::kad::Behaviour::with_config(local, store, config);
    kademlia.set_mode(Some(libp2p::kad::Mode::Server));
    for (peer, address) in nobodies(200) {
        kademlia.add_address(&peer, address);
    }
    let identify = libp2p::identify::Config::new(protocols.identify.clone(), key.public());
    let behaviour = Liar {
        identify: libp2p::identify::Behaviour::new(identify),
        kademlia,
    };
    let config = libp2p::swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(Duration::from_secs(600));
    Swarm::new(built.transport, behaviour, local, config)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_find_each_other_among_liars_about_who_is_where() {
    let boot = start_with(1, RUN, settings(Vec::new())).await;
    let known = boot.addresses().await;
    let mut liars = Vec::new();
    for seed in 0..4 {
        let liar = liar(60 + seed);
        liars.push(tokio::spawn(move_all_the_time(liar, known[1].clone())));
    }
    boot.until_status(|status| status.drops.statements_too_many > 50)
        .await;
    let first = start_with(2, RUN, settings(known.clone())).await;
    first.until_status(|status| !status.peers.is_empty()).await;
    let second = start_with(3, RUN, settings(known)).await;
    let knows = |status: &Status| status.peers.iter().any(|peer| peer.peer == first.key());
    second.until_status(knows).await;
    liars.iter().for_each(JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_stream_gives_a_peer_no_more_frames() {
    let node = start_with(1, RUN, settings(Vec::new())).await;
    let mut swarm = forger(&node, 2).await;
    // A frame that takes back a wish: harmless, and never answered.
    let frame = [&33u32.to_le_bytes()[..], &[7], &[5; 32]].concat();
    let began = Instant::now();
    for frames in [4096, 2560] {
        let batch = frame.repeat(frames);
        let mut stream = open(&mut swarm, &node, Carries::Frames).await;
        stream.write_all(&batch).await.unwrap();
        stream.flush().await.unwrap();
        // Nonsense after it is noticed only once all frames before it were read.
        stream.write_all(&u32::MAX.to_le_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let count = node.network.status().borrow().drops.requests_malformed;
        until(&mut swarm, &node, |status| {
            status.drops.requests_malformed > count
        })
        .await;
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1200), "{took:?}");
}

/// Where an attack goes to.
#[derive(Clone)]
struct Target {
    /// Its addresses, QUIC first.
    addresses: Vec<Multiaddr>,
    key: PeerKey,
}

impl Target {
    async fn of(node: &Node) -> Self {
        Self {
            addresses: node.addresses().await,
            key: node.key(),
        }
    }

    fn parse(text: &str) -> Self {
        let addresses: Vec<Multiaddr> = text.split(',').map(|one| one.parse().unwrap()).collect();
        let key = peer_in_address(&addresses[0]).unwrap();
        Self { addresses, key }
    }

    fn port(&self) -> u16 {
        let mut parts = self.addresses.iter().flat_map(|address| address.iter());
        let port = parts.find_map(|part| match part {
            Protocol::Tcp(port) => Some(port),
            _ => None,
        });
        port.unwrap()
    }

    fn tcp(&self) -> Multiaddr {
        self.addresses[1].clone()
    }
}

/// Names the target of [`attack_from_another_process`].
const TARGET: &str = "WEAL_TEST_TARGET";

/// Not a test by itself: [`a_member_fetches_under_all_attacks_at_once`] starts it in a process of
/// its own, and ends that process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_from_another_process() {
    let Ok(target) = std::env::var(TARGET) else {
        return;
    };
    let target = Target::parse(&target);
    let mut tasks = half_open(target.port(), 100);
    for seed in 0..4 {
        let moving = move_all_the_time(liar(60 + seed), target.tcp());
        tasks.push(tokio::spawn(moving));
    }
    for seed in 0..4 {
        let mut swarm = forger_at(target.tcp(), 50 + seed).await;
        let mut held = Vec::new();
        for number in 0..12 {
            let carries = [Carries::Frames, Carries::Piece][number % 2];
            let mut stream = open_to(&mut swarm, &target.key, carries).await;
            let _ = stream.write_all(&[1]).await;
            let _ = stream.flush().await;
            held.push(stream);
        }
        tasks.push(tokio::spawn(async move {
            let _held = held;
            loop {
                futures::StreamExt::select_next_some(&mut swarm).await;
            }
        }));
    }
    for seed in 20..26 {
        let stranger = start_with(seed, RUN, settings(vec![target.tcp()])).await;
        let blob = Outline::of(&bytes(60 * CHUNK_BYTES, seed)).hash();
        tasks.push(tokio::spawn(take_and_spam(stranger, target.key, blob)));
    }
    std::future::pending::<()>().await;
}

/// Fetches, asks and publishes without end.
async fn take_and_spam(stranger: Node, target: PeerKey, blob: BlobHash) {
    let fetch = async {
        loop {
            let _ = stranger.network.fetch(want(blob)).await;
            tokio::task::yield_now().await;
        }
    };
    let ask = async {
        loop {
            let megabyte = (1u64 << 20).to_le_bytes().to_vec();
            let _ = stranger.network.request(target, megabyte).await;
        }
    };
    let spam = async {
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        loop {
            tick.tick().await;
            stranger.network.gossip(rand::random::<[u8; 32]>().to_vec());
        }
    };
    tokio::join!(fetch, ask, spam);
}

/// Tells a peer all the time that it has moved.
async fn move_all_the_time(mut liar: Swarm<Liar>, to: Multiaddr) {
    let _ = liar.dial(to);
    let mut said = 0u32;
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    loop {
        tokio::select! {
            _ = futures::StreamExt::select_next_some(&mut liar) => {}
            _ = tick.tick() => {
                said += 1;
                let port = 1 + said % 60_000;
                let address = format!("/ip4/10.9.8.7/tcp/{port}").parse().unwrap();
                liar.add_external_address(address);
                let peers: Vec<_> = liar.connected_peers().copied().collect();
                liar.behaviour_mut().identify.push(peers);
            }
        }
    }
}

/// Judges every message useless, as a node that spam reaches does.
async fn read_events(network: Network, mut events: Events) {
    while let Some(event) = events.recv().await {
        if let Event::Gossip { id, .. } = event {
            network.verdict(id, GossipVerdict::Ignore).await;
        }
    }
}

fn no_events() -> Events {
    let (_, events) = tokio::sync::mpsc::channel(1);
    Events::new(
        events,
        Arc::new(crate::backlog::Backlog::new(Arc::default())),
    )
}

/// The process that attacks, until this is dropped.
struct Attacker(std::process::Child);

impl Attacker {
    /// It has a low priority, since it is not its work on this machine that is the attack.
    fn start(target: &Target) -> Self {
        let addresses: Vec<_> = target.addresses.iter().map(ToString::to_string).collect();
        let program = std::env::current_exe().unwrap();
        let mut command = std::process::Command::new("nice");
        command.arg("-n").arg("10").arg(program);
        let name = "tests::hostile::attack_from_another_process";
        command.args(["--exact", name, "--nocapture"]);
        command.env(TARGET, addresses.join(","));
        command.stdout(std::process::Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The memory of this process in MiB, where the system tells.
fn resident_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024)
}

/// Fetches by a member from a node whose uplink is limited, alone and under all attacks of this
/// file at once. The limit makes both times comparable. They are printed, and only the outcome is
/// tested, since other programs may take the machine's time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_fetches_under_all_attacks_at_once() {
    let chunks = if weal_testing::require::full() {
        192
    } else {
        16
    };
    let limited = Settings {
        max_upload: std::num::NonZeroU64::new(8 << 20),
        ..settings(Vec::new())
    };
    let mut seeder = start_with(1, RUN, limited).await;
    let alone = Settings {
        max_connections: 1,
        ..settings(seeder.addresses().await)
    };
    let honest = start_with(2, RUN, alone).await;
    honest.until_status(|status| status.peers.len() == 1).await;
    seeder.network.set_members([honest.key()]);
    let events = std::mem::replace(&mut seeder.events, no_events());
    tokio::spawn(read_events(seeder.network.clone(), events));
    for seed in 20..26 {
        seeder.shelf.put(&bytes(60 * CHUNK_BYTES, seed));
    }
    let fetch = |seed: u8| {
        let blob = bytes(chunks * CHUNK_BYTES, seed);
        let hash = seeder.shelf.put(&blob);
        let honest = &honest;
        async move {
            let began = Instant::now();
            assert!(honest.fetch(hash).await.unwrap() == blob);
            began.elapsed()
        }
    };
    let before = fetch(1).await;
    let memory = resident_mib();
    let attacker = Attacker::start(&Target::of(&seeder).await);
    // On a busy machine the attack begins slowly.
    seeder
        .until_status(|status| status.peers.len() >= 2 && status.drops.address_block_full > 0)
        .await;
    let during = fetch(2).await;
    let drops = seeder.network.status().borrow().drops;
    let memory = memory.zip(resident_mib());
    drop(attacker);
    println!(
        "{chunks} MiB in {before:.2?}, under attack in {during:.2?}; MiB of memory before and \
         during: {memory:?}; {drops:?}"
    );
}
