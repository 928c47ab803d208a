//! Gossip that arrived and that the node has not read yet, bounded in bytes and by sender.
//!
//! A node may be busy for a moment. What peers send meanwhile waits, but one peer fills only its
//! share of the space, and all strangers together no more than theirs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::event::Event;
use crate::identity::PeerKey;
use crate::members::{Members, Standing};

/// Bytes that wait, from all peers.
const BYTES: usize = 32 * 1024 * 1024;
/// Bytes that wait, from all peers that are not members.
const BYTES_OF_STRANGERS: usize = BYTES / 4;
/// Bytes that wait from one peer.
const BYTES_PER_PEER: usize = BYTES / 8;
/// Messages that wait from one peer.
const MESSAGES_PER_PEER: usize = 512;

/// What waits.
#[derive(Debug)]
pub(crate) struct Backlog {
    members: Arc<Members>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: usize,
    bytes_of_strangers: usize,
    peers: HashMap<PeerKey, OfPeer>,
}

#[derive(Debug)]
struct OfPeer {
    /// As it was when the first waiting message came, so that what is added is subtracted again.
    standing: Standing,
    messages: usize,
    bytes: usize,
}

impl Backlog {
    pub(crate) fn new(members: Arc<Members>) -> Self {
        Self {
            members,
            waiting: Mutex::default(),
        }
    }

    /// Counts a message that is to wait. Returns `false` if there is no space for it.
    pub(crate) fn add(&self, from: PeerKey, bytes: usize) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let of_peer = waiting.peers.get(&from);
        let standing = of_peer.map_or_else(|| self.members.standing(&from), |peer| peer.standing);
        let (messages, peer_bytes) = of_peer.map_or((0, 0), |peer| (peer.messages, peer.bytes));
        let strangers = match standing {
            Standing::Member => 0,
            Standing::Stranger => waiting.bytes_of_strangers.saturating_add(bytes),
        };
        if messages >= MESSAGES_PER_PEER
            || peer_bytes.saturating_add(bytes) > BYTES_PER_PEER
            || strangers > BYTES_OF_STRANGERS
            || waiting.bytes.saturating_add(bytes) > BYTES
        {
            return false;
        }
        waiting.bytes += bytes;
        if standing == Standing::Stranger {
            waiting.bytes_of_strangers += bytes;
        }
        let peer = waiting.peers.entry(from).or_insert(OfPeer {
            standing,
            messages: 0,
            bytes: 0,
        });
        peer.messages += 1;
        peer.bytes += bytes;
        true
    }

    /// A message that was counted waits no longer.
    pub(crate) fn remove(&self, from: &PeerKey, bytes: usize) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(peer) = waiting.peers.get_mut(from) else {
            return;
        };
        peer.messages = peer.messages.saturating_sub(1);
        peer.bytes = peer.bytes.saturating_sub(bytes);
        let (standing, empty) = (peer.standing, peer.messages == 0);
        if empty {
            waiting.peers.remove(from);
        }
        waiting.bytes = waiting.bytes.saturating_sub(bytes);
        if standing == Standing::Stranger {
            waiting.bytes_of_strangers = waiting.bytes_of_strangers.saturating_sub(bytes);
        }
    }
}

/// The events of a network, in order.
#[derive(Debug)]
pub struct Events {
    receiver: mpsc::Receiver<Event>,
    backlog: Arc<Backlog>,
}

impl Events {
    pub(crate) fn new(receiver: mpsc::Receiver<Event>, backlog: Arc<Backlog>) -> Self {
        Self { receiver, backlog }
    }

    /// Waits for the next event. `None` once the network is closed. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Event> {
        let event = self.receiver.recv().await?;
        self.read(&event);
        Some(event)
    }

    /// The next event, if one has happened already.
    pub fn try_recv(&mut self) -> Option<Event> {
        let event = self.receiver.try_recv().ok()?;
        self.read(&event);
        Some(event)
    }

    fn read(&self, event: &Event) {
        if let Event::Gossip { from, bytes, .. } = event {
            self.backlog.remove(from, bytes.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn backlog(members: &[PeerKey]) -> Backlog {
        let known = Arc::new(Members::default());
        known.set(members.iter().copied());
        Backlog::new(known)
    }

    /// How many messages of this length from these peers find space.
    fn fill(backlog: &Backlog, peers: std::ops::Range<u8>, bytes: usize) -> usize {
        peers
            .map(|peer| {
                let add = || backlog.add([peer; 32], bytes);
                std::iter::repeat_with(add)
                    .take_while(|added| *added)
                    .count()
            })
            .sum()
    }

    #[test]
    fn one_peer_fills_only_its_share() {
        let backlog = backlog(&[[1; 32], [2; 32]]);
        assert_eq!(fill(&backlog, 1..2, MIB), BYTES_PER_PEER / MIB);
        assert_eq!(fill(&backlog, 2..3, 1), MESSAGES_PER_PEER);
    }

    #[test]
    fn strangers_together_leave_space_for_members() {
        let backlog = backlog(&[[1; 32]]);
        assert_eq!(fill(&backlog, 2..200, MIB), BYTES_OF_STRANGERS / MIB);
        assert_eq!(fill(&backlog, 1..2, MIB), BYTES_PER_PEER / MIB);
    }

    #[test]
    fn what_was_read_makes_space_whatever_the_peer_has_become() {
        let backlog = backlog(&[]);
        let all = fill(&backlog, 2..10, MIB);
        backlog.members.set([[2; 32]]);
        for peer in 2..10 {
            for _ in 0..BYTES_PER_PEER / MIB {
                backlog.remove(&[peer; 32], MIB);
            }
        }
        let waiting = backlog.waiting.lock().unwrap();
        assert_eq!((all, waiting.bytes, waiting.bytes_of_strangers), (8, 0, 0));
        assert!(waiting.peers.is_empty());
    }
}
