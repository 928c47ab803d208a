//! Requests from peer to peer, and their answers.

use weal_proto::{Decided, Message as _, RoundNumber, Status, limits};

use super::audit::Violation;
use super::event::{Event, Local, Request};
use super::network::{Parcel, TrafficKind};
use super::world::World;
use crate::host::answers;
use crate::interface::input::Input;
use crate::interface::time::Millis;

/// Bytes of a request, and of a short answer.
const SHORT_BYTES: u64 = 80;
/// Peers asked for the same thing.
const ASKED: usize = 2;
/// How often a node asks a peer how far it is, in milliseconds.
const STATUS_EVERY_MS: u64 = 5_000;

impl World {
    /// Sends a request to a few of the peers that this one is connected to.
    pub(super) fn request(&mut self, from: usize, request: Request) {
        let mut connected = self.connected(from);
        for _ in 0..ASKED.min(connected.len()) {
            let peer = connected.swap_remove(self.random.below(connected.len()));
            self.ask(from, peer, request);
        }
    }

    /// A peer has started: it and those that it connects to ask one another how far they are.
    pub(super) fn greet(&mut self, peer: usize) {
        for other in self.connected(peer) {
            self.ask(peer, other, Request::Status);
            self.ask(other, peer, Request::Status);
        }
        self.schedule_local(peer, STATUS_EVERY_MS, Local::AskStatus);
    }

    /// Asks one of the connected peers how far it is.
    pub(super) fn ask_status(&mut self, peer: usize) {
        let connected = self.connected(peer);
        if !connected.is_empty() {
            let other = self.random.one_of(&connected);
            self.ask(peer, other, Request::Status);
        }
        self.schedule_local(peer, STATUS_EVERY_MS, Local::AskStatus);
    }

    fn ask(&mut self, from: usize, peer: usize, request: Request) {
        let parcel = Parcel {
            from,
            to: peer,
            kind: TrafficKind::Request,
            bytes: SHORT_BYTES,
        };
        if let Some(at) = self.send_parcel(parcel).first() {
            let event = Event::Request {
                peer,
                from,
                request,
            };
            self.schedule_at(*at, event);
        }
    }

    pub(super) fn answer(
        &mut self,
        peer: usize,
        from: usize,
        request: Request,
    ) -> Result<(), Violation> {
        if !self.nodes[peer].is_up() {
            return Ok(());
        }
        match request {
            Request::RoundMessages(round) => self.send_messages(peer, from, round)?,
            Request::Decided(first) => self.send_decided(peer, from, first),
            Request::Status => self.send_status(peer, from),
        }
        Ok(())
    }

    fn send_messages(
        &mut self,
        peer: usize,
        to: usize,
        round: RoundNumber,
    ) -> Result<(), Violation> {
        let Some(core) = &self.nodes[peer].core else {
            return Ok(());
        };
        let node = &self.nodes[peer];
        let mut messages = core.round_messages(round, answers::ROUND_MESSAGES_BYTES);
        if !node.is_honest() {
            // Its core knows nothing of what it has said instead.
            let me = node.key.peer();
            messages.retain(|envelope| envelope.signer != me);
        }
        let mut bytes = SHORT_BYTES;
        for envelope in &messages {
            bytes += envelope.encode().len() as u64;
            self.audit.sent(envelope)?;
        }
        if !messages.is_empty() {
            let parcel = answer(peer, to, TrafficKind::RoundMessages, bytes);
            self.send_answer(parcel, Local::Messages(messages));
        }
        Ok(())
    }

    fn send_decided(&mut self, peer: usize, to: usize, first: RoundNumber) {
        let decided = &self.nodes[peer].disk.decided;
        let first = usize::try_from(first.0).unwrap_or(usize::MAX);
        let later = decided.iter().skip(first).cloned();
        let batch = batch(later);
        if batch.is_empty() {
            return;
        }
        let bytes: usize = batch.iter().map(|d: &Decided| d.encode().len()).sum();
        let parcel = answer(peer, to, TrafficKind::Decided, bytes as u64 + SHORT_BYTES);
        self.send_answer(parcel, Local::Answer(Input::Synced(batch)));
    }

    fn send_status(&mut self, peer: usize, to: usize) {
        let node = &self.nodes[peer];
        let decided = RoundNumber(node.disk.decided.len() as u64);
        let status = Status {
            decided_rounds: decided.0,
            weights_round: node.weights.0,
            oldest_blobs_round: node.disk.blobs.values().min().copied().unwrap_or(decided),
            rules: limits::RULES,
            newest: match node.disk.decided.last() {
                Some(decided) => decided.value.hash(),
                None => (*self.manifest.run().as_bytes()).into(),
            },
        };
        let peer_id = node.key.peer();
        let input = Input::PeerStatus {
            peer: peer_id,
            status,
        };
        let parcel = answer(peer, to, TrafficKind::Status, SHORT_BYTES);
        self.send_answer(parcel, Local::Answer(input));
    }

    fn send_answer(&mut self, parcel: Parcel, what: Local) {
        let arrivals: Vec<Millis> = self.send_parcel(parcel);
        if let Some(at) = arrivals.first() {
            self.schedule_local_at(parcel.to, *at, what);
        }
    }
}

const fn answer(from: usize, to: usize, kind: TrafficKind, bytes: u64) -> Parcel {
    Parcel {
        from,
        to,
        kind,
        bytes,
    }
}

/// The first of these decided rounds, as many as fit into an answer.
fn batch(rounds: impl Iterator<Item = Decided>) -> Vec<Decided> {
    let mut bytes = 0;
    let fits = |decided: &Decided| {
        let is_first = bytes == 0;
        bytes += decided.encode().len();
        is_first || bytes <= answers::DECIDED_BYTES
    };
    rounds
        .take(limits::DECIDED_BATCH)
        .take_while(fits)
        .collect()
}
