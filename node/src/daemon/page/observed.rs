//! The other parts of the node, as they are when a snapshot is made.

use weal_coordinator_free::CoreView;
use weal_dashboard::Fetch;
use weal_network as network;
use weal_proto::RoundNumber;

use crate::learner::{LearnerHealth, LearnerProgress};
use crate::traffic_meter::MonthlyUse;

/// What a snapshot needs besides what has happened: the other parts of the node, as they are now.
pub(in crate::daemon) struct Observed<'a> {
    pub core: &'a CoreView,
    pub network: &'a network::Status,
    pub learner: LearnerProgress,
    pub health: LearnerHealth,
    /// The bytes of this month.
    pub monthly_use: &'a MonthlyUse,
    /// What to tell people while the disk is full.
    pub full_disk: Option<String>,
    /// The run link that invites others.
    pub link: String,
    /// The weights that are being fetched.
    pub fetch: Option<Fetch>,
    /// The newest round whose starting weights are here.
    pub weights_round: Option<RoundNumber>,
}
