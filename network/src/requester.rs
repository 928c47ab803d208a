//! The handle's way to the driver: commands, and requests to peers.

use libp2p::bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::driver::Command;
use crate::error::RequestError;
use crate::frames::Answer;
use crate::identity::{self, PeerKey};
use crate::protocols::Exchange;
use crate::reputation::Offence;
use crate::slots::{Slot, Slots};

/// Sends commands to the driver and waits for the answers of peers.
pub(crate) struct Requester {
    local: PeerKey,
    commands: mpsc::Sender<Command>,
    slots: Slots,
}

impl Requester {
    pub(crate) fn new(local: PeerKey, commands: mpsc::Sender<Command>) -> Self {
        Self {
            local,
            commands,
            slots: Slots::new(),
        }
    }

    /// This node's key.
    pub(crate) fn local(&self) -> PeerKey {
        self.local
    }

    /// Sends a command. After the shutdown it is dropped, and its reply channel with it.
    pub(crate) async fn command(&self, command: Command) {
        let _ = self.commands.send(command).await;
    }

    pub(crate) fn is_shut_down(&self) -> bool {
        self.commands.is_closed()
    }

    /// Sends `peer` a request and waits for the answer.
    pub(crate) async fn request(
        &self,
        exchange: Exchange,
        peer: PeerKey,
        request: Bytes,
    ) -> Result<Bytes, RequestError> {
        let peer = identity::peer_id(&peer).ok_or(RequestError::NotAPeer)?;
        let (reply, answer) = oneshot::channel();
        self.command(Command::Request {
            exchange,
            peer,
            request,
            reply,
        })
        .await;
        match answer.await {
            Ok(Ok(Answer::Here(bytes))) => Ok(bytes),
            Ok(Ok(Answer::NotHere)) => Err(RequestError::NotHere),
            Ok(Ok(Answer::Busy)) => Err(RequestError::Busy),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(RequestError::ShutDown),
        }
    }

    /// Waits for permission to send `peer` a blob request.
    pub(crate) async fn slot(&self, peer: PeerKey) -> Option<Slot> {
        self.slots.take(peer).await
    }

    /// Reports an offence of `peer` to the driver.
    pub(crate) async fn offended(&self, peer: PeerKey, offence: Offence) {
        if let Some(peer) = identity::peer_id(&peer) {
            self.command(Command::Offended { peer, offence }).await;
        }
    }
}
