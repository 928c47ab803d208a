//! Refuses foreign host names, and sets security headers.
//!
//! The page has no password. It is private because it listens on loopback only. A web site could
//! still reach it by *DNS rebinding*: the site's own name suddenly resolves to 127.0.0.1, so that a
//! visitor's browser sends requests here under the site's name and lets the site read the answers.
//! Therefore a dashboard on loopback answers only to names of this machine.
//!
//! The content security policy allows only what this server serves. Text chosen by peers (names,
//! reasons) could not run a script even if the page failed to escape it.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::metrics::Refused;
use crate::state::Dashboard;

/// The host names to which a dashboard answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hosts {
    /// Only names of this machine: `localhost` and loopback addresses, with any port.
    Loopback,
    /// Any name, because the owner opened the dashboard to a network on purpose.
    Any,
}

impl Hosts {
    /// The host names for a listener bound to `address`: on loopback only names of this machine.
    pub fn for_address(address: SocketAddr) -> Self {
        if address.ip().is_loopback() {
            Self::Loopback
        } else {
            Self::Any
        }
    }

    /// Whether to answer a request for this authority, such as `localhost:8080` or `[::1]`.
    pub fn allow(self, authority: &str) -> bool {
        self == Self::Any || is_loopback(host_of(authority))
    }
}

/// The host of an authority, without port and brackets.
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

/// The state of [`check_host`].
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    pub dashboard: Dashboard,
    pub hosts: Hosts,
}

/// Refuses requests for a foreign host name, with status 421.
pub(crate) async fn check_host(
    State(guard): State<Guard>,
    request: Request,
    next: Next,
) -> Response {
    let header = request
        .headers()
        .get(header::HOST)
        .and_then(|value| value.to_str().ok());
    let host = request
        .uri()
        .authority()
        .map(|authority| authority.as_str())
        .or(header);
    if guard.hosts == Hosts::Any || host.is_some_and(|authority| guard.hosts.allow(authority)) {
        return next.run(request).await;
    }
    guard.dashboard.metrics().refuse(Refused::ForeignHost);
    tracing::debug!(host, "refused a request for a foreign host name");
    let advice = "this page only answers on its own machine: open http://localhost:<port>, or use \
                  an SSH tunnel to that address\n";
    (StatusCode::MISDIRECTED_REQUEST, advice).into_response()
}

const HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
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

/// Adds the security headers to every answer.
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
    fn a_loopback_dashboard_answers_to_names_of_this_machine_with_any_port() {
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
    fn a_loopback_dashboard_refuses_every_other_name() {
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
    fn the_listeners_address_decides_which_names_are_allowed() {
        assert_eq!(
            Hosts::for_address(([127, 0, 0, 1], 80).into()),
            Hosts::Loopback
        );
        assert_eq!(Hosts::for_address(([0, 0, 0, 0], 80).into()), Hosts::Any);
    }
}
