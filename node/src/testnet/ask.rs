//! Asks a node's page, as a person's browser would.

use std::net::SocketAddr;
use std::time::Duration;

use weal_dashboard::Snapshot;

/// A page that takes longer is not there.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a node is doing.
///
/// # Errors
/// When nobody answers, or the answer is not a node's.
pub fn status(page: SocketAddr) -> Result<Snapshot, String> {
    let url = format!("http://{page}/api/status");
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .build()
        .into();
    let mut answer = agent
        .get(&url)
        .call()
        .map_err(|error| format!("no node answers at http://{page}: {error}"))?;
    answer
        .body_mut()
        .read_json()
        .map_err(|error| format!("what answers at http://{page} is not a node: {error}"))
}
