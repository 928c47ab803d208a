//! What the learner's thread needs.

use std::sync::Arc;

use weal_proto::{PeerId, RunId};
use weal_trainer::{Corpus, OpenDevice};

use crate::full_disk::FullDisk;
use crate::plan::Plan;
use crate::settings::ComputeSettings;
use crate::store::blobs::Blobs;
use crate::store::learner::{LearnerFiles, SavedState};

/// Model, data, device and files of a learner.
pub(crate) struct LearnerSetup {
    pub run: RunId,
    /// This node.
    pub peer: PeerId,
    pub plan: Arc<Plan>,
    pub corpus: Arc<Corpus>,
    pub device: OpenDevice,
    /// Contributions go here.
    pub blobs: Blobs,
    /// Error feedback and moments go here.
    pub files: LearnerFiles,
    /// Lets writes wait while the disk is full.
    pub disk: FullDisk,
    /// What an earlier process saved in `files`.
    pub learnt: Option<SavedState>,
    /// Held-out sequences of an evaluation.
    pub evaluation_sequences: usize,
    /// Version of the contribution codec.
    pub codec: u32,
    /// How the device is used.
    pub compute: ComputeSettings,
}
