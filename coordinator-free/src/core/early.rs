//! Messages of the round after the running one: others may be a decision ahead.
//!
//! They cannot be judged yet, because the roster they count by is not decided. So they are only
//! kept, few of each signer, and judged when their round begins. What is lost here is asked for
//! again.

use std::collections::BTreeMap;

use weal_proto::{Envelope, PeerId};

use crate::interface::event::DropCause;

const PER_SIGNER: usize = 12;
const SIGNERS: usize = 512;
const BYTES: usize = 8 << 20;

/// A bounded store of messages with good signatures.
#[derive(Debug, Default)]
pub(super) struct Early {
    kept: BTreeMap<PeerId, Vec<Envelope>>,
    bytes: usize,
}

impl Early {
    /// Whether there is room for this message, or it is known: asked before its signature is
    /// checked.
    pub fn admits(&self, envelope: &Envelope) -> Result<(), DropCause> {
        match self.kept.get(&envelope.signer) {
            Some(kept) if kept.contains(envelope) => Err(DropCause::Replayed),
            Some(kept) if kept.len() >= PER_SIGNER => Err(DropCause::Full),
            None if self.kept.len() >= SIGNERS => Err(DropCause::Full),
            _ if self.bytes.saturating_add(envelope.payload.len()) > BYTES => Err(DropCause::Full),
            _ => Ok(()),
        }
    }

    /// Keeps a message.
    pub fn keep(&mut self, envelope: Envelope) {
        self.bytes = self.bytes.saturating_add(envelope.payload.len());
        self.kept.entry(envelope.signer).or_default().push(envelope);
    }

    /// Gives everything up.
    pub fn take(&mut self) -> impl Iterator<Item = Envelope> + use<> {
        std::mem::take(self).kept.into_values().flatten()
    }
}
