//! The handle's way to the driver: commands, and requests to peers.

use libp2p::bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::command::Command;
use crate::error::RequestError;
use crate::frames::Answer;
use crate::identity::{self, PeerKey};

/// Sends commands to the driver and waits for the answers of peers.
pub(crate) struct Requester {
    local: PeerKey,
    commands: mpsc::Sender<Command>,
}

impl Requester {
    pub(crate) fn new(local: PeerKey, commands: mpsc::Sender<Command>) -> Self {
        Self { local, commands }
    }

    /// This node's key.
    pub(crate) fn local(&self) -> PeerKey {
        self.local
    }

    /// Sends a command. After the shutdown it is dropped, and its reply channel with it.
    pub(crate) async fn command(&self, command: Command) {
        let _ = self.commands.send(command).await;
    }

    /// Sends `peer` a request and waits for the answer.
    pub(crate) async fn request(
        &self,
        peer: PeerKey,
        request: Bytes,
    ) -> Result<Bytes, RequestError> {
        let peer = identity::peer_id(&peer).ok_or(RequestError::NotAPeer)?;
        let (reply, answer) = oneshot::channel();
        self.command(Command::Request {
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
}
