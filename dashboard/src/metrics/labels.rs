//! The labels that tell the series of one metric apart.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

use crate::snapshot::{NodeState, Phase};

/// Declares a label set, and lists its names for the reference.
macro_rules! label_set {
    ($(#[doc = $doc:literal])+ $set:ident { $($name:ident: $value:ty),+ $(,)? }) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub(super) struct $set {
            $(pub $name: $value,)+
        }

        impl LabelSet for $set {
            const NAMES: &'static [&'static str] = &[$(stringify!($name)),+];
        }
    };
}

/// A set of labels whose names are known.
pub(super) trait LabelSet {
    /// The names, in the order in which they are written.
    const NAMES: &'static [&'static str];
}

label_set! {
    /// What is running; the labels of `node_info`.
    NodeLabels { version: String, node: String, run: String, run_name: String, device: String }
}

label_set! {
    /// A state of the node.
    StateLabels { state: NodeState }
}

label_set! {
    /// A phase of a round.
    PhaseLabels { phase: Phase }
}

label_set! {
    /// A kind of traffic, as the network names it: `gossip`, `blobs`, …
    TrafficLabels { kind: String }
}

label_set! {
    /// Why the network or the rules dropped something.
    DropLabels { cause: String }
}

label_set! {
    /// Why the dashboard refused a request.
    RefusalLabels { cause: Refused }
}

/// Why the dashboard refused a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Refused {
    /// The request used a host name that does not belong to this machine.
    ForeignHost,
    /// The request did not have the page's password.
    Password,
    /// Too many event streams are open.
    TooManyStreams,
}

impl EncodeLabelValue for Refused {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        let cause = match self {
            Self::ForeignHost => "foreign_host",
            Self::Password => "password",
            Self::TooManyStreams => "too_many_streams",
        };
        cause.encode(encoder)
    }
}

impl EncodeLabelValue for NodeState {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        self.name().encode(encoder)
    }
}

impl EncodeLabelValue for Phase {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        self.name().encode(encoder)
    }
}
