//! The ways to all peers, opened when there is something to say.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::frame::Frame;
use super::input::Input;
use super::session::Outgoing;
use crate::command::Command;
use crate::identity::PeerKey;

/// First and longest pause before a way that was lost is opened again. It doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A way that lasted this long was a good one.
const GOOD: Duration = Duration::from_secs(60);

pub(super) struct Sessions {
    commands: mpsc::WeakSender<Command>,
    inputs: mpsc::Sender<Input>,
    ways: HashMap<PeerKey, Way>,
    next: u64,
}

struct Way {
    /// `None` while the way is lost.
    open: Option<Outgoing>,
    opened: Instant,
    reopen_at: Option<Instant>,
    pause: Duration,
}

impl Sessions {
    pub(super) fn new(commands: mpsc::WeakSender<Command>, inputs: mpsc::Sender<Input>) -> Self {
        Self {
            commands,
            inputs,
            ways: HashMap::new(),
            next: 0,
        }
    }

    /// Sends a frame. While the way is lost, frames are dropped: the peer is told everything again
    /// once it is open.
    pub(super) fn send(&mut self, to: PeerKey, frame: Frame, now: Instant) {
        let way = self.ways.entry(to).or_insert(Way {
            open: None,
            opened: now,
            reopen_at: None,
            pause: FIRST_PAUSE,
        });
        if way.open.is_none() && way.reopen_at.is_none() {
            self.next += 1;
            let (commands, inputs) = (self.commands.clone(), self.inputs.clone());
            way.open = Some(Outgoing::open(to, self.next, commands, inputs));
            way.opened = now;
        }
        if let Some(open) = &way.open
            && !open.send(frame)
        {
            way.lose(now);
        }
    }

    /// A way is lost, unless another has taken its place.
    pub(super) fn lost(&mut self, peer: PeerKey, number: u64, now: Instant) {
        if let Some(way) = self.ways.get_mut(&peer)
            && way.open.as_ref().is_some_and(|open| open.number == number)
        {
            way.lose(now);
        }
    }

    /// The peer has just opened a way to this node, so it is there, perhaps after a restart: a lost
    /// way is opened again at once.
    pub(super) fn is_there(&mut self, peer: &PeerKey, now: Instant) {
        if let Some(way) = self.ways.get_mut(peer) {
            way.pause = FIRST_PAUSE;
            way.reopen_at = way.reopen_at.map(|_| now);
        }
    }

    /// Peers whose way is to be opened again, and that must be told everything again.
    pub(super) fn reopen(&mut self, now: Instant) -> Vec<PeerKey> {
        let mut peers = Vec::new();
        for (peer, way) in &mut self.ways {
            if way.reopen_at.is_some_and(|at| at <= now) {
                way.reopen_at = None;
                peers.push(*peer);
            }
        }
        peers
    }

    /// A peer is gone.
    pub(super) fn close(&mut self, peer: &PeerKey) {
        self.ways.remove(peer);
    }
}

impl Way {
    fn lose(&mut self, now: Instant) {
        self.open = None;
        if now.saturating_duration_since(self.opened) > GOOD {
            self.pause = FIRST_PAUSE;
        }
        self.reopen_at = Some(now + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::frame::Body;

    #[tokio::test]
    async fn a_peer_that_opens_a_way_is_not_kept_waiting_for_the_way_back() {
        let (commands, _no_driver) = mpsc::channel(1);
        let (inputs, _lost) = mpsc::channel(64);
        let mut sessions = Sessions::new(commands.downgrade(), inputs);
        let (peer, now): (PeerKey, _) = ([7; 32], Instant::now());
        let frame = || Frame {
            blob: [1; 32].into(),
            body: Body::Drop,
        };
        for _ in 0..6 {
            sessions.send(peer, frame(), now);
            sessions.lost(peer, sessions.next, now);
            sessions.reopen(now + LONGEST_PAUSE);
        }
        sessions.send(peer, frame(), now);
        sessions.lost(peer, sessions.next, now);
        assert!(sessions.reopen(now).is_empty());
        sessions.is_there(&peer, now);
        assert_eq!(sessions.reopen(now), [peer]);
        sessions.send(peer, frame(), now);
        sessions.lost(peer, sessions.next, now);
        assert_eq!(sessions.reopen(now + FIRST_PAUSE), [peer]);
    }
}
