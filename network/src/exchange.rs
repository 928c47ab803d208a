//! Requests and answers, on their way through the swarm.

use std::io;
use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::bytes::Bytes;
use libp2p::request_response::{Behaviour, Event, Message, OutboundFailure};

use super::driver::{Driver, Reply};
use super::frames::{Answer, Frames};
use super::serve::{Exchange, Inbound, Ready};
use super::{Offence, RequestError};

/// Kademlia is asked for the same peer's address no more often than this.
const LOOK_UP_AGAIN: Duration = Duration::from_secs(10);
/// Lookups that may be remembered, and so be running.
const LOOK_UPS: usize = 32;

impl Driver {
    pub(super) fn ask(&mut self, exchange: Exchange, peer: PeerId, request: Bytes, reply: Reply) {
        if reply.is_closed() {
            return;
        }
        let id = self.exchange(exchange).send_request(&peer, Some(request));
        self.asked.insert((exchange, id), reply);
    }

    pub(super) fn send_answer(&mut self, ready: Option<Ready>) {
        let Some(Ready {
            exchange,
            channel,
            answer,
            malformed,
        }) = ready
        else {
            return;
        };
        if let Some(peer) = malformed {
            self.offended(peer, Offence::MalformedRequest);
        }
        // A failure here is told by the swarm too, as an inbound failure.
        let _ = self.exchange(exchange).send_response(channel, answer);
    }

    pub(super) fn on_exchange(&mut self, exchange: Exchange, event: Event<Option<Bytes>, Answer>) {
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
                    exchange,
                    peer,
                    id: request_id,
                    request,
                    channel,
                };
                let at_once = self.server.take(inbound);
                self.send_answer(at_once);
            }
            Event::Message {
                message:
                    Message::Response {
                        request_id,
                        response,
                    },
                ..
            } => {
                if let Some(reply) = self.asked.remove(&(exchange, request_id)) {
                    let _ = reply.send(Ok(response));
                }
            }
            Event::OutboundFailure {
                peer,
                request_id,
                error,
                ..
            } => {
                let error = self.judge_failure(peer, error);
                if let Some(reply) = self.asked.remove(&(exchange, request_id)) {
                    let _ = reply.send(Err(error));
                }
            }
            Event::InboundFailure { request_id, .. } | Event::ResponseSent { request_id, .. } => {
                self.server.done(exchange, request_id);
            }
        }
    }

    fn exchange(&mut self, exchange: Exchange) -> &mut Behaviour<Frames> {
        match exchange {
            Exchange::Blob => &mut self.swarm.behaviour_mut().blob,
            Exchange::Sync => &mut self.swarm.behaviour_mut().sync,
        }
    }

    fn judge_failure(&mut self, peer: PeerId, failure: OutboundFailure) -> RequestError {
        match failure {
            OutboundFailure::DialFailure => {
                self.look_up(peer, Instant::now());
                RequestError::Unreachable
            }
            OutboundFailure::Timeout => RequestError::TimedOut,
            OutboundFailure::ConnectionClosed => RequestError::Closed("it went away".into()),
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

    /// Asks the network where a peer is, for the next attempt.
    fn look_up(&mut self, peer: PeerId, now: Instant) {
        self.looked_up
            .retain(|_, when| now.saturating_duration_since(*when) < LOOK_UP_AGAIN);
        if self.looked_up.len() < LOOK_UPS && !self.looked_up.contains_key(&peer) {
            self.looked_up.insert(peer, now);
            self.swarm.behaviour_mut().kademlia.get_closest_peers(peer);
        }
    }
}
