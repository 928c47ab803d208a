//! The task that owns the swarm: it takes commands, passes events on, and looks after time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::bytes::Bytes;
use libp2p::core::transport::ListenerId;
use libp2p::gossipsub::{MessageAcceptance, PublishError};
use libp2p::request_response::OutboundRequestId;
use libp2p::swarm::DialError;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::{Multiaddr, PeerId, Swarm, swarm};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::behaviour::Behaviour;
use super::dialling::{Dialler, Failed, Purpose, named};
use super::frames::Answer;
use super::identity::{Protocols, keypair, peer_key};
use super::listening::released;
use super::peers::Peers;
use super::reputation::Reputation;
use super::serve::{Exchange, Server};
use super::status::Counters;
use super::traffic::Traffic;
use super::{
    Error, Event, GossipId, Offence, PeerKey, RequestError, Service, Settings, Status, Verdict,
    transport,
};

/// How often time is looked after: calls that are due, the status, what has faded.
const TICK: Duration = Duration::from_millis(500);
/// Connections that are not closed by then are dropped.
pub(super) const CLOSING: Duration = Duration::from_secs(2);
/// Own messages kept for the first peer that comes.
const GOSSIP_KEPT: usize = 128;
/// Events other than gossip kept while the node does not read.
const EVENTS_KEPT: usize = 256;

/// What the handle asks of the task.
pub(super) enum Command {
    Verdict {
        id: GossipId,
        verdict: Verdict,
    },
    Ask {
        exchange: Exchange,
        peer: PeerId,
        request: Bytes,
        reply: Reply,
    },
    Offended {
        peer: PeerId,
        offence: Offence,
    },
    Dial(Multiaddr),
    Shutdown(oneshot::Sender<()>),
}

/// Where the answer to a request goes.
pub(super) type Reply = oneshot::Sender<Result<Answer, RequestError>>;

/// The ends of the queues that the task holds.
pub(super) struct Queues {
    pub gossip: mpsc::Receiver<Bytes>,
    pub commands: mpsc::Receiver<Command>,
    pub events: mpsc::Sender<Event>,
    pub status: watch::Sender<Status>,
}

/// The task's state. Its methods stand by what they are about: here the loop, commands and time; in
/// `swarm_events` what the swarm tells; in `exchange` requests and answers.
pub(super) struct Driver {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) protocols: Protocols,
    pub(super) local: PeerKey,
    pub(super) queues: Queues,
    pub(super) counters: Arc<Counters>,
    pub(super) traffic: Arc<Traffic>,
    pub(super) peers: Peers,
    pub(super) dialler: Dialler,
    pub(super) reputation: Reputation,
    pub(super) server: Server,
    pub(super) asked: HashMap<(Exchange, OutboundRequestId), Reply>,
    /// Listeners without an address yet.
    pub(super) starting: HashMap<ListenerId, Multiaddr>,
    /// Peers that are of another run, and when that was seen.
    pub(super) strangers: HashMap<PeerId, Instant>,
    /// Peers whose address was asked of Kademlia, and when.
    pub(super) looked_up: HashMap<PeerId, Instant>,
    /// Own gossip for the first peer that comes.
    kept_gossip: VecDeque<Bytes>,
    /// Events that found the queue full.
    kept_events: VecDeque<Event>,
}

impl Driver {
    /// Puts the swarm together and listens.
    pub(super) async fn listen(
        secret: [u8; 32],
        run: &[u8; 32],
        settings: &Settings,
        service: Arc<dyn Service>,
        counters: Arc<Counters>,
        queues: Queues,
    ) -> Result<Self, Error> {
        let key = keypair(secret)?;
        let protocols = Protocols::of_run(run)?;
        let traffic = Traffic::new(&protocols);
        let transport = transport::build(&key, &traffic)?;
        let behaviour = Behaviour::new(&key, &protocols, settings)?;
        let config = swarm::Config::with_tokio_executor()
            .with_smart_dial()
            .with_idle_connection_timeout(settings.idle_timeout);
        let local = key.public().to_peer_id();
        let mut driver = Self {
            swarm: Swarm::new(transport, behaviour, local, config),
            protocols,
            local: peer_key(&local).ok_or(Error::Key)?,
            queues,
            server: Server::new(service, Arc::clone(&counters)),
            counters,
            traffic,
            peers: Peers::default(),
            dialler: Dialler::default(),
            reputation: Reputation::default(),
            asked: HashMap::new(),
            starting: HashMap::new(),
            strangers: HashMap::new(),
            looked_up: HashMap::new(),
            kept_gossip: VecDeque::new(),
            kept_events: VecDeque::new(),
        };
        driver.open(&settings.listen).await?;
        for address in &settings.external {
            driver.swarm.add_external_address(address.clone());
        }
        let now = Instant::now();
        for address in &settings.bootstrap {
            driver.dialler.add(address.clone(), Purpose::Bootstrap, now);
        }
        Ok(driver)
    }

    pub(super) fn local(&self) -> PeerKey {
        self.local
    }

    /// Runs until the shutdown, or until every handle is dropped.
    pub(super) async fn run(mut self) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let events = self.queues.events.clone();
        let done = loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
                command = self.queues.commands.recv() => match command {
                    Some(Command::Shutdown(done)) => break Some(done),
                    Some(command) => self.on_command(command),
                    None => break None,
                },
                Some(bytes) = self.queues.gossip.recv() => self.publish(bytes),
                ready = self.server.ready(), if self.server.is_working() => self.send_answer(ready),
                permit = events.reserve(), if !self.kept_events.is_empty() => {
                    if let (Ok(permit), Some(event)) = (permit, self.kept_events.pop_front()) {
                        permit.send(event);
                    }
                }
                _ = tick.tick() => self.on_tick(Instant::now()),
            }
        };
        let held = self.close().await;
        drop(self);
        released(&held).await;
        if let Some(done) = done {
            let _ = done.send(());
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Verdict { id, verdict } => self.judge(&id, verdict),
            Command::Ask {
                exchange,
                peer,
                request,
                reply,
            } => self.ask(exchange, peer, request, reply),
            Command::Offended { peer, offence } => self.offended(peer, offence),
            Command::Dial(address) => {
                self.dialler.add(address, Purpose::Known, Instant::now());
                self.call_due(Instant::now());
            }
            Command::Shutdown(_) => {}
        }
    }

    fn on_tick(&mut self, now: Instant) {
        self.call_due(now);
        for peer in self.peers.silent(now) {
            self.turn_away(peer, String::new());
        }
        for peer in self.reputation.readmitted(now) {
            self.swarm.behaviour_mut().shut_out.unblock_peer(peer);
        }
        self.forget_old(now);
        self.publish_status();
    }

    /// Calls every address that is due.
    pub(super) fn call_due(&mut self, now: Instant) {
        for address in self.dialler.due(self.peers.admitted(), now) {
            // Without its name a peer that is connected already would get a second connection.
            let options = match named(&address) {
                Some(peer) => DialOpts::peer_id(peer)
                    .addresses(vec![address.clone()])
                    .build(),
                None => DialOpts::from(address.clone()),
            };
            let connection = options.connection_id();
            match self.swarm.dial(options) {
                Ok(()) => self.dialler.calling(&address, connection),
                Err(DialError::DialPeerConditionFalse(_)) => match named(&address) {
                    Some(peer) if self.swarm.is_connected(&peer) => {
                        self.dialler.connected(connection, peer)
                    }
                    _ => self.dialler.postpone(&address, now),
                },
                Err(error) => {
                    let failed = self.dialler.failed_at_once(&address, now);
                    self.report(failed, &why(&error));
                }
            }
        }
    }

    /// Tells of a failed bootstrap address; other failures are no news.
    pub(super) fn report(&mut self, failed: impl IntoIterator<Item = Failed>, why: &str) {
        for Failed {
            address,
            purpose,
            retry_in,
        } in failed
        {
            tracing::debug!("{address} could not be reached: {why}");
            if let (Purpose::Bootstrap, Some(retry_in)) = (purpose, retry_in) {
                self.tell(Event::BootstrapFailed {
                    address,
                    why: why.into(),
                    retry_in,
                });
            }
        }
    }

    fn publish(&mut self, bytes: Bytes) {
        let topic = self.protocols.topic.clone();
        match self
            .swarm
            .behaviour_mut()
            .gossip
            .publish(topic, bytes.clone())
        {
            Ok(_) => {}
            Err(PublishError::NoPeersSubscribedToTopic) => {
                self.kept_gossip.push_back(bytes);
                if self.kept_gossip.len() > GOSSIP_KEPT {
                    self.kept_gossip.pop_front();
                    self.counters.gossip_without_peers.one();
                }
            }
            Err(PublishError::Duplicate) => self.counters.gossip_repeated.one(),
            Err(PublishError::MessageTooLarge) => self.counters.gossip_too_large.one(),
            Err(PublishError::AllQueuesFull(_)) => self.counters.gossip_peers_slow.one(),
            Err(error) => tracing::error!("a gossip message could not be sent: {error}"),
        }
    }

    /// A peer takes gossip now: it gets what was kept.
    pub(super) fn publish_kept(&mut self) {
        for bytes in std::mem::take(&mut self.kept_gossip) {
            self.publish(bytes);
        }
    }

    pub(super) fn judge(&mut self, id: &GossipId, verdict: Verdict) {
        let acceptance = match verdict {
            Verdict::Accept => MessageAcceptance::Accept,
            Verdict::Ignore => MessageAcceptance::Ignore,
            Verdict::Reject => MessageAcceptance::Reject,
        };
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        if !gossip.report_message_validation_result(&id.message, &id.source, acceptance) {
            self.counters.verdicts_late.one();
        }
    }

    /// Counts an offence, lowers the peer's standing in gossip, and shuts it out when it is one too
    /// many.
    pub(super) fn offended(&mut self, peer: PeerId, offence: Offence) {
        match offence {
            Offence::BadChunk => self.counters.chunks_bad.one(),
            Offence::BadOutline => self.counters.outlines_bad.one(),
            Offence::MalformedAnswer => self.counters.answers_malformed.one(),
            Offence::MalformedRequest => self.counters.requests_malformed.one(),
        }
        let now = Instant::now();
        let shuts_out = self.reputation.offended(peer, offence, now);
        let demerits = self.reputation.demerits(&peer, now);
        self.swarm
            .behaviour_mut()
            .gossip
            .set_application_score(&peer, -demerits);
        tracing::info!("peer {peer} offended ({offence:?}), {demerits:.0} demerits");
        if shuts_out {
            self.counters.shut_out.one();
            self.swarm.behaviour_mut().shut_out.block_peer(peer);
            self.dialler.refused(peer, now);
            if let Some(key) = peer_key(&peer) {
                self.tell(Event::ShutOut { peer: key, offence });
            }
        }
    }

    /// Passes an event on. Gossip that finds the queue full is ignored; other events wait, the
    /// oldest giving way.
    pub(super) fn tell(&mut self, event: Event) {
        let refused = match self.kept_events.is_empty() {
            true => self
                .queues
                .events
                .try_send(event)
                .err()
                .map(mpsc::error::TrySendError::into_inner),
            false => Some(event),
        };
        match refused {
            None => {}
            Some(Event::Gossip { id, .. }) => {
                self.counters.gossip_unread.one();
                self.judge(&id, Verdict::Ignore);
            }
            Some(event) => {
                self.kept_events.push_back(event);
                if self.kept_events.len() > EVENTS_KEPT {
                    self.kept_events.pop_front();
                    self.counters.events_unread.one();
                }
            }
        }
    }

    pub(super) fn publish_status(&mut self) {
        let local = *self.swarm.local_peer_id();
        let (external, listeners) = (self.swarm.external_addresses(), self.swarm.listeners());
        let mut listen: Vec<_> = external
            .chain(listeners)
            .filter_map(|a| a.clone().with_p2p(local).ok())
            .collect();
        let mut seen = std::collections::HashSet::new();
        listen.retain(|address| seen.insert(address.clone()));
        let status = Status {
            listen,
            peers: self.peers.status(&self.traffic),
            traffic: self.traffic.by_kind(),
            drops: self.counters.read(),
        };
        self.queues.status.send_if_modified(|last| {
            let differs = *last != status;
            *last = status;
            differs
        });
    }

    /// Lets every peer know; gives the addresses that were listened on.
    async fn close(&mut self) -> Vec<Multiaddr> {
        let held = self.swarm.listeners().cloned().collect();
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
        let _ = timeout(CLOSING, all_closed).await;
        self.queues.status.send_modify(|status| {
            status.listen.clear();
            status.peers.clear();
        });
        held
    }
}

/// Why a call failed, in the words of the part that knows.
pub(super) fn why(error: &DialError) -> String {
    match error {
        DialError::Transport(attempts) => match attempts.last() {
            Some((_, error)) => innermost(error),
            None => "no address to call".into(),
        },
        DialError::WrongPeerId { obtained, .. } => {
            format!("another peer answers there: {obtained}")
        }
        DialError::Denied { cause } => innermost(cause),
        error => error.to_string(),
    }
}

pub(super) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
