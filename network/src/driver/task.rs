//! The driver's state, its loop, its timer and its shutdown.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::bytes::Bytes;
use libp2p::core::transport::ListenerId;
use libp2p::request_response::OutboundRequestId;
use libp2p::{Multiaddr, PeerId, Swarm, swarm};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::event_queue::EventQueue;
use super::reconnected::Reconnected;
use super::setup::{Queues, Setup};
use crate::addresses::is_relayed;
use crate::allowance::Allowance;
use crate::behaviour::{Behaviour, Parts};
use crate::command::{Command, Reply};
use crate::dialler::{Dialler, Purpose};
use crate::error::Error;
use crate::floods::Floods;
use crate::host_names::numeric;
use crate::identity::{PeerKey, keypair, peer_key};
use crate::limits::{NEGOTIATING_STREAMS, STATEMENTS};
use crate::members::{Members, Standing};
use crate::noise::Noise;
use crate::origin::Origin;
use crate::peers::Peers;
use crate::protocols::Protocols;
use crate::quota::{Quota, User};
use crate::reachability::{Observations, Reachability};
use crate::relays::Relays;
use crate::reputation::Reputation;
use crate::routes::Routes;
use crate::serve::Server;
use crate::sessions::{HeardSessions, KeyUse, OwnSession};
use crate::status::{Counters, HolePunches, PortMapping, Status};
use crate::stream_places::StreamPlaces;
use crate::swarm::Input;
use crate::traffic::Traffic;
use crate::transport::{self, CLOSE_TIMEOUT};

/// Period of the timer that dials, updates the status and forgets old entries.
const TICK: Duration = Duration::from_millis(500);

/// The state of the driver.
pub(crate) struct Driver {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) protocols: Protocols,
    local: PeerKey,
    gossip: mpsc::Receiver<Bytes>,
    commands: mpsc::Receiver<Command>,
    pub(super) events: EventQueue,
    status: watch::Sender<Status>,
    pub(super) counters: Arc<Counters>,
    pub(super) traffic: Arc<Traffic>,
    /// What this node may still send and receive.
    pub(super) allowance: Arc<Allowance>,
    pub(super) members: Arc<Members>,
    pub(super) peers: Peers,
    pub(super) dialler: Dialler,
    pub(super) reputation: Reputation,
    pub(super) noise: Noise,
    /// What peers may say about themselves and their sessions.
    pub(super) statements: Quota,
    /// Who is in Kademlia's table.
    pub(super) routes: Routes,
    /// What peers send unasked.
    pub(super) floods: Floods,
    pub(super) server: Server,
    /// Requests of this node that wait for an answer.
    pub(super) requests: HashMap<OutboundRequestId, Reply>,
    /// Takes the streams for blobs that peers open.
    pub(super) blobs: mpsc::Sender<Input>,
    /// Listeners without an address yet.
    pub(super) starting: HashMap<ListenerId, Multiaddr>,
    /// Peers of other runs, and when each was seen.
    pub(super) strangers: HashMap<PeerId, Instant>,
    /// Peers that were reconnected because they announced no topic.
    pub(super) reconnected: Reconnected,
    /// Peers whose address Kademlia was asked for, and when.
    pub(super) lookups: HashMap<PeerId, Instant>,
    /// This process, if it takes part under its key.
    pub(super) session: Option<OwnSession>,
    /// When every peer was told of this session.
    pub(super) session_told: Option<Instant>,
    /// What peers said about their sessions.
    pub(super) heard_sessions: HeardSessions,
    pub(super) key_use: watch::Sender<KeyUse>,
    /// Gossip of this node that waits for the first peer.
    pub(super) early_gossip: VecDeque<Bytes>,
    pub(super) observations: Observations,
    pub(super) reachability: Reachability,
    pub(super) relays: Relays,
    /// Peers that keep a place at this node.
    pub(super) relayed_peers: HashSet<PeerId>,
    pub(super) port_mapping: PortMapping,
    pub(super) hole_punches: HolePunches,
}

impl Driver {
    /// Builds the swarm and listens.
    pub(crate) async fn listen(setup: Setup<'_>, queues: Queues) -> Result<Self, Error> {
        let settings = setup.settings;
        let key = keypair(setup.secret)?;
        let (protocols, traffic) = (setup.protocols, setup.traffic);
        let (members, counters) = (Arc::clone(&setup.members), Arc::clone(&setup.counters));
        let places = StreamPlaces::new(members, counters);
        let built = transport::build(&key, &traffic, &places)?;
        let parts = Parts {
            upload: setup.upload,
            relay_client: built.relay_client,
            members: Arc::clone(&setup.members),
            counters: Arc::clone(&setup.counters),
        };
        let behaviour = Behaviour::new(&key, &protocols, settings, parts)?;
        let config = swarm::Config::with_tokio_executor()
            .with_smart_dial()
            .with_max_negotiating_inbound_streams(NEGOTIATING_STREAMS)
            .with_idle_connection_timeout(settings.idle_timeout);
        let local = key.public().to_peer_id();
        let session = settings.session.clone();
        let session = session.map(|session| OwnSession::new(key, *setup.run, session));
        let mut driver = Self {
            swarm: Swarm::new(built.transport, behaviour, local, config),
            protocols,
            local: peer_key(&local).ok_or(Error::Key)?,
            gossip: queues.gossip,
            commands: queues.commands,
            events: EventQueue::new(queues.events, setup.backlog, Arc::clone(&setup.counters)),
            status: queues.status,
            server: Server::new(
                setup.service,
                Arc::clone(&setup.counters),
                (setup.uplink, settings.max_upload),
            ),
            counters: setup.counters,
            traffic,
            allowance: setup.allowance,
            members: setup.members,
            peers: Peers::default(),
            dialler: Dialler::default(),
            reputation: Reputation::default(),
            noise: Noise::default(),
            statements: Quota::new(STATEMENTS, Instant::now()),
            routes: Routes::default(),
            floods: Floods::new(),
            requests: HashMap::new(),
            blobs: queues.blobs,
            starting: HashMap::new(),
            strangers: HashMap::new(),
            reconnected: Reconnected::default(),
            lookups: HashMap::new(),
            session,
            session_told: None,
            heard_sessions: HeardSessions::default(),
            key_use: queues.key_use,
            early_gossip: VecDeque::new(),
            observations: Observations::new(settings.listen.is_empty()),
            reachability: Reachability::default(),
            relays: Relays::default(),
            relayed_peers: HashSet::new(),
            port_mapping: if settings.upnp {
                PortMapping::Searching
            } else {
                PortMapping::Off
            },
            hole_punches: HolePunches::default(),
        };
        driver.open(&settings.listen).await?;
        for address in &settings.external {
            driver.swarm.add_external_address(numeric(address));
        }
        let now = Instant::now();
        for address in &settings.bootstrap {
            driver.dialler.add(address.clone(), Purpose::Bootstrap, now);
        }
        Ok(driver)
    }

    /// This node's key.
    pub(crate) fn local(&self) -> PeerKey {
        self.local
    }

    /// A connected peer, as one that uses this node's work and bandwidth.
    pub(super) fn user(&self, peer: PeerId) -> User {
        let address = self.peers.address(&peer);
        let key = peer_key(&peer);
        User {
            peer,
            origin: address.map_or(Origin::Relayed, Origin::of),
            standing: key.map_or(Standing::Stranger, |key| self.members.standing(&key)),
        }
    }

    /// Runs until the shutdown, or until every handle is dropped.
    pub(crate) async fn run(mut self) {
        let done = self.serve().await;
        let held = self.close().await;
        drop(self);
        transport::released(&held).await;
        if let Some(done) = done {
            let _ = done.send(());
        }
    }

    /// The loop. Returns whom to tell about the end of the shutdown, if anyone.
    async fn serve(&mut self) -> Option<oneshot::Sender<()>> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
                command = self.commands.recv() => match command {
                    Some(Command::Shutdown(done)) => return Some(done),
                    Some(command) => self.on_command(command),
                    None => return None,
                },
                Some(bytes) = self.gossip.recv() => self.publish(bytes),
                ready = self.server.ready(), if self.server.is_working() => self.send_answer(ready),
                () = self.events.send_waiting(), if self.events.has_waiting() => {}
                _ = tick.tick() => self.on_tick(Instant::now()),
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Verdict { id, verdict } => self.judged(&id, verdict),
            Command::Request {
                peer,
                request,
                reply,
            } => self.request(peer, request, reply),
            Command::Reach(peer) => self.reach(peer),
            Command::Open {
                peer,
                carries,
                opened,
            } => self.swarm.behaviour_mut().blob.open(peer, carries, opened),
            Command::Offended { peer, offence } => self.offended(peer, offence),
            Command::Dial(address) => {
                self.dialler.add(address, Purpose::Known, Instant::now());
                self.dial_due(Instant::now());
            }
            Command::Shutdown(_) => {}
        }
    }

    fn on_tick(&mut self, now: Instant) {
        self.dial_due(now);
        for peer in self.peers.silent(now) {
            self.turn_away(peer, String::new());
        }
        self.end_bans(now);
        self.notice_floods(now);
        self.forget_strangers(now);
        self.reconnect_unsubscribed(now);
        self.tell_sessions(now);
        self.update_reachability(now);
        self.keep_relays(now);
        self.close_superfluous(now);
        self.publish_status();
    }

    pub(super) fn publish_status(&mut self) {
        let local = *self.swarm.local_peer_id();
        let (external, listeners) = (self.swarm.external_addresses(), self.swarm.listeners());
        let mut listen: Vec<_> = external
            .chain(listeners)
            .filter_map(|address| address.clone().with_p2p(local).ok())
            .collect();
        let mut seen = HashSet::new();
        listen.retain(|address| seen.insert(address.clone()));
        let status = Status {
            listen,
            reachability: self.reachability.clone(),
            port_mapping: self.port_mapping,
            hole_punches: self.hole_punches,
            relayed_peers: self.relayed_peers.len(),
            peers: self.peers.status(&self.traffic),
            traffic: self.traffic.by_kind(),
            on_the_wire: self.allowance.used(),
            sends_blobs: self.allowance.sends(),
            receives_blobs: self.allowance.receives(),
            drops: self.counters.read(),
        };
        self.status.send_if_modified(|last| {
            let differs = *last != status;
            *last = status;
            differs
        });
    }

    /// Closes every connection. Returns the addresses that the node listened on.
    async fn close(&mut self) -> Vec<Multiaddr> {
        let listeners = self.swarm.listeners();
        let own = listeners.filter(|address| !is_relayed(address));
        let held = own.cloned().collect();
        let peers: Vec<_> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let all_closed = async {
            while self.swarm.network_info().num_peers() > 0 {
                let event = self.swarm.select_next_some().await;
                self.on_swarm_event(event);
            }
        };
        let _ = timeout(CLOSE_TIMEOUT, all_closed).await;
        self.status.send_modify(|status| {
            status.listen.clear();
            status.peers.clear();
        });
        held
    }
}
