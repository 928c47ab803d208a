//! What the driver is asked to do.

use libp2p::bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::oneshot;

use crate::error::RequestError;
use crate::frames::Answer;
use crate::gossip::{GossipId, GossipVerdict};
use crate::reputation::Offence;
use crate::streams::{Carries, Opened};

/// What the handle and the exchange of blobs ask of the driver.
pub(crate) enum Command {
    Verdict {
        id: GossipId,
        verdict: GossipVerdict,
    },
    Request {
        peer: PeerId,
        request: Bytes,
        reply: Reply,
    },
    Offended {
        peer: PeerId,
        offence: Offence,
    },
    Dial(Multiaddr),
    /// Connects to a peer, if it is not connected and its address is known.
    Reach(PeerId),
    /// Opens a stream to a connected peer.
    Open {
        peer: PeerId,
        carries: Carries,
        opened: Opened,
    },
    /// Shuts down. The channel is told when the ports are free again.
    Shutdown(oneshot::Sender<()>),
}

/// Where the answer to a request goes.
pub(crate) type Reply = oneshot::Sender<Result<Answer, RequestError>>;
