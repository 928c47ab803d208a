//! Asks a running node for its status, over HTTP as a browser does.

use std::net::SocketAddr;
use std::time::Duration;

use weal_dashboard::Snapshot;

use crate::error::{Error, Result};

/// The longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The status of the node whose page is at this address.
///
/// # Errors
/// When nothing answers within 5 s, or what answers is not a node.
pub fn status(page: SocketAddr) -> Result<Snapshot> {
    let url = format!("http://{page}/api/status");
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .build()
        .into();
    let mut answer = agent.get(&url).call().map_err(|error| {
        Error::network(format!("no node answers at http://{page}")).caused_by(error)
    })?;
    answer.body_mut().read_json().map_err(|error| {
        Error::network(format!("what answers at http://{page} is not a node")).caused_by(error)
    })
}
