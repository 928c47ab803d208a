//! Whole swarms in virtual time: real pickers, and links along which bytes flow like a fluid.

mod fluid;
mod scenarios;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use weal_proto::{BlobHash, Outline};

use self::fluid::{Flow, Links};
use super::bits::Bits;
use super::frame::{Frame, Priority};
use super::picker::{Action, Arrived, Gift, GiftId, Order, Picker};
use crate::identity::PeerKey;
use crate::members::Members;
use crate::service::Found;

/// From one peer to another.
const LATENCY: Duration = Duration::from_millis(20);
/// How long bytes wait in a home's router while its uplink is busy.
const QUEUE: Duration = Duration::from_millis(100);
const TICK: Duration = Duration::from_millis(100);
/// No scenario takes longer.
const END: Duration = Duration::from_secs(600);

/// How a peer behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Honest,
    /// Its pieces have wrong bytes.
    Liar,
    /// It sends and reads at the least rate that keeps a stream open.
    Drip,
    /// It asks and takes, but sends nothing.
    Leech,
    /// It is gone after this time.
    Vanishes(Duration),
}

/// What happens at a peer at some time.
enum Event {
    Frame { from: usize, frame: Frame },
    Offered(u64),
    Welcome(u64),
    Arrives(u64),
    Given(GiftId, bool),
    Refused(u64),
    Tick,
    Vanish,
}

struct Node {
    picker: Picker,
    kind: Kind,
    /// Complete blobs.
    shelf: BTreeMap<BlobHash, Arc<Outline>>,
    done: BTreeMap<BlobHash, Duration>,
    /// When its first piece arrived.
    first: Option<Duration>,
    wants: BTreeSet<BlobHash>,
}

/// Peers, and what flows between them.
struct Swarm {
    start: Instant,
    now: Duration,
    nodes: Vec<Node>,
    links: Links,
    events: BTreeMap<(Duration, u64), (usize, Event)>,
    sequence: u64,
    /// Bytes of pieces that were sent and not used.
    wasted: f64,
    failures: usize,
}

impl Swarm {
    fn new(kinds: &[Kind], seed: u64) -> Self {
        let nodes: Vec<_> = kinds
            .iter()
            .zip(seed..)
            .map(|(kind, seed)| Node {
                picker: Picker::new(Arc::new(Members::default()), seed),
                kind: *kind,
                shelf: BTreeMap::new(),
                done: BTreeMap::new(),
                first: None,
                wants: BTreeSet::new(),
            })
            .collect();
        let mut swarm = Self {
            start: Instant::now(),
            now: Duration::ZERO,
            links: Links::new(nodes.len()),
            nodes,
            events: BTreeMap::new(),
            sequence: 0,
            wasted: 0.0,
            failures: 0,
        };
        for node in 0..kinds.len() {
            let others = (0..kinds.len()).filter(|other| *other != node);
            for other in others {
                let now = swarm.instant();
                swarm.nodes[node].picker.connected(key(other), now);
            }
            swarm.schedule(node, TICK, Event::Tick);
            if let Kind::Vanishes(when) = kinds[node] {
                swarm.schedule(node, when, Event::Vanish);
            }
        }
        swarm
    }

    fn instant(&self) -> Instant {
        self.start + self.now
    }

    fn schedule(&mut self, node: usize, after: Duration, event: Event) {
        self.sequence += 1;
        let at = (self.now + after, self.sequence);
        self.events.insert(at, (node, event));
    }

    /// A node sends something short to another.
    fn send(&mut self, from: usize, to: usize, event: Event) {
        let queue = match self.links.is_sending(from) {
            true => QUEUE,
            false => Duration::ZERO,
        };
        self.schedule(to, queue + LATENCY, event);
    }

    /// A node has this blob from the start.
    fn publish(&mut self, node: usize, outline: &Arc<Outline>) {
        let shelf = &mut self.nodes[node].shelf;
        shelf.insert(outline.hash(), Arc::clone(outline));
    }

    fn want(&mut self, node: usize, outline: &Outline) {
        let order = Order {
            blob: outline.hash(),
            priority: Priority::Examine,
            max_bytes: outline.bytes,
            patience: Duration::from_secs(10),
        };
        self.nodes[node].wants.insert(order.blob);
        let now = self.instant();
        self.nodes[node].picker.want(order, now);
        self.act(node);
    }

    /// Runs until every peer that counts has every blob that it wants. Returns when that was.
    fn run(&mut self) -> Duration {
        while self.now < END {
            if self.is_done() {
                return self.now;
            }
            let next_event = self.events.first_key_value().map_or(END, |(at, _)| at.0);
            match self.links.next(self.now) {
                Some((at, flow)) if at <= next_event => {
                    self.advance(at);
                    self.links.drained(flow);
                    let to = self.links.flow(flow).map_or(0, |flow| flow.to);
                    self.schedule(to, QUEUE + LATENCY, Event::Arrives(flow));
                }
                _ => {
                    self.advance(next_event);
                    if let Some((_, (node, event))) = self.events.pop_first() {
                        self.happens(node, event);
                    }
                }
            }
        }
        panic!("the swarm does not end; {} fetches failed", self.failures);
    }

    fn is_done(&self) -> bool {
        let mut honest = self.nodes.iter().filter(|node| node.kind == Kind::Honest);
        honest.all(|node| node.wants.iter().all(|blob| node.done.contains_key(blob)))
    }

    fn advance(&mut self, to: Duration) {
        self.links.flow_for(to.saturating_sub(self.now));
        self.now = to;
    }

    fn happens(&mut self, node: usize, event: Event) {
        let now = self.instant();
        if matches!(self.nodes[node].kind, Kind::Vanishes(when) if when < self.now) {
            return;
        }
        let picker = &mut self.nodes[node].picker;
        match event {
            Event::Frame { from, frame } => picker.heard(key(from), frame, now),
            Event::Tick => {
                picker.tick(now);
                self.schedule(node, TICK, Event::Tick);
            }
            Event::Given(id, arrived) => picker.given(id, arrived, now),
            Event::Offered(flow) => self.offered(node, flow),
            Event::Welcome(flow) => {
                if let Some(gift) = self.links.begin(flow) {
                    picker.welcome(gift, now);
                }
            }
            Event::Arrives(flow) => self.arrives(node, flow),
            Event::Refused(flow) => {
                if let Some(flow) = self.links.remove(flow) {
                    self.wasted += flow.bytes - flow.left;
                    let picker = &mut self.nodes[node].picker;
                    picker.given(flow.gift, false, now);
                }
            }
            Event::Vanish => self.vanish(node),
        }
        self.act(node);
    }

    fn offered(&mut self, node: usize, id: u64) {
        let now = self.instant();
        let Some(flow) = self.links.flow(id).cloned() else {
            return;
        };
        let picker = &mut self.nodes[node].picker;
        let welcome = picker.begun(key(flow.from), &flow.blob, flow.piece, now);
        let answer = match welcome {
            Some(_) => Event::Welcome(id),
            None => Event::Refused(id),
        };
        self.send(node, flow.from, answer);
    }

    fn arrives(&mut self, node: usize, id: u64) {
        let now = self.instant();
        let Some(flow) = self.links.remove(id) else {
            return;
        };
        let how = match self.nodes[flow.from].kind {
            Kind::Liar => Arrived::Forged,
            _ => Arrived::Stored,
        };
        self.nodes[node].first.get_or_insert(self.now);
        let picker = &mut self.nodes[node].picker;
        picker.ended(key(flow.from), (&flow.blob, flow.piece), how, now);
        let given = Event::Given(flow.gift, how == Arrived::Stored);
        self.send(node, flow.from, given);
    }

    fn vanish(&mut self, gone: usize) {
        let now = self.instant();
        for flow in self.links.remove_of(gone) {
            let (blob, piece) = (&flow.blob, flow.piece);
            if flow.to == gone {
                self.nodes[flow.from].picker.given(flow.gift, false, now);
            } else {
                let picker = &mut self.nodes[flow.to].picker;
                picker.ended(key(gone), (blob, piece), Arrived::Failed, now);
            }
        }
        for node in 0..self.nodes.len() {
            self.nodes[node].picker.disconnected(&key(gone));
            self.act(node);
        }
    }

    /// Carries out what a picker asks for.
    fn act(&mut self, node: usize) {
        loop {
            let actions = self.nodes[node].picker.actions();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                self.carry_out(node, action);
            }
        }
    }

    fn carry_out(&mut self, node: usize, action: Action) {
        let now = self.instant();
        match action {
            Action::Send { to, frame } => {
                let from = node;
                self.send(node, place(&to), Event::Frame { from, frame });
            }
            Action::Give(gift) => self.give(node, gift),
            Action::StopTaking { from, blob, piece } => {
                if let Some(flow) = self.links.find(place(&from), node, &blob, piece) {
                    self.send(node, place(&from), Event::Refused(flow));
                }
            }
            Action::LookUp { blob } => {
                let found = self.nodes[node].shelf.get(&blob).cloned();
                let picker = &mut self.nodes[node].picker;
                picker.looked_up(&blob, Found::from(found), now);
            }
            Action::Prepare { blob, outline } => {
                let none = Bits::none(outline.chunks.len() as u32);
                self.nodes[node].picker.prepared(&blob, none, now);
            }
            Action::Done { blob } => {
                let at = self.now;
                self.nodes[node].done.insert(blob, at);
                self.nodes[node].picker.end(&blob, now);
            }
            Action::Failed { blob, .. } => {
                self.failures += 1;
                self.nodes[node].picker.end(&blob, now);
            }
            Action::Blame { .. } => {}
        }
    }

    fn give(&mut self, node: usize, gift: Gift) {
        if self.nodes[node].kind == Kind::Leech {
            return;
        }
        let to = place(&gift.to);
        let drips = [node, to].map(|node| self.nodes[node].kind == Kind::Drip);
        let bytes = gift.bytes as f64;
        let id = self.links.add(Flow {
            from: node,
            to,
            blob: gift.blob,
            piece: gift.piece,
            gift: gift.id,
            bytes,
            left: bytes,
            drips: drips.contains(&true),
            flows: false,
        });
        self.send(node, to, Event::Offered(id));
        if !gift.waits {
            self.links.begin(id);
        }
    }
}

fn key(node: usize) -> PeerKey {
    [node as u8; 32]
}

fn place(key: &PeerKey) -> usize {
    usize::from(key[0])
}
