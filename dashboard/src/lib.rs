//! The web page and the metrics of one node: a router over a snapshot and an event stream.
//!
//! The node fills in a [`Snapshot`] whenever something changed and [publishes](Dashboard::publish)
//! it; browsers, Prometheus, `weal status` and `weal top` read it from there. Nothing here talks
//! back to the node: who can open the page can look, and no more.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use weal_dashboard::{Dashboard, Snapshot, serve};
//!
//! let dashboard = Dashboard::new();
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! let server = tokio::spawn(serve(listener, dashboard.clone(), async {
//!     let _ = tokio::signal::ctrl_c().await;
//! }));
//! dashboard.publish(Snapshot::default());
//! server.await??;
//! # Ok(())
//! # }
//! ```
//!
//! The page is plain ES modules in `assets/`, embedded in the binary with plotly.js: no build step,
//! no network.

mod assets;
mod events;
mod guard;
mod history;
mod metrics;
mod router;
pub mod snapshot;
mod state;

pub use events::{EVENT_INTERVAL, PING_INTERVAL};
pub use guard::Hosts;
pub use history::{POINTS_KEPT, POINTS_SERVED, RECORDS_KEPT};
pub use router::{HISTORY_PAGE, STALE_AFTER, serve};
pub use snapshot::{
    Floor, Learner, Level, LogLine, Node, NodeState, Peer, PeerRound, Phase, PhaseSeconds, Round,
    RoundRecord, Run, Snapshot, Traffic,
};
pub use state::{Dashboard, RECENT_ROUNDS, STREAMS_MAX};

/// What stops the dashboard's server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The listener's address cannot be read.
    #[error("the dashboard's listener has no address: {0}; restart the node")]
    Listener(#[source] std::io::Error),
    /// Accepting connections failed for good.
    #[error("the dashboard stopped serving: {0}; restart the node")]
    Serve(#[source] std::io::Error),
}
