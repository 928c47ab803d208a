//! The web page and the metrics of one node: a router over a snapshot and an event stream.
//!
//! The node fills in a [`Snapshot`] whenever something changes and [publishes](Dashboard::publish)
//! it. Browsers, Prometheus and `weal status` read it from here. Nothing talks back to the node:
//! the page is read-only.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use weal_dashboard::{Access, Dashboard, Snapshot, serve};
//!
//! let dashboard = Dashboard::new();
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! let access = Access::default();
//! let server = tokio::spawn(serve(listener, dashboard.clone(), access, async {
//!     let _ = tokio::signal::ctrl_c().await;
//! }));
//! dashboard.publish(Snapshot::default());
//! server.await??;
//! # Ok(())
//! # }
//! ```
//!
//! The page is plain ES modules in `assets/`, embedded in the binary together with plotly.js. It
//! needs no build step and loads nothing from other servers.

#![forbid(unsafe_code)]

mod assets;
mod events;
mod guard;
mod history;
mod metrics;
mod router;
pub mod snapshot;
mod state;

pub use guard::{Access, Hosts, Password};
pub use metrics::{MetricDoc, MetricKind, metrics_reference};
pub use router::serve;
pub use snapshot::{
    Fetch, Floor, Learner, Level, LogLine, MonthTraffic, Node, NodeState, Peer, PeerRound, Phase,
    PhaseSeconds, Round, RoundRecord, Run, Snapshot, Traffic,
};
pub use state::{Dashboard, STREAMS_MAX};

/// Why the dashboard's server stopped or could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The listener's address could not be read.
    #[error("could not read the address the dashboard listens on")]
    Listener(#[source] std::io::Error),
    /// Accepting connections failed permanently.
    #[error("the dashboard stopped accepting connections")]
    Serve(#[source] std::io::Error),
}
