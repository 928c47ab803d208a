//! The manifest itself.

use super::{
    Compression, Data, Founder, Inner, Limits, Membership, Model, Outer, Timing, Tokeniser, Trust,
    check,
};
use crate::error::{DecodeError, ManifestError};
use crate::ids::{BlobHash, RoundNumber, RunId, StateRoot};
use crate::limits;
use crate::message::{Message, Standalone};
use crate::schema::{Value, Wire, message};
use crate::shape::{self, Shape, one, plain};
use crate::wire;

/// BLAKE3 context under which a manifest is hashed.
const CONTEXT: &str = "commonweal run v1";

/// What defines a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Name of the run for people; 1 to 64 bytes.
    pub name: String,
    /// The model's sizes.
    pub model: Model,
    /// How text becomes tokens.
    pub tokeniser: Tokeniser,
    /// What is trained on.
    pub data: Data,
    /// The initial weights.
    pub initial: Initial,
    /// How each peer trains within a round.
    pub inner: Inner,
    /// How a pseudo-gradient becomes a contribution.
    pub compression: Compression,
    /// How contributions change the weights.
    pub outer: Outer,
    /// Time limits of a round's phases.
    pub timing: Timing,
    /// Limits on the contents of a round.
    pub limits: Limits,
    /// How peers earn and lose votes.
    pub membership: Membership,
    /// The voters of round 0, strictly rising by key.
    pub founders: Vec<Founder>,
    /// The version of the rules that all nodes of the run follow: [`limits::RULES`].
    pub rules: u32,
    /// How contributions are judged.
    pub trust: Trust,
    /// The run whose weights this one continues, if it names one.
    pub ancestor: Option<Ancestor>,
}

message! {
    /// Weights that another run decided. Whoever has that run's id can prove it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Ancestor(super::NAME, super::NUMBERS_BYTES) {
        /// The run.
        pub run: RunId = 1,
        /// The round that started from the weights.
        pub round: RoundNumber = 2,
        /// Their state root.
        pub state_root: StateRoot = 3,
    }
}

/// The initial weights of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initial {
    /// Drawn by the integer generator from this seed.
    Seed([u8; 32]),
    /// The weights of an earlier training: hash of a blob of little-endian f32 values in the
    /// layout's order. A peer that joins fetches it like the data.
    Weights(BlobHash),
}

impl Manifest {
    /// The id of the run that this manifest defines.
    pub fn run(&self) -> RunId {
        Self::run_of(&self.encode())
    }

    /// The id of the run that a manifest's canonical bytes define.
    pub fn run_of(bytes: &[u8]) -> RunId {
        blake3::derive_key(CONTEXT, bytes).into()
    }

    /// Checks the rules that a manifest must keep.
    ///
    /// # Errors
    /// The first key that breaks a rule, its value, and what would be accepted.
    pub fn validate(&self) -> Result<(), ManifestError> {
        check::manifest(self)
    }
}

impl Standalone for Manifest {}

impl Wire for Manifest {
    type Wire = wire::Manifest;
    const SHAPE: Shape = Shape {
        name: super::NAME,
        most_bytes: limits::MANIFEST_BYTES,
        fields: &[
            plain(1),
            one(2, &Model::SHAPE),
            one(3, &Tokeniser::SHAPE),
            one(4, &Data::SHAPE),
            plain(5),
            one(6, &Inner::SHAPE),
            one(7, &Compression::SHAPE),
            one(8, &Outer::SHAPE),
            one(9, &Timing::SHAPE),
            one(10, &Limits::SHAPE),
            one(11, &Membership::SHAPE),
            shape::list(12, "Manifest.founders", limits::FOUNDERS, &Founder::SHAPE),
            plain(13),
            plain(14),
            one(15, &Trust::SHAPE),
            one(16, &Ancestor::SHAPE),
        ],
    };

    fn to_wire(&self) -> Self::Wire {
        let (initial_seed, initial_weights) = match &self.initial {
            Initial::Seed(seed) => (seed.to_vec(), Vec::new()),
            Initial::Weights(hash) => (Vec::new(), hash.to_field()),
        };
        wire::Manifest {
            name: self.name.clone(),
            model: self.model.to_field(),
            tokeniser: self.tokeniser.to_field(),
            data: self.data.to_field(),
            initial_seed,
            inner: self.inner.to_field(),
            compression: self.compression.to_field(),
            outer: self.outer.to_field(),
            timing: self.timing.to_field(),
            limits: self.limits.to_field(),
            membership: self.membership.to_field(),
            founders: self.founders.to_field(),
            initial_weights,
            rules: self.rules,
            trust: self.trust.to_field(),
            ancestor: self.ancestor.to_field(),
        }
    }

    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError> {
        if wire.rules != limits::RULES {
            return Err(DecodeError::OtherRules {
                // The first version had no number.
                found: wire.rules.max(1),
                expected: limits::RULES,
            });
        }
        let manifest = Self {
            name: wire.name,
            model: Value::from_field("Manifest.model", wire.model)?,
            tokeniser: Value::from_field("Manifest.tokeniser", wire.tokeniser)?,
            data: Value::from_field("Manifest.data", wire.data)?,
            initial: initial(wire.initial_seed, wire.initial_weights)?,
            inner: Value::from_field("Manifest.inner", wire.inner)?,
            compression: Value::from_field("Manifest.compression", wire.compression)?,
            outer: Value::from_field("Manifest.outer", wire.outer)?,
            timing: Value::from_field("Manifest.timing", wire.timing)?,
            limits: Value::from_field("Manifest.limits", wire.limits)?,
            membership: Value::from_field("Manifest.membership", wire.membership)?,
            founders: Value::from_field("Manifest.founders", wire.founders)?,
            rules: wire.rules,
            trust: Value::from_field("Manifest.trust", wire.trust)?,
            ancestor: Value::from_field("Manifest.ancestor", wire.ancestor)?,
        };
        manifest.validate()?;
        Ok(manifest)
    }
}

/// Exactly one of the two may be present.
fn initial(seed: Vec<u8>, weights: Vec<u8>) -> Result<Initial, DecodeError> {
    match (seed.is_empty(), weights.is_empty()) {
        (_, true) => {
            let seed = BlobHash::from_field("Manifest.initial_seed", seed)?;
            Ok(Initial::Seed(seed.into()))
        }
        (true, false) => {
            BlobHash::from_field("Manifest.initial_weights", weights).map(Initial::Weights)
        }
        (false, false) => Err(DecodeError::WrongLength {
            field: "Manifest.initial_weights beside Manifest.initial_seed",
            bytes: weights.len(),
            expected: 0,
        }),
    }
}

const _: () = assert!(limits::FOUNDERS <= limits::VOTERS);
