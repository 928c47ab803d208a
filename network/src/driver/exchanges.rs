//! Passes requests and answers between the swarm, the handle and the server.

use std::io;
use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::bytes::Bytes;
use libp2p::request_response::{Event, Message, OutboundFailure};

use super::task::Driver;
use crate::command::Reply;
use crate::error::RequestError;
use crate::frames::Answer;
use crate::reputation::Offence;
use crate::serve::{Inbound, Ready};

/// Pause before Kademlia is asked for the address of the same peer again.
const LOOKUP_PAUSE: Duration = Duration::from_secs(10);
/// Limit on lookups in [`LOOKUP_PAUSE`].
const LOOKUPS: usize = 32;

impl Driver {
    /// Sends a request. The answer goes to `reply`.
    pub(super) fn request(&mut self, peer: PeerId, request: Bytes, reply: Reply) {
        if reply.is_closed() {
            return;
        }
        let sync = &mut self.swarm.behaviour_mut().sync;
        let id = sync.send_request(&peer, Some(request));
        self.requests.insert(id, reply);
    }

    pub(super) fn send_answer(&mut self, ready: Option<Ready>) {
        let Some(Ready {
            channel,
            answer,
            malformed,
            ..
        }) = ready
        else {
            return;
        };
        if let Some(peer) = malformed {
            self.offended(peer, Offence::MalformedRequest);
        }
        // The swarm also reports a failure here as an inbound failure.
        let sync = &mut self.swarm.behaviour_mut().sync;
        let _ = sync.send_response(channel, answer);
    }

    pub(super) fn on_exchange(&mut self, event: Event<Option<Bytes>, Answer>) {
        match event {
            Event::Message {
                peer,
                message:
                    Message::Request {
                        request_id,
                        request,
                        channel,
                    },
                ..
            } => {
                let inbound = Inbound {
                    user: self.user(peer),
                    id: request_id,
                    request,
                    channel,
                };
                let refused = self.server.accept(inbound);
                self.send_answer(refused);
            }
            Event::Message {
                message:
                    Message::Response {
                        request_id,
                        response,
                    },
                ..
            } => {
                if let Some(reply) = self.requests.remove(&request_id) {
                    let _ = reply.send(Ok(response));
                }
            }
            Event::OutboundFailure {
                peer,
                request_id,
                error,
                ..
            } => {
                let error = self.request_error(peer, error);
                if let Some(reply) = self.requests.remove(&request_id) {
                    let _ = reply.send(Err(error));
                }
            }
            Event::InboundFailure { request_id, .. } | Event::ResponseSent { request_id, .. } => {
                self.server.done(request_id);
            }
        }
    }

    /// Connects to a peer, if its address is known; else finds it out for the next attempt.
    pub(super) fn reach(&mut self, peer: PeerId) {
        if !self.swarm.is_connected(&peer) && self.swarm.dial(peer).is_err() {
            self.look_up(peer, Instant::now());
        }
    }

    /// Turns a failure into an error, and acts on its cause.
    fn request_error(&mut self, peer: PeerId, failure: OutboundFailure) -> RequestError {
        match failure {
            OutboundFailure::DialFailure => {
                self.look_up(peer, Instant::now());
                RequestError::Unreachable
            }
            OutboundFailure::Timeout => RequestError::TimedOut,
            OutboundFailure::ConnectionClosed => {
                RequestError::Closed("the peer disconnected".into())
            }
            OutboundFailure::UnsupportedProtocols => RequestError::Unsupported,
            OutboundFailure::Io(error) => match error.kind() {
                io::ErrorKind::InvalidData => {
                    self.offended(peer, Offence::MalformedAnswer);
                    RequestError::Malformed(error.to_string())
                }
                io::ErrorKind::TimedOut => RequestError::TimedOut,
                _ => RequestError::Closed(error.to_string()),
            },
        }
    }

    /// Asks Kademlia for the address of a peer, for the next attempt.
    fn look_up(&mut self, peer: PeerId, now: Instant) {
        self.lookups
            .retain(|_, when| now.saturating_duration_since(*when) < LOOKUP_PAUSE);
        if self.lookups.len() < LOOKUPS && !self.lookups.contains_key(&peer) {
            self.lookups.insert(peer, now);
            self.swarm.behaviour_mut().kademlia.get_closest_peers(peer);
        }
    }
}
