//! How many bytes of contributions are fetched or checked at the same time, and for whom.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use weal_network::Priority;

/// On whose behalf a contribution is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A decided round needs it.
    Decided,
    /// A member committed to it.
    OfMember,
    /// A peer that is not a member yet committed to it.
    OfNewcomer,
}

/// Budgets in [`UNIT`]s. All contributions of a round should fit: peers then spread them together,
/// each with all of its uplink.
const DECIDED: u32 = 1024;
const OF_MEMBERS: u32 = 2048;
const OF_NEWCOMERS: u32 = 256;
/// Contributions that are decoded and checked at once.
const CHECKS: usize = 8;
/// 128 KiB. A short contribution takes as much, since it takes work too.
const UNIT: u64 = 128 << 10;

impl Purpose {
    fn budget(self) -> u32 {
        match self {
            Self::Decided => DECIDED,
            Self::OfMember => OF_MEMBERS,
            Self::OfNewcomer => OF_NEWCOMERS,
        }
    }

    pub(super) fn priority(self) -> Priority {
        match self {
            Self::Decided => Priority::Apply,
            Self::OfMember | Self::OfNewcomer => Priority::Examine,
        }
    }

    /// How long to look for a peer that has the contribution. For a member, as long as the fetch
    /// phase lasts.
    pub(super) fn patience(self) -> Duration {
        match self {
            Self::Decided => Duration::from_secs(20),
            Self::OfMember => Duration::from_secs(24 * 3600),
            Self::OfNewcomer => Duration::from_secs(10),
        }
    }
}

/// Places for contributions that are fetched or checked at the same time.
#[derive(Debug, Clone)]
pub(super) struct Places {
    decided: Arc<Semaphore>,
    members: Arc<Semaphore>,
    newcomers: Arc<Semaphore>,
    checks: Arc<Semaphore>,
}

impl Places {
    pub(super) fn new() -> Self {
        let places = |purpose: Purpose| Arc::new(Semaphore::new(purpose.budget() as usize));
        Self {
            decided: places(Purpose::Decided),
            members: places(Purpose::OfMember),
            newcomers: places(Purpose::OfNewcomer),
            checks: Arc::new(Semaphore::new(CHECKS)),
        }
    }

    /// Waits for room for a contribution of this length. One that is longer than the budget takes
    /// all of it. Never `None` while the node runs.
    pub(super) async fn take(&self, purpose: Purpose, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let places = match purpose {
            Purpose::Decided => &self.decided,
            Purpose::OfMember => &self.members,
            Purpose::OfNewcomer => &self.newcomers,
        };
        let units = units.clamp(1, purpose.budget());
        Arc::clone(places).acquire_many_owned(units).await.ok()
    }

    /// Waits until few enough contributions are checked. Never `None` while the node runs.
    pub(super) async fn check(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.checks).acquire_owned().await.ok()
    }
}
