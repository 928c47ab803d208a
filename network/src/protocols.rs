//! The protocols of one run: their names, and the limits of requests and answers.

use std::time::Duration;

use libp2p::StreamProtocol;
use libp2p::gossipsub::IdentTopic;

use crate::error::Error;

/// The longest control request in bytes.
pub const MAX_SYNC_REQUEST: usize = 64 * 1024;
/// The longest answer to a control request in bytes.
pub const MAX_SYNC_ANSWER: usize = 8 * 1024 * 1024;

/// Timeout of a control request from start to end.
pub(crate) const SYNC_TIMEOUT: Duration = Duration::from_secs(120);

/// The protocol names of one run. Each contains the run id, so peers of different runs share
/// nothing.
#[derive(Debug, Clone)]
pub(crate) struct Protocols {
    /// What identify announces. A peer that announces anything else belongs to another run.
    pub identify: String,
    /// Frames about blobs.
    pub blob: StreamProtocol,
    /// Pieces of blobs.
    pub piece: StreamProtocol,
    /// Control requests: manifests, certificates, status.
    pub sync: StreamProtocol,
    /// What peers tell each other of their sessions.
    pub sessions: StreamProtocol,
    pub kademlia: StreamProtocol,
    /// The only gossip topic.
    pub topic: IdentTopic,
}

impl Protocols {
    pub(crate) fn of_run(run: &[u8; 32]) -> Result<Self, Error> {
        let run = hex::encode(run);
        let named = |part: &str| {
            StreamProtocol::try_from_owned(format!("/commonweal/{run}/{part}")).map_err(|e| {
                Error::Setup {
                    part: "protocol names",
                    why: e.to_string(),
                }
            })
        };
        Ok(Self {
            identify: format!("/commonweal/{run}"),
            blob: named("blob/2")?,
            piece: named("piece/2")?,
            sync: named("sync/1")?,
            sessions: named("sessions/1")?,
            kademlia: named("kad/1")?,
            topic: IdentTopic::new(format!("commonweal/{run}")),
        })
    }
}
