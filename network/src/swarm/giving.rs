//! One piece to one peer: where its bytes come from, and how they get there.

use std::sync::Arc;

use libp2p::bytes::Bytes;
use tokio::sync::mpsc;

use super::input::Input;
use super::parts::Parts;
use super::picker::Gift;
use super::{session, transfer};
use crate::command::Command;
use crate::rate_limit::RateLimit;
use crate::service::{Found, Service};
use crate::streams::Carries;

pub(super) struct Giving {
    pub gift: Gift,
    /// What this node fetched or fetches; otherwise the service has the blob.
    pub parts: Option<Arc<Parts>>,
    pub service: Arc<dyn Service>,
    pub commands: mpsc::WeakSender<Command>,
    pub upload: Option<Arc<RateLimit>>,
}

impl Giving {
    /// The bytes of the piece. `None` if they are gone, or are not what the outline says.
    pub(super) async fn bytes(&self) -> Option<Bytes> {
        let Gift {
            blob, piece, bytes, ..
        } = self.gift;
        let (parts, service) = (self.parts.clone(), Arc::clone(&self.service));
        let read = tokio::task::spawn_blocking(move || {
            if let Some(parts) = parts
                && let Ok(Some(bytes)) = parts.get(piece)
            {
                return Some(bytes);
            }
            match service.chunk(&blob, piece) {
                Found::Here(bytes) => Some(bytes.into()),
                Found::NotHere | Found::NotYet => None,
            }
        });
        let found = read.await.ok().flatten();
        found.filter(|found: &Bytes| found.len() == bytes)
    }

    /// Sends the piece. Returns whether it arrived.
    pub(super) async fn send(&self, bytes: &Bytes, inputs: &mpsc::Sender<Input>) -> bool {
        let opened = session::open(self.gift.to, Carries::Piece, &self.commands).await;
        let Ok(stream) = opened else {
            return false;
        };
        let sent = transfer::send(stream, &self.gift, bytes, inputs, self.upload.clone()).await;
        sent.inspect_err(|error| tracing::debug!("a piece did not arrive: {error}"))
            .unwrap_or(false)
    }
}
