//! Control requests and answers between two peers.

use crate::envelope::Envelope;
use crate::error::DecodeError;
use crate::ids::{BlobHash, RoundNumber, RoundSetHash};
use crate::limits;
use crate::message::Standalone;
use crate::round::Decided;
use crate::schema::{Value, Wire, message, required};
use crate::shape::{self, Shape, ids, one, plain};
use crate::wire;

/// A control request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Asks where the peer is in the run.
    Status,
    /// Asks for the manifest of the run.
    Manifest,
    /// Asks for decided rounds with their certificates.
    Decided {
        /// The first round wanted.
        from: RoundNumber,
        /// Limit on the number of rounds.
        at_most: u32,
    },
    /// Asks for every signed message of the current round, because gossip may have lost some.
    RoundMessages {
        /// The current round.
        round: RoundNumber,
    },
    /// Asks for the blob hashes of the tensors at the start of a round.
    State {
        /// The round whose start is meant.
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

impl Standalone for Request {}

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

message! {
    /// Where a peer is in the run.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Status("status", 128) {
        /// Number of rounds decided so far, which is the number of the current round.
        pub decided_rounds: u64 = 1,
        /// The newest round for whose start the peer has the weights.
        pub weights_round: RoundNumber = 2,
        /// The oldest round whose contributions the peer still has.
        pub oldest_blobs_round: RoundNumber = 3,
        /// The version of the rules that the peer follows: [`limits::RULES`].
        pub rules: u32 = 4,
        /// Hash of the newest decided round set; the run id before the first.
        pub newest: RoundSetHash = 5,
    }
}

/// The answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// Answers [`Request::Status`].
    Status(Status),
    /// Answers [`Request::Manifest`] with its bytes. Check them against the run id.
    Manifest(Vec<u8>),
    /// Answers [`Request::Decided`] with consecutive rounds, as many as fit.
    Decided(Vec<Decided>),
    /// Answers [`Request::RoundMessages`].
    RoundMessages(Vec<Envelope>),
    /// Answers [`Request::State`].
    State {
        /// The round whose start is meant.
        round: RoundNumber,
        /// Blob hash of each tensor, in the layout's order.
        tensors: Vec<BlobHash>,
    },
}

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

impl Standalone for Response {}

impl Wire for Response {
    type Wire = wire::Response;
    const SHAPE: Shape = Shape {
        name: "response",
        most_bytes: limits::RESPONSE_BYTES,
        fields: &[
            one(1, &Status::SHAPE),
            one(2, &MANIFEST),
            one(3, &DECIDED_BATCH),
            one(4, &ROUND_MESSAGES),
            one(5, &STATE_TENSORS),
        ],
    };

    fn to_wire(&self) -> Self::Wire {
        use wire::response::What;
        let what = match self {
            Self::Status(status) => What::Status(status.to_wire()),
            Self::Manifest(manifest) => What::Manifest(wire::ManifestBytes {
                manifest: manifest.clone(),
            }),
            Self::Decided(decided) => What::Decided(wire::DecidedBatch {
                decided: decided.to_field(),
            }),
            Self::RoundMessages(envelopes) => What::RoundMessages(wire::RoundMessages {
                envelopes: envelopes.to_field(),
            }),
            Self::State { round, tensors } => What::State(wire::StateTensors {
                round: round.0,
                tensors: tensors.iter().map(Value::to_field).collect(),
            }),
        };
        wire::Response { what: Some(what) }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        use wire::response::What;
        Ok(match required("Response.what", wire.what)? {
            What::Status(status) => Self::Status(Status::from_wire(status)?),
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
            What::Decided(d) => {
                Self::Decided(Value::from_field("DecidedBatch.decided", d.decided)?)
            }
            What::RoundMessages(m) => {
                Self::RoundMessages(Value::from_field("RoundMessages.envelopes", m.envelopes)?)
            }
            What::State(s) => Self::State {
                round: RoundNumber(s.round),
                tensors: s
                    .tensors
                    .into_iter()
                    .map(|hash| BlobHash::from_field("StateTensors.tensors", hash))
                    .collect::<Result<_, _>>()?,
            },
        })
    }
}
