//! Tells peers which session this is, and asks them for others of the same key.

use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::bytes::Bytes;
use libp2p::request_response::{Event, Message};

use super::task::Driver;
use crate::frames::Answer;
use crate::sessions::OwnSession;

/// How often every peer is told.
const TELL_EVERY: Duration = Duration::from_secs(15);

impl Driver {
    /// Tells a peer which session this is.
    pub(super) fn tell_session(&mut self, peer: &PeerId) {
        let statement = self.session.as_ref().and_then(OwnSession::statement);
        if let Some(statement) = statement {
            let statement = Some(Bytes::from(statement));
            self.swarm
                .behaviour_mut()
                .sessions
                .send_request(peer, statement);
        }
    }

    /// Tells every peer, from time to time.
    pub(super) fn tell_sessions(&mut self, now: Instant) {
        let told = *self.session_told.get_or_insert(now);
        if now.saturating_duration_since(told) < TELL_EVERY {
            return;
        }
        self.session_told = Some(now);
        for peer in self.peers.admitted_for(Duration::ZERO, now) {
            self.tell_session(&peer);
        }
    }

    pub(super) fn on_session(&mut self, event: Event<Option<Bytes>, Answer>) {
        let Event::Message { peer, message, .. } = event else {
            return;
        };
        match message {
            Message::Request {
                request, channel, ..
            } => {
                let (bytes, now) = (request.unwrap_or_default(), Instant::now());
                let others = if self.statements.take(&self.user(peer), now) {
                    self.heard_sessions.heard(peer, &bytes, now)
                } else {
                    self.counters.statements_too_many.one();
                    None
                };
                let answer = others.map_or(Answer::NotHere, |others| Answer::Here(others.into()));
                let sessions = &mut self.swarm.behaviour_mut().sessions;
                let _ = sessions.send_response(channel, answer);
            }
            Message::Response { response, .. } => {
                if let Answer::Here(bytes) = response {
                    self.session_answered(peer, &bytes);
                }
            }
        }
    }

    fn session_answered(&mut self, peer: PeerId, bytes: &[u8]) {
        let Some(own) = &mut self.session else {
            return;
        };
        let mut known = self.key_use.borrow().clone();
        let tells_again = own.answered(bytes, &mut known);
        self.key_use.send_if_modified(|last| {
            let differs = *last != known;
            *last = known;
            differs
        });
        if tells_again {
            self.tell_session(&peer);
        }
    }
}
