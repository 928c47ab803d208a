//! Requests from peer to peer, and their answers.

use std::sync::Arc;

use weal_proto::{RoundNumber, Status, limits};

use super::audit::Violation;
use super::event::{Event, Local, Request};
use super::world::World;
use crate::interface::input::Input;
use crate::interface::time::Millis;

/// Bytes that an answer may spend on a round's messages.
const MESSAGE_BYTES: usize = limits::RESPONSE_BYTES * 3 / 4;
/// Decided rounds in one answer.
const DECIDED_ROUNDS: usize = 8;

impl World {
    /// Sends a request to one of the other peers that are up.
    pub(super) fn request(&mut self, from: usize, request: Request) {
        let up: Vec<_> = (0..self.nodes.len())
            .filter(|peer| *peer != from && self.nodes[*peer].core.is_some())
            .collect();
        if up.is_empty() {
            return;
        }
        let peer = up[(self.random.next() % up.len() as u64) as usize];
        if let Some(at) = self.arrival(from, peer) {
            let event = Event::Request {
                peer,
                from,
                request,
            };
            self.schedule_at(at, event);
        }
    }

    pub(super) fn answer(
        &mut self,
        peer: usize,
        from: usize,
        request: Request,
    ) -> Result<(), Violation> {
        if self.nodes[peer].core.is_none() {
            return Ok(());
        }
        let input = match request {
            Request::RoundMessages(round) => return self.send_messages(peer, from, round),
            Request::Decided(first) => {
                let decided = &self.nodes[peer].disk.decided;
                let found = decided.iter().skip(first.0 as usize).take(DECIDED_ROUNDS);
                let found: Vec<_> = found.cloned().collect();
                if found.is_empty() {
                    return Ok(());
                }
                Input::Synced(found)
            }
            Request::Status => self.status(peer),
        };
        if let Some(at) = self.arrival(peer, from) {
            self.schedule_local_at(from, at, Local::Answer(input));
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
        for envelope in core.round_messages(round, MESSAGE_BYTES) {
            self.audit.sent(&envelope)?;
            self.send(peer, to, &Arc::new(envelope));
        }
        Ok(())
    }

    fn status(&self, peer: usize) -> Input {
        let node = &self.nodes[peer];
        let status = Status {
            decided_rounds: node.disk.decided.len() as u64,
            weights_round: node.weights.0,
            oldest_blobs_round: RoundNumber(0),
        };
        Input::PeerStatus {
            peer: node.key.peer(),
            status,
        }
    }

    /// When a request or an answer arrives; `None` if it is lost.
    fn arrival(&mut self, from: usize, to: usize) -> Option<Millis> {
        self.scenario
            .network
            .arrivals(self.now, from, to, &mut self.random)
            .first()
            .copied()
    }
}
