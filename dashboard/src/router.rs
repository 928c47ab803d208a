//! The routes, and a server for them.

use std::future::Future;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tower_http::compression::CompressionLayer;

use crate::Error;
use crate::assets::{asset, page, plotly_js};
use crate::events::events;
use crate::guard::{Guard, Hosts, check_host, secure};
use crate::history::Curve;
use crate::metrics::CONTENT_TYPE;
use crate::snapshot::{NodeState, RoundRecord, Snapshot};
use crate::state::Dashboard;

/// Records in one answer of `/api/history`, at most.
pub const HISTORY_PAGE: usize = 256;

/// A node that published nothing for this long is not healthy.
pub const STALE_AFTER: Duration = Duration::from_secs(60);

/// How long a shutdown waits for open connections.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

impl Dashboard {
    /// The routes, for a listener that answers under these names.
    ///
    /// | path | answer |
    /// |---|---|
    /// | `/` | the page |
    /// | `/assets/…` | its files |
    /// | `/api/status` | the latest [`Snapshot`] with the newest records, JSON |
    /// | `/api/events` | server-sent events: `snapshot` when something changed, `ping` when nothing did |
    /// | `/api/curve` | the whole loss curve, as columns, JSON |
    /// | `/api/history?from=R&before=R&limit=N` | records in full, ascending, JSON |
    /// | `/metrics` | OpenMetrics text for Prometheus |
    /// | `/healthz` | 200 while the node works, 503 with the reason otherwise |
    pub fn router(&self, hosts: Hosts) -> Router {
        let guard = Guard {
            dashboard: self.clone(),
            hosts,
        };
        Router::new()
            .route("/", get(page))
            .route("/assets/plotly.js", get(plotly_js))
            .route("/assets/{*path}", get(asset))
            .route("/api/status", get(status))
            .route("/api/events", get(events))
            .route("/api/curve", get(curve))
            .route("/api/history", get(history))
            .route("/metrics", get(metrics))
            .route("/healthz", get(healthz))
            .with_state(self.clone())
            .layer(CompressionLayer::new())
            .layer(middleware::from_fn_with_state(guard, check_host))
            .layer(middleware::from_fn(secure))
    }
}

/// Serves the dashboard until `shutdown` is done; the listener's address decides under which names
/// ([`Hosts`]).
///
/// Open event streams are ended, and other connections given two seconds.
///
/// # Errors
/// [`Error::Listener`] where the listener's address cannot be read, [`Error::Serve`] where
/// accepting fails for good.
pub async fn serve(
    listener: TcpListener,
    dashboard: Dashboard,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let address = listener.local_addr().map_err(Error::Listener)?;
    let router = dashboard.router(Hosts::for_address(address));
    let mut closed = dashboard.closed();
    let server = axum::serve(listener, router).with_graceful_shutdown(async move {
        shutdown.await;
        dashboard.close();
    });
    let grace = async move {
        // An error means that the dashboard is gone: the same to us.
        let _ = closed.wait_for(|closed| *closed).await;
        tokio::time::sleep(SHUTDOWN_GRACE).await;
    };
    tokio::select! {
        served = server.into_future() => served.map_err(Error::Serve),
        () = grace => Ok(()),
    }
}

async fn status(State(dashboard): State<Dashboard>) -> Json<Snapshot> {
    Json(dashboard.status())
}

async fn curve(State(dashboard): State<Dashboard>) -> Json<Curve> {
    Json(dashboard.curve())
}

/// Which records `/api/history` is asked for.
#[derive(Debug, Deserialize)]
struct HistoryQuery {
    /// Rounds from this one on; the answer starts with it.
    from: Option<u64>,
    /// Rounds before this one; the answer ends with the one before it. `from` wins where both are
    /// there.
    before: Option<u64>,
    /// At most this many, and never more than [`HISTORY_PAGE`].
    limit: Option<usize>,
}

#[derive(Debug, Serialize)]
struct HistoryPage {
    records: Vec<RoundRecord>,
}

async fn history(
    State(dashboard): State<Dashboard>,
    Query(query): Query<HistoryQuery>,
) -> Json<HistoryPage> {
    let limit = query.limit.unwrap_or(HISTORY_PAGE).min(HISTORY_PAGE);
    let records = match query.from {
        Some(from) => dashboard.records_from(from, limit),
        None => dashboard.records_before(query.before.unwrap_or(u64::MAX), limit),
    };
    Json(HistoryPage {
        records: records.iter().map(|record| (**record).clone()).collect(),
    })
}

async fn metrics(State(dashboard): State<Dashboard>) -> Response {
    match dashboard.metrics().encode() {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn healthz(State(dashboard): State<Dashboard>) -> Response {
    let Some((snapshot, age)) = dashboard.latest() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response();
    };
    if age > STALE_AFTER {
        let text = format!("no news from the node for {} s\n", age.as_secs());
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    }
    if snapshot.node.state == NodeState::Error {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("error: {}\n", snapshot.node.message),
        )
            .into_response();
    }
    format!("{}\n", snapshot.node.state.name()).into_response()
}
