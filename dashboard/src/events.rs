//! `/api/events`: a server-sent event whenever the snapshot changes.
//!
//! The first event of a stream has the newest records, each later one only those that changed
//! since. A browser that reconnects starts over. It keeps rounds by number, so receiving one twice
//! is harmless.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use crate::metrics::Refused;
use crate::snapshot::{RoundRecord, Snapshot};
use crate::state::{Dashboard, News, unix_ms};

/// The shortest time between two events of a stream.
const EVENT_INTERVAL: Duration = Duration::from_millis(250);

/// A stream sends a `ping` event after this long without another event, so that the page notices
/// when the node is gone.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// The data of a `snapshot` event.
#[derive(Serialize)]
struct Update<'a> {
    /// The time by this machine's clock, so that the progress of a phase is right even if the
    /// browser's clock is wrong.
    now_unix_ms: u64,
    snapshot: &'a Snapshot,
    records: Vec<&'a RoundRecord>,
    /// Older records were left out, so the browser should fetch the curve again.
    skipped: bool,
}

/// The state of one event stream.
struct Listener {
    dashboard: Dashboard,
    published: watch::Receiver<u64>,
    closed: watch::Receiver<bool>,
    revision: Option<u64>,
    next_event: Instant,
    _permit: OwnedSemaphorePermit,
}

/// Answers `/api/events`, with status 503 if too many streams are open.
pub(crate) async fn events(State(dashboard): State<Dashboard>) -> Response {
    let Ok(permit) = dashboard.streams().try_acquire_owned() else {
        dashboard.metrics().refuse(Refused::TooManyStreams);
        let advice = "too many event streams are open; close some tabs with this page\n";
        return (StatusCode::SERVICE_UNAVAILABLE, advice).into_response();
    };
    let ping = KeepAlive::new()
        .interval(PING_INTERVAL)
        .event(Event::default().event("ping").data(""));
    Sse::new(stream(dashboard, permit))
        .keep_alive(ping)
        .into_response()
}

fn stream(
    dashboard: Dashboard,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let mut published = dashboard.published();
    // A snapshot published earlier is new to this listener.
    published.mark_changed();
    let listener = Listener {
        published,
        closed: dashboard.closed(),
        dashboard,
        revision: None,
        next_event: Instant::now(),
        _permit: permit,
    };
    stream::unfold(listener, |mut listener| async move {
        let event = listener.next().await?;
        Some((Ok(event), listener))
    })
}

impl Listener {
    /// Waits for the next event; none once the dashboard is closed.
    async fn next(&mut self) -> Option<Event> {
        let mut closed = self.closed.clone();
        tokio::select! {
            _ = closed.wait_for(|closed| *closed) => None,
            event = self.next_snapshot() => event,
        }
    }

    async fn next_snapshot(&mut self) -> Option<Event> {
        loop {
            self.published.changed().await.ok()?;
            tokio::time::sleep_until(self.next_event).await;
            self.published.mark_unchanged();
            let Some(news) = self.dashboard.news(self.revision) else {
                continue;
            };
            self.revision = Some(news.revision);
            self.next_event = Instant::now() + EVENT_INTERVAL;
            match encode(&news) {
                Ok(event) => return Some(event),
                Err(error) => tracing::warn!(%error, "could not encode a snapshot as JSON"),
            }
        }
    }
}

fn encode(news: &News) -> Result<Event, axum::Error> {
    let records = news.records.iter().map(Arc::as_ref).collect();
    let update = Update {
        now_unix_ms: unix_ms(),
        snapshot: &news.snapshot,
        records,
        skipped: news.skipped,
    };
    Event::default().event("snapshot").json_data(update)
}
