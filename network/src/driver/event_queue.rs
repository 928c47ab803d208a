//! Events on their way to the node.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::backlog::Backlog;
use crate::event::Event;
use crate::gossip::GossipId;
use crate::status::Counters;

/// Limit on events that wait for space in the channel. Beyond it the oldest is dropped.
const WAITING: usize = 256;

/// A queue that never blocks the driver.
///
/// When the channel to the node is full, gossip is refused and other events wait here.
pub(super) struct EventQueue {
    sender: mpsc::Sender<Event>,
    waiting: VecDeque<Event>,
    backlog: Arc<Backlog>,
    counters: Arc<Counters>,
}

impl EventQueue {
    pub(super) fn new(
        sender: mpsc::Sender<Event>,
        backlog: Arc<Backlog>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            sender,
            waiting: VecDeque::new(),
            backlog,
            counters,
        }
    }

    /// Queues an event. Returns the id of a gossip message for which there is no space.
    pub(super) fn push(&mut self, event: Event) -> Option<GossipId> {
        if let Event::Gossip { id, from, bytes } = &event
            && !self.backlog.add(*from, bytes.len())
        {
            self.counters.gossip_unread.one();
            return Some(id.clone());
        }
        let refused = if self.waiting.is_empty() {
            let sent = self.sender.try_send(event);
            sent.err().map(mpsc::error::TrySendError::into_inner)
        } else {
            Some(event)
        };
        match refused? {
            Event::Gossip { id, from, bytes } => {
                self.backlog.remove(&from, bytes.len());
                self.counters.gossip_unread.one();
                Some(id)
            }
            event => {
                self.waiting.push_back(event);
                if self.waiting.len() > WAITING {
                    self.waiting.pop_front();
                    self.counters.events_unread.one();
                }
                None
            }
        }
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Waits for space in the channel and sends the oldest waiting event. Cancel-safe.
    pub(super) async fn send_waiting(&mut self) {
        let permit = self.sender.reserve().await;
        if let (Ok(permit), Some(event)) = (permit, self.waiting.pop_front()) {
            permit.send(event);
        }
    }
}
