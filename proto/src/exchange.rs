//! Requests and answers between two peers, apart from blobs.

use crate::envelope::Envelope;
use crate::error::DecodeError;
use crate::ids::{BlobHash, RoundNumber};
use crate::limits;
use crate::message::{Wire, list, required};
use crate::round::Decided;
use crate::shape::{self, Shape, ids, one, plain};
use crate::wire;

/// What one peer asks another for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Where are you?
    Status,
    /// The run's manifest.
    Manifest,
    /// Decided rounds with their certificates.
    Decided {
        /// The first round wanted.
        from: RoundNumber,
        /// How many at most.
        at_most: u32,
    },
    /// Every signed message of the round that is running: what gossip may have lost.
    RoundMessages {
        /// The round.
        round: RoundNumber,
    },
    /// The blob hashes of the tensors at a round's start.
    State {
        /// The round.
        round: RoundNumber,
    },
}

const EMPTY: Shape = Shape {
    name: "request without parts",
    most_bytes: 0,
    fields: &[],
};
const ROUND: Shape = Shape {
    name: "request for a round",
    most_bytes: 16,
    fields: &[plain(1)],
};
const DECIDED: Shape = Shape {
    name: "request for decided rounds",
    most_bytes: 24,
    fields: &[plain(1), plain(2)],
};

impl Wire for Request {
    type Wire = wire::Request;
    const SHAPE: Shape = Shape {
        name: "request",
        most_bytes: limits::REQUEST_BYTES,
        fields: &[
            one(1, &EMPTY),
            one(2, &EMPTY),
            one(3, &DECIDED),
            one(4, &ROUND),
            one(5, &ROUND),
        ],
    };

    fn to_wire(&self) -> Self::Wire {
        use wire::request::What;
        let what = match *self {
            Self::Status => What::Status(wire::StatusRequest {}),
            Self::Manifest => What::Manifest(wire::ManifestRequest {}),
            Self::Decided { from, at_most } => What::Decided(wire::DecidedRequest {
                from_round: from.0,
                at_most,
            }),
            Self::RoundMessages { round } => {
                What::RoundMessages(wire::RoundMessagesRequest { round: round.0 })
            }
            Self::State { round } => What::State(wire::StateRequest { round: round.0 }),
        };
        wire::Request { what: Some(what) }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        use wire::request::What;
        Ok(match required("Request.what", wire.what)? {
            What::Status(_) => Self::Status,
            What::Manifest(_) => Self::Manifest,
            What::Decided(d) => Self::Decided {
                from: RoundNumber(d.from_round),
                at_most: d.at_most,
            },
            What::RoundMessages(m) => Self::RoundMessages {
                round: RoundNumber(m.round),
            },
            What::State(s) => Self::State {
                round: RoundNumber(s.round),
            },
        })
    }
}

/// Where a peer is in the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Rounds decided so far: the number of the round that is running.
    pub decided_rounds: u64,
    /// Newest round at whose start this peer holds the weights.
    pub weights_round: RoundNumber,
    /// Oldest round whose contributions it still holds.
    pub oldest_blobs_round: RoundNumber,
}

/// Answers a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// To [`Request::Status`].
    Status(Status),
    /// To [`Request::Manifest`]: its bytes, to be checked against the run id.
    Manifest(Vec<u8>),
    /// To [`Request::Decided`]: consecutive rounds, as many as fit.
    Decided(Vec<Decided>),
    /// To [`Request::RoundMessages`].
    RoundMessages(Vec<Envelope>),
    /// To [`Request::State`]: in the layout's order.
    State {
        /// The round.
        round: RoundNumber,
        /// Blob hash of each tensor.
        tensors: Vec<BlobHash>,
    },
}

const STATUS: Shape = Shape {
    name: "status",
    most_bytes: 64,
    fields: &[plain(1), plain(2), plain(3)],
};
const MANIFEST: Shape = Shape {
    name: "manifest's bytes",
    most_bytes: limits::MANIFEST_BYTES + 16,
    fields: &[plain(1)],
};
const DECIDED_BATCH: Shape = Shape {
    name: "decided rounds",
    most_bytes: limits::RESPONSE_BYTES,
    fields: &[shape::list(
        1,
        "DecidedBatch.decided",
        limits::DECIDED_BATCH,
        &Decided::SHAPE,
    )],
};
const ROUND_MESSAGES: Shape = Shape {
    name: "a round's messages",
    most_bytes: limits::RESPONSE_BYTES,
    fields: &[shape::list(
        1,
        "RoundMessages.envelopes",
        limits::ROUND_MESSAGES,
        &Envelope::SHAPE,
    )],
};
const STATE_TENSORS: Shape = Shape {
    name: "a state's tensors",
    most_bytes: limits::RESPONSE_BYTES,
    fields: &[plain(1), ids(2, "StateTensors.tensors", limits::TENSORS)],
};

impl Wire for Response {
    type Wire = wire::Response;
    const SHAPE: Shape = Shape {
        name: "response",
        most_bytes: limits::RESPONSE_BYTES,
        fields: &[
            one(1, &STATUS),
            one(2, &MANIFEST),
            one(3, &DECIDED_BATCH),
            one(4, &ROUND_MESSAGES),
            one(5, &STATE_TENSORS),
        ],
    };

    fn to_wire(&self) -> Self::Wire {
        use wire::response::What;
        let what = match self {
            Self::Status(status) => What::Status(wire::Status {
                decided_rounds: status.decided_rounds,
                weights_round: status.weights_round.0,
                oldest_blobs_round: status.oldest_blobs_round.0,
            }),
            Self::Manifest(manifest) => What::Manifest(wire::ManifestBytes {
                manifest: manifest.clone(),
            }),
            Self::Decided(decided) => What::Decided(wire::DecidedBatch {
                decided: decided.iter().map(Wire::to_wire).collect(),
            }),
            Self::RoundMessages(envelopes) => What::RoundMessages(wire::RoundMessages {
                envelopes: envelopes.iter().map(Wire::to_wire).collect(),
            }),
            Self::State { round, tensors } => What::State(wire::StateTensors {
                round: round.0,
                tensors: tensors.iter().map(|t| t.to_wire()).collect(),
            }),
        };
        wire::Response { what: Some(what) }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        use wire::response::What;
        Ok(match required("Response.what", wire.what)? {
            What::Status(s) => Self::Status(Status {
                decided_rounds: s.decided_rounds,
                weights_round: RoundNumber(s.weights_round),
                oldest_blobs_round: RoundNumber(s.oldest_blobs_round),
            }),
            What::Manifest(m) if m.manifest.len() <= limits::MANIFEST_BYTES => {
                Self::Manifest(m.manifest)
            }
            What::Manifest(m) => {
                return Err(DecodeError::TooLong {
                    message: "manifest",
                    bytes: m.manifest.len(),
                    limit: limits::MANIFEST_BYTES,
                });
            }
            What::Decided(d) => Self::Decided(list(d.decided, Decided::from_wire)?),
            What::RoundMessages(m) => Self::RoundMessages(list(m.envelopes, Envelope::from_wire)?),
            What::State(s) => Self::State {
                round: RoundNumber(s.round),
                tensors: list(s.tensors, |t| {
                    BlobHash::from_wire("StateTensors.tensors", &t)
                })?,
            },
        })
    }
}
