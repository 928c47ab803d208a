//! The tasks that read the frames of peers, one for each peer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::input::Input;
use super::limits::FRAMES;
use super::session;
use crate::identity::PeerKey;
use crate::quota::Buckets;
use crate::streams::Accepted;

pub(super) struct Readers {
    inputs: mpsc::Sender<Input>,
    tasks: HashMap<PeerKey, (u64, AbortHandle)>,
    /// What each peer may send.
    rates: Arc<Mutex<Buckets<PeerKey>>>,
    next: u64,
}

impl Readers {
    pub(super) fn new(inputs: mpsc::Sender<Input>) -> Self {
        Self {
            inputs,
            tasks: HashMap::new(),
            rates: Arc::new(Mutex::new(Buckets::new(FRAMES))),
            next: 0,
        }
    }

    /// Reads the frames on a stream from now on, instead of those on the one before.
    pub(super) fn start(&mut self, from: PeerKey, stream: Accepted) {
        let Accepted { mut stream, place } = stream;
        stream.ignore_for_keep_alive();
        self.next += 1;
        let (number, inputs) = (self.next, self.inputs.clone());
        let rates = Arc::clone(&self.rates);
        let reader = tokio::spawn(async move {
            session::read(stream, from, &inputs, &rates).await;
            drop(place);
            let _ = inputs.send(Input::Closed { from, number }).await;
        });
        if let Some((_, old)) = self.tasks.insert(from, (number, reader.abort_handle())) {
            old.abort();
        }
    }

    /// Whether frames of a peer count: those that were read before it left do not.
    pub(super) fn reads(&self, from: &PeerKey) -> bool {
        self.tasks.contains_key(from)
    }

    /// A reader has ended. Returns whether it was the peer's last one.
    pub(super) fn ended(&mut self, from: &PeerKey, number: u64) -> bool {
        let is_last = self
            .tasks
            .get(from)
            .is_some_and(|(last, _)| *last == number);
        if is_last {
            self.tasks.remove(from);
        }
        is_last
    }

    /// A peer is gone.
    pub(super) fn stop(&mut self, from: &PeerKey) {
        if let Some((_, reader)) = self.tasks.remove(from) {
            reader.abort();
        }
    }
}
