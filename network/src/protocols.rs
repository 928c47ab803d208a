//! The protocols of one run: their names, and the limits of requests and answers.

use std::time::Duration;

use libp2p::StreamProtocol;
use libp2p::gossipsub::IdentTopic;
use weal_proto::limits::{BLOB_ANSWER_BYTES, BLOB_REQUEST_BYTES};

use crate::error::Error;

/// The longest control request in bytes.
pub const MAX_SYNC_REQUEST: usize = 64 * 1024;
/// The longest answer to a control request in bytes.
pub const MAX_SYNC_ANSWER: usize = 8 * 1024 * 1024;

/// Timeout of a blob request from start to end. A slow uplink that many peers share is still worth
/// waiting for; a stream that moves no byte ends much earlier ([`STALL`](crate::frames::STALL)).
const BLOB_TIMEOUT: Duration = Duration::from_secs(600);
/// Timeout of a control request from start to end.
const SYNC_TIMEOUT: Duration = Duration::from_secs(120);

/// The two request protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Exchange {
    /// Outlines and chunks of blobs.
    Blob,
    /// Control requests: manifests, certificates, status.
    Sync,
}

impl Exchange {
    /// The longest request in bytes.
    pub(crate) const fn max_request(self) -> usize {
        match self {
            Self::Blob => BLOB_REQUEST_BYTES,
            Self::Sync => MAX_SYNC_REQUEST,
        }
    }

    /// The longest answer in bytes.
    pub(crate) const fn max_answer(self) -> usize {
        match self {
            Self::Blob => BLOB_ANSWER_BYTES,
            Self::Sync => MAX_SYNC_ANSWER,
        }
    }

    /// How long a request may take, waiting included.
    pub(crate) const fn timeout(self) -> Duration {
        match self {
            Self::Blob => BLOB_TIMEOUT,
            Self::Sync => SYNC_TIMEOUT,
        }
    }
}

/// The protocol names of one run. Each contains the run id, so peers of different runs share
/// nothing.
#[derive(Debug, Clone)]
pub(crate) struct Protocols {
    /// What identify announces. A peer that announces anything else belongs to another run.
    pub identify: String,
    pub blob: StreamProtocol,
    pub sync: StreamProtocol,
    pub kademlia: StreamProtocol,
    /// The only gossip topic.
    pub topic: IdentTopic,
}

impl Protocols {
    pub(crate) fn of_run(run: &[u8; 32]) -> Result<Self, Error> {
        let run = hex::encode(run);
        let named = |part: &str| {
            StreamProtocol::try_from_owned(format!("/commonweal/{run}/{part}/1")).map_err(|e| {
                Error::Setup {
                    part: "protocol names",
                    why: e.to_string(),
                }
            })
        };
        Ok(Self {
            identify: format!("/commonweal/{run}"),
            blob: named("blob")?,
            sync: named("sync")?,
            kademlia: named("kad")?,
            topic: IdentTopic::new(format!("commonweal/{run}")),
        })
    }

    pub(crate) fn name(&self, exchange: Exchange) -> &StreamProtocol {
        match exchange {
            Exchange::Blob => &self.blob,
            Exchange::Sync => &self.sync,
        }
    }
}
