//! The routes and the server.

use std::future::Future;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tower_http::compression::CompressionLayer;

use crate::Error;
use crate::assets::{asset, page, plotly_js};
use crate::events::events;
use crate::guard::{Access, Guard, Hosts, Password, check_host, check_password, secure};
use crate::history::Curve;
use crate::metrics::Format;
use crate::snapshot::{NodeState, RoundRecord, Snapshot};
use crate::state::Dashboard;

/// The most records in one answer of `/api/history`.
const HISTORY_PAGE: usize = 256;

/// `/healthz` reports a node as unhealthy if it has not published for this long.
const STALE_AFTER: Duration = Duration::from_secs(60);

/// How long a shutdown waits for open connections.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

impl Dashboard {
    /// The routes, answering requests for `hosts` of those that know the password, if there is one.
    ///
    /// | path | answer |
    /// |---|---|
    /// | `/` | the page |
    /// | `/assets/…` | the page's files |
    /// | `/api/status` | the latest [`Snapshot`] with the newest records, as JSON |
    /// | `/api/events` | server-sent events: `snapshot` after a change, `ping` without one |
    /// | `/api/curve` | the whole loss curve, as columns in JSON |
    /// | `/api/history?from=R&before=R&limit=N` | full records, ascending, as JSON |
    /// | `/metrics` | text for Prometheus, or OpenMetrics for those who accept it |
    /// | `/healthz` | 200 while the node works, otherwise 503 with the reason |
    pub fn router(&self, hosts: Hosts, password: Option<Password>) -> Router {
        let guard = Guard {
            dashboard: self.clone(),
            hosts,
            password,
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
            .layer(middleware::from_fn_with_state(
                guard.clone(),
                check_password,
            ))
            .layer(middleware::from_fn_with_state(guard, check_host))
            .layer(middleware::from_fn(secure))
    }
}

/// Serves the dashboard to those that have access until `shutdown` completes. The listener's
/// address decides which host names are answered (see [`Hosts::for_address`]).
///
/// On shutdown, event streams end at once, and other connections have two seconds to finish.
///
/// # Errors
/// [`Error::Listener`] if the listener's address cannot be read, [`Error::Serve`] if accepting
/// connections fails permanently.
pub async fn serve(
    listener: TcpListener,
    dashboard: Dashboard,
    access: Access,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let address = listener.local_addr().map_err(Error::Listener)?;
    let Access { hosts, password } = access;
    let router = dashboard.router(Hosts::for_address(address, &hosts), password);
    let mut closed = dashboard.closed();
    let server = axum::serve(listener, router).with_graceful_shutdown(async move {
        shutdown.await;
        dashboard.close();
    });
    let grace = async move {
        // An error means that the dashboard was dropped, which also ends the server.
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

/// The query of `/api/history`.
#[derive(Debug, Deserialize)]
struct HistoryQuery {
    /// Return the first rounds from this one on.
    from: Option<u64>,
    /// Return the last rounds before this one. Ignored if `from` is given.
    before: Option<u64>,
    /// Return at most this many records, and never more than [`HISTORY_PAGE`].
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

async fn metrics(State(dashboard): State<Dashboard>, headers: HeaderMap) -> Response {
    let accept = headers.get_all(header::ACCEPT).iter();
    let accept: Vec<_> = accept.filter_map(|value| value.to_str().ok()).collect();
    let format = Format::wanted(&accept.join(","));
    match dashboard.metrics().encode() {
        Ok(text) => {
            let text = format.of_open_metrics(text);
            let headers = [
                (header::CONTENT_TYPE, format.content_type()),
                (header::VARY, "accept"),
            ];
            (headers, text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn healthz(State(dashboard): State<Dashboard>) -> Response {
    let Some((snapshot, age)) = dashboard.latest() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response();
    };
    if age > STALE_AFTER {
        let text = format!("the node has not reported for {} s\n", age.as_secs());
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
