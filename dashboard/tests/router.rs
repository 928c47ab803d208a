//! Tests the answers of the routes, without a network.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use futures::StreamExt;
use tower::ServiceExt;
use weal_dashboard::{
    Dashboard, Hosts, Node, NodeState, Password, Round, RoundRecord, Run, Snapshot,
};

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn snapshot(rounds: std::ops::Range<u64>) -> Snapshot {
    Snapshot {
        run: Run {
            id: "ab".repeat(32),
            name: "meadow".into(),
            ..Run::default()
        },
        node: Node {
            state: NodeState::Training,
            ..Node::default()
        },
        round: Round {
            number: rounds.end,
            ..Round::default()
        },
        history: rounds
            .map(|round| RoundRecord {
                round,
                heldout_nats_per_byte: Some(4.0 - 0.01 * round as f64),
                contributions: 3,
                ..RoundRecord::default()
            })
            .collect(),
        ..Snapshot::default()
    }
}

fn router(dashboard: &Dashboard) -> Router {
    dashboard.router(hosts([127, 0, 0, 1]), None)
}

/// The host names of a page that listens there.
fn hosts(listen: [u8; 4]) -> Hosts {
    Hosts::for_address((listen, 8080).into(), &[])
}

fn request(path: &str) -> axum::http::request::Builder {
    Request::builder()
        .uri(path)
        .header(header::HOST, "localhost:8080")
}

async fn send(dashboard: &Dashboard, request: Request<Body>) -> (StatusCode, HeaderMap, Vec<u8>) {
    let response = router(dashboard).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    (parts.status, parts.headers, body.to_vec())
}

async fn get(dashboard: &Dashboard, path: &str) -> (StatusCode, HeaderMap, String) {
    let (status, headers, body) = send(dashboard, request(path).body(Body::empty()).unwrap()).await;
    (status, headers, String::from_utf8(body).unwrap())
}

async fn get_json(dashboard: &Dashboard, path: &str) -> serde_json::Value {
    let (status, _, body) = get(dashboard, path).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn the_page_and_every_file_it_names_are_served() {
    let dashboard = Dashboard::new();
    let (status, headers, html) = get(&dashboard, "/").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
    let named: Vec<&str> = html
        .split('"')
        .filter(|text| text.starts_with("/assets/"))
        .collect();
    assert!(named.len() >= 2, "{named:?}");
    for path in named {
        assert_eq!(get(&dashboard, path).await.0, StatusCode::OK, "{path}");
    }
    assert_eq!(
        get(&dashboard, "/assets/absent.js").await.0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        get(&dashboard, "/assets/../Cargo.toml").await.0,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn every_module_that_a_module_imports_is_served() {
    let dashboard = Dashboard::new();
    let mut waiting = vec!["app.js".to_owned()];
    let mut seen = Vec::new();
    while let Some(module) = waiting.pop() {
        let (status, headers, code) = get(&dashboard, &format!("/assets/{module}")).await;
        assert_eq!(status, StatusCode::OK, "{module}");
        assert_eq!(
            headers[header::CONTENT_TYPE],
            "text/javascript; charset=utf-8"
        );
        for imported in code
            .split(" from \"./")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
        {
            if !seen.iter().any(|known| known == imported) {
                waiting.push(imported.to_owned());
            }
        }
        seen.push(module);
    }
    assert!(seen.len() > 3, "{seen:?}");
}

#[tokio::test]
async fn the_page_has_no_inline_scripts_or_styles_and_loads_nothing_from_elsewhere() {
    let (_, headers, html) = get(&Dashboard::new(), "/").await;
    let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(
        policy.contains("default-src 'none'") && policy.contains("script-src 'self'"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe"), "{policy}");
    assert!(!html.contains("style=") && !html.contains("<style") && !html.contains(" onclick"));
    for script in html.split("<script").skip(1) {
        assert!(
            script
                .split('>')
                .next()
                .is_some_and(|tag| tag.contains("src=")),
            "{script}"
        );
    }
    assert!(!html.contains("href=\"http") && !html.contains("src=\"http"));
    assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
}

#[tokio::test]
async fn an_unchanged_file_is_not_sent_again() {
    let dashboard = Dashboard::new();
    let (_, headers, _) = get(&dashboard, "/").await;
    let again = request("/").header(header::IF_NONE_MATCH, &headers[header::ETAG]);
    let (status, _, body) = send(&dashboard, again.body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::NOT_MODIFIED);
    assert!(body.is_empty());
}

#[tokio::test]
async fn plotly_is_served_as_a_script_and_compressed_on_request() {
    let dashboard = Dashboard::new();
    let (status, headers, script) = get(&dashboard, "/assets/plotly.js").await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        script.starts_with("/**\n* plotly.js v"),
        "{:?}",
        script.get(..60)
    );
    assert!(
        script.trim_end().ends_with("}));"),
        "{:?}",
        script.get(script.len() - 60..)
    );
    assert!(
        headers[header::CACHE_CONTROL]
            .to_str()
            .unwrap()
            .contains("max-age=")
    );

    let zipped = request("/assets/plotly.js").header(header::ACCEPT_ENCODING, "gzip");
    let (_, headers, body) = send(&dashboard, zipped.body(Body::empty()).unwrap()).await;
    assert_eq!(headers[header::CONTENT_ENCODING], "gzip");
    assert!(body.len() < script.len() / 2);
}

#[tokio::test]
async fn a_foreign_host_name_is_refused_and_counted() {
    let dashboard = Dashboard::new();
    for path in [
        "/",
        "/api/status",
        "/api/events",
        "/metrics",
        "/assets/plotly.js",
    ] {
        let foreign = Request::builder()
            .uri(path)
            .header(header::HOST, "evil.example:8080");
        let (status, _, _) = send(&dashboard, foreign.body(Body::empty()).unwrap()).await;
        assert_eq!(status, StatusCode::MISDIRECTED_REQUEST, "{path}");
    }
    let nameless = Request::builder().uri("/").body(Body::empty()).unwrap();
    assert_eq!(
        send(&dashboard, nameless).await.0,
        StatusCode::MISDIRECTED_REQUEST
    );
    let (_, _, text) = get(&dashboard, "/metrics").await;
    assert!(
        text.contains("dashboard_refused_requests_total{cause=\"foreign_host\"} 6"),
        "{text}"
    );
}

#[tokio::test]
async fn a_dashboard_opened_to_a_network_answers_to_its_names_and_to_no_web_site() {
    let dashboard = Dashboard::new();
    for (host, is_answered) in [
        ("box.lan", true),
        ("192.168.1.2:80", true),
        ("evil.example", false),
    ] {
        let asked = Request::builder()
            .uri("/assets/app.js")
            .header(header::HOST, host);
        let response = dashboard
            .router(hosts([0, 0, 0, 0]), None)
            .oneshot(asked.body(Body::empty()).unwrap())
            .await
            .unwrap();
        assert_eq!(response.status() == StatusCode::OK, is_answered, "{host}");
    }
}

/// The status of an answer to a request with this `Authorization`, by a page with a password.
async fn ask(dashboard: &Dashboard, path: &str, authorization: Option<&str>) -> StatusCode {
    let mut asked = request(path);
    if let Some(value) = authorization {
        asked = asked.header(header::AUTHORIZATION, value);
    }
    let router = dashboard.router(hosts([127, 0, 0, 1]), Some(Password::new("open sesame")));
    let response = router.oneshot(asked.body(Body::empty()).unwrap()).await;
    let response = response.unwrap();
    let asks = response.headers().get(header::WWW_AUTHENTICATE).is_some();
    assert_eq!(asks, response.status() == StatusCode::UNAUTHORIZED);
    response.status()
}

#[tokio::test]
async fn everything_but_the_metrics_needs_the_password_if_there_is_one() {
    let dashboard = Dashboard::new();
    dashboard.publish(snapshot(0..3));
    let paths = [
        "/",
        "/assets/app.js",
        "/assets/plotly.js",
        "/api/status",
        "/api/events",
        "/api/curve",
        "/api/history",
        "/healthz",
        "/absent",
    ];
    // "me:open sesame", "me:open" and "open sesame:" in base64.
    let wrong = [
        None,
        Some("Basic bWU6b3Blbg=="),
        Some("Basic b3BlbiBzZXNhbWU6"),
        Some("Bearer open"),
        Some("Bearer"),
    ];
    for path in paths {
        for authorization in wrong {
            let status = ask(&dashboard, path, authorization).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{path} {authorization:?}");
        }
        for right in ["Basic bWU6b3BlbiBzZXNhbWU=", "Bearer open sesame"] {
            let status = ask(&dashboard, path, Some(right)).await;
            assert_ne!(status, StatusCode::UNAUTHORIZED, "{path} {right}");
        }
    }
    assert_eq!(ask(&dashboard, "/metrics", None).await, StatusCode::OK);
    assert_eq!(
        ask(&dashboard, "/metrics/", None).await,
        StatusCode::UNAUTHORIZED
    );
    let (_, _, text) = get(&dashboard, "/metrics").await;
    assert!(
        text.contains("dashboard_refused_requests_total{cause=\"password\"}"),
        "{text}"
    );
}

#[tokio::test]
async fn the_status_is_the_snapshot_that_was_published() {
    let dashboard = Dashboard::new();
    let published = Snapshot {
        unix_ms: 1_700_000_000_000,
        ..snapshot(0..3)
    };
    dashboard.publish(published.clone());
    let (_, _, body) = get(&dashboard, "/api/status").await;
    assert_eq!(serde_json::from_str::<Snapshot>(&body).unwrap(), published);
}

#[tokio::test]
async fn history_is_paged_and_the_curve_is_complete() {
    let dashboard = Dashboard::new();
    dashboard.publish(snapshot(0..300));
    let page = get_json(&dashboard, "/api/history?before=100&limit=10").await;
    let rounds: Vec<u64> = page["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| record["round"].as_u64().unwrap())
        .collect();
    assert_eq!(rounds, (90..100).collect::<Vec<u64>>());
    let page = get_json(&dashboard, "/api/history?from=298").await;
    assert_eq!(page["records"].as_array().unwrap().len(), 2);
    let curve = get_json(&dashboard, "/api/curve").await;
    assert_eq!(curve["round"].as_array().unwrap().len(), 300);
    assert_eq!(curve["heldout_nats_per_byte"][299], 4.0 - 0.01 * 299.0);
    let (status, _, _) = get(&dashboard, "/api/history?from=minus").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn metrics_are_well_formed_and_carry_the_snapshot() {
    let dashboard = Dashboard::new();
    dashboard.publish(snapshot(0..4));
    let (status, headers, text) = get(&dashboard, "/metrics").await;
    assert_eq!(status, StatusCode::OK);
    let content_type = |headers: &HeaderMap| headers[header::CONTENT_TYPE].clone();
    assert_eq!(
        content_type(&headers),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let asking = request("/metrics").header(header::ACCEPT, "application/openmetrics-text");
    let (_, headers, open) = send(&dashboard, asking.body(Body::empty()).unwrap()).await;
    assert!(
        content_type(&headers)
            .to_str()
            .unwrap()
            .starts_with("application/openmetrics-text")
    );
    assert!(open.ends_with(b"# EOF\n"));
    follows_the_rules_of_promtool(&text);
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("commonweal_"), "{line}");
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
    for expected in [
        "commonweal_rounds_total 4",
        "commonweal_contributions_total 12",
        "commonweal_round 4",
        "commonweal_heldout_loss_nats_per_byte 3.97",
        "commonweal_node_state{state=\"training\"} 1",
        "commonweal_node_state{state=\"error\"} 0",
    ] {
        assert!(
            text.lines().any(|line| line == expected),
            "{expected} is not in\n{text}"
        );
    }
}

/// What `promtool check metrics` complains about, for the types of metrics that there are.
fn follows_the_rules_of_promtool(text: &str) {
    let lines = |start: &str| {
        let start = start.to_owned();
        text.lines().filter_map(move |line| {
            let (name, rest) = line.strip_prefix(&start)?.split_once(' ')?;
            Some((name.to_owned(), rest.to_owned()))
        })
    };
    let types: Vec<_> = lines("# TYPE ").collect();
    assert!(types.iter().any(|(_, kind)| kind == "counter"));
    for (name, kind) in &types {
        assert_eq!(
            name.ends_with("_total"),
            kind == "counter",
            "{name} is a {kind}"
        );
        assert!(
            lines("# HELP ").any(|(known, help)| known == *name && !help.is_empty()),
            "{name} has no help"
        );
        assert!(
            !name.contains(':') && !name.contains(kind.as_str()),
            "{name}"
        );
        assert!(
            name.chars()
                .all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
        );
    }
    for sample in text.lines().filter(|line| !line.starts_with('#')) {
        let name = sample.split(['{', ' ']).next().unwrap();
        assert!(
            types.iter().any(|(known, _)| known == name),
            "{name} has no type"
        );
    }
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
}

#[tokio::test]
async fn health_follows_the_nodes_state() {
    let dashboard = Dashboard::new();
    assert_eq!(
        get(&dashboard, "/healthz").await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
    dashboard.publish(snapshot(0..1));
    assert_eq!(get(&dashboard, "/healthz").await.0, StatusCode::OK);
    dashboard.publish(Snapshot {
        unix_ms: 1,
        ..snapshot(0..1)
    });
    assert_eq!(
        get(&dashboard, "/healthz").await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
    let node = Node {
        state: NodeState::Error,
        message: "disk full".into(),
        ..Node::default()
    };
    dashboard.publish(Snapshot {
        node,
        ..snapshot(0..1)
    });
    let (status, _, text) = get(&dashboard, "/healthz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("disk full"));
}

/// Reads server-sent events until a `snapshot` event is complete.
async fn next_snapshot(
    stream: &mut (impl StreamExt<Item = Result<axum::body::Bytes, axum::Error>> + Unpin),
) -> serde_json::Value {
    let mut text = String::new();
    let read = async {
        while let Some(bytes) = stream.next().await {
            text.push_str(std::str::from_utf8(&bytes.unwrap()).unwrap());
            let data = text
                .split("\n\n")
                .find(|event| event.contains("event: snapshot"));
            let data =
                data.and_then(|event| event.lines().find_map(|line| line.strip_prefix("data: ")));
            if let Some(data) = data.filter(|_| text.ends_with("\n\n")) {
                return serde_json::from_str(data).unwrap();
            }
        }
        panic!("the stream ended: {text}");
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap()
}

#[tokio::test]
async fn the_event_stream_sends_each_snapshot_and_only_new_records() {
    let dashboard = Dashboard::new();
    let response = router(&dashboard)
        .oneshot(request("/api/events").body(Body::empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(
        response.headers()[header::CONTENT_TYPE],
        "text/event-stream"
    );
    let mut stream = response.into_body().into_data_stream();

    dashboard.publish(snapshot(0..2));
    let first = next_snapshot(&mut stream).await;
    assert_eq!(first["snapshot"]["run"]["name"], "meadow");
    assert_eq!(first["records"].as_array().unwrap().len(), 2);

    dashboard.publish(snapshot(0..3));
    let second = next_snapshot(&mut stream).await;
    assert_eq!(second["snapshot"]["round"]["number"], 3);
    assert_eq!(second["records"].as_array().unwrap().len(), 1);
    assert_eq!(second["records"][0]["round"], 2);
}

#[tokio::test]
async fn a_closed_dashboard_ends_its_streams() {
    let dashboard = Dashboard::new();
    let response = router(&dashboard)
        .oneshot(request("/api/events").body(Body::empty()).unwrap())
        .await
        .unwrap();
    let mut stream = response.into_body().into_data_stream();
    dashboard.close();
    let end =
        tokio::time::timeout(PATIENCE, async { while stream.next().await.is_some() {} }).await;
    assert!(end.is_ok());
}

#[tokio::test]
async fn more_streams_than_allowed_are_refused() {
    let dashboard = Dashboard::new();
    let mut open = Vec::new();
    for _ in 0..weal_dashboard::STREAMS_MAX {
        let answer = router(&dashboard)
            .oneshot(request("/api/events").body(Body::empty()).unwrap())
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        open.push(answer);
    }
    let stream = request("/api/events").body(Body::empty()).unwrap();
    assert_eq!(
        router(&dashboard).oneshot(stream).await.unwrap().status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    open.pop();
    let stream = request("/api/events").body(Body::empty()).unwrap();
    assert_eq!(
        router(&dashboard).oneshot(stream).await.unwrap().status(),
        StatusCode::OK
    );
}
