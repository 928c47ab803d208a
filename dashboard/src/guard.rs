//! Who may ask, and what browsers may do with the answers.
//!
//! The page has no password: that it is bound to loopback is what keeps it private. A web page
//! elsewhere could still reach it through *DNS rebinding*: its own name, suddenly resolving to
//! 127.0.0.1, makes the visitor's browser ask us under that foreign name and hand the answers over.
//! So a loopback dashboard answers only to names of this machine.
//!
//! The content security policy allows nothing but what this server serves: text that peers chose
//! (names, reasons) could run no script even if the page failed to escape it.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::metrics::Refused;
use crate::state::Dashboard;

/// The names under which a dashboard answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hosts {
    /// Only names of this machine: `localhost` and loopback addresses, with any port.
    Loopback,
    /// Any name: its owner opened it to a network on purpose.
    Any,
}

impl Hosts {
    /// What suits a listener bound to `address`.
    pub fn for_address(address: SocketAddr) -> Self {
        if address.ip().is_loopback() {
            Self::Loopback
        } else {
            Self::Any
        }
    }

    /// Whether a request for this authority (`localhost:8080`, `[::1]`) is answered.
    pub fn allow(self, authority: &str) -> bool {
        self == Self::Any || is_loopback(host_of(authority))
    }
}

/// The host in an authority, without port and brackets.
fn host_of(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split_once(']').map_or("", |(host, _)| host);
    }
    authority
        .split_once(':')
        .map_or(authority, |(host, _)| host)
}

fn is_loopback(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// What [`check_host`] needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    pub dashboard: Dashboard,
    pub hosts: Hosts,
}

/// Refuses requests made under a foreign name (421).
pub(crate) async fn check_host(
    State(guard): State<Guard>,
    request: Request,
    next: Next,
) -> Response {
    let header = request
        .headers()
        .get(header::HOST)
        .and_then(|value| value.to_str().ok());
    let asked = request
        .uri()
        .authority()
        .map(|authority| authority.as_str())
        .or(header);
    if guard.hosts == Hosts::Any || asked.is_some_and(|authority| guard.hosts.allow(authority)) {
        return next.run(request).await;
    }
    guard.dashboard.metrics().refuse(Refused::ForeignHost);
    tracing::debug!(host = asked, "refused a request under a foreign name");
    let advice = "this dashboard is private to its machine: open it as http://localhost:<port>, or \
                  through an SSH tunnel that ends at localhost\n";
    (StatusCode::MISDIRECTED_REQUEST, advice).into_response()
}

const HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=(), payment=()",
    ),
];

/// Puts the security headers on every answer.
pub(crate) async fn secure(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_dashboard_answers_to_this_machines_names_with_any_port() {
        for name in [
            "localhost",
            "LOCALHOST:8080",
            "localhost.:80",
            "weal.localhost",
            "127.0.0.1:1",
            "127.8.9.1",
            "[::1]:8080",
        ] {
            assert!(Hosts::Loopback.allow(name), "{name}");
        }
    }

    #[test]
    fn a_private_dashboard_refuses_every_other_name() {
        for name in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "192.168.1.2:80",
            "[::2]",
            "[::1",
            "0.0.0.0",
        ] {
            assert!(!Hosts::Loopback.allow(name), "{name}");
        }
    }

    #[test]
    fn the_listeners_address_decides() {
        assert_eq!(
            Hosts::for_address(([127, 0, 0, 1], 80).into()),
            Hosts::Loopback
        );
        assert_eq!(Hosts::for_address(([0, 0, 0, 0], 80).into()), Hosts::Any);
    }
}
