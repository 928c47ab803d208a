//! Messages of the next round: some peers may be one decision ahead.
//!
//! The core cannot judge them yet, because the roster of the next round is not decided. So it keeps
//! a few of each signer, and judges them when their round begins. What does not fit, it asks peers
//! for later.

use std::collections::BTreeMap;

use weal_proto::{Envelope, PeerId};

use crate::interface::event::DropCause;

const MAX_PER_SIGNER: usize = 12;
const MAX_SIGNERS: usize = 512;
const MAX_BYTES: usize = 8 << 20;

/// A bounded store of messages with good signatures.
#[derive(Debug, Default)]
pub(super) struct Early {
    messages: BTreeMap<PeerId, Vec<Envelope>>,
    bytes: usize,
}

impl Early {
    /// Whether this message is new and fits. Ask before checking its signature.
    ///
    /// # Errors
    /// [`DropCause::Replayed`] or [`DropCause::Full`].
    pub(super) fn admits(&self, envelope: &Envelope) -> Result<(), DropCause> {
        match self.messages.get(&envelope.signer) {
            Some(messages) if messages.contains(envelope) => Err(DropCause::Replayed),
            Some(messages) if messages.len() >= MAX_PER_SIGNER => Err(DropCause::Full),
            None if self.messages.len() >= MAX_SIGNERS => Err(DropCause::Full),
            _ if self.bytes.saturating_add(envelope.payload.len()) > MAX_BYTES => {
                Err(DropCause::Full)
            }
            _ => Ok(()),
        }
    }

    /// Keeps a message that [`admits`](Self::admits) has approved.
    pub(super) fn keep(&mut self, envelope: Envelope) {
        self.bytes = self.bytes.saturating_add(envelope.payload.len());
        self.messages
            .entry(envelope.signer)
            .or_default()
            .push(envelope);
    }

    /// Empties the store.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Envelope> + use<> {
        std::mem::take(self).messages.into_values().flatten()
    }

    /// Checks what must always hold.
    ///
    /// # Errors
    /// The broken statement.
    #[cfg(feature = "sim")]
    pub(super) fn check_invariants(&self) -> Result<(), &'static str> {
        let bytes: usize = self
            .messages
            .values()
            .flatten()
            .map(|envelope| envelope.payload.len())
            .sum();
        let many = |messages: &Vec<Envelope>| messages.len() > MAX_PER_SIGNER;
        if bytes != self.bytes {
            return Err("the bytes of early messages are miscounted");
        }
        if bytes > MAX_BYTES
            || self.messages.len() > MAX_SIGNERS
            || self.messages.values().any(many)
        {
            return Err("early messages exceed their limits");
        }
        Ok(())
    }
}
