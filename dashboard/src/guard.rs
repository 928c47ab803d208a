//! Refuses foreign host names, asks for the password, and sets security headers.
//!
//! A web site could reach the page by *DNS rebinding*: the site's own name suddenly resolves to
//! this machine, so that a visitor's browser sends requests here under the site's name and lets the
//! site read the answers. Therefore a dashboard on loopback answers only to names of this machine.
//! One that is open to a network also answers to addresses, to names that no web site can have, and
//! to those in its settings.
//!
//! The password is for pages that are open to a network. It travels in every request, as HTTP Basic
//! (for browsers, with any user name) or Bearer; without TLS, whoever is on the way can read it.
//! `/metrics` needs none, and shows only numbers.
//!
//! The content security policy allows only what this server serves. Text chosen by peers (names,
//! reasons) could not run a script even if the page failed to escape it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::metrics::Refused;
use crate::state::Dashboard;

/// The only path that needs no password.
const OPEN_PATH: &str = "/metrics";
/// Ends of names that no web site can have.
const LOCAL_ENDS: [&str; 5] = [".localhost", ".local", ".lan", ".internal", ".home.arpa"];

/// Who may read a dashboard.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Host names to which it answers besides those that are safe by themselves.
    pub hosts: Vec<String>,
    /// What everybody must know, if anything.
    pub password: Option<Password>,
}

/// A password, as its hash: neither its text nor its length can be read from here.
#[derive(Clone, Copy)]
pub struct Password(blake3::Hash);

impl Password {
    /// The password with this text.
    pub fn new(text: &str) -> Self {
        Self(blake3::hash(text.as_bytes()))
    }

    /// Whether the text is the password. Takes the same time for every text of a length.
    fn is(&self, text: &[u8]) -> bool {
        self.0 == blake3::hash(text)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Password")
    }
}

/// The host names to which a dashboard answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    is_open: bool,
    names: Vec<String>,
}

impl Hosts {
    /// The host names for a listener bound to `address`, and these names in addition. On loopback
    /// only names of this machine: `localhost` and loopback addresses, with any port.
    pub fn for_address(address: SocketAddr, names: &[String]) -> Self {
        let names = names.iter();
        Self {
            is_open: !address.ip().is_loopback(),
            names: names.map(|name| name.to_ascii_lowercase()).collect(),
        }
    }

    /// Whether to answer a request for this authority, such as `localhost:8080` or `[::1]`.
    pub fn allow(&self, authority: &str) -> bool {
        let host = host_of(authority).to_ascii_lowercase();
        let name = host.strip_suffix('.').unwrap_or(&host);
        is_loopback(name)
            || self.names.iter().any(|known| known == name)
            || (self.is_open && is_safe(name))
    }
}

/// Whether a web site can be behind neither the name nor, by rebinding, this machine: an address, a
/// name without a dot, or one of a local network.
fn is_safe(name: &str) -> bool {
    let is_local = || LOCAL_ENDS.iter().any(|end| name.ends_with(end));
    let is_single = || !name.is_empty() && !name.contains('.');
    name.parse::<IpAddr>().is_ok() || is_single() || is_local()
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

fn is_loopback(name: &str) -> bool {
    name == "localhost"
        || name.ends_with(".localhost")
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// The state of [`check_host`] and [`check_password`].
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    pub dashboard: Dashboard,
    pub hosts: Hosts,
    pub password: Option<Password>,
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
    if host.is_some_and(|authority| guard.hosts.allow(authority)) {
        return next.run(request).await;
    }
    guard.dashboard.metrics().refuse(Refused::ForeignHost);
    tracing::debug!(host, "refused a request for a foreign host name");
    let advice = match guard.hosts.is_open {
        false => {
            "this page only answers on its own machine: open http://localhost:<port>, or use an \
             SSH tunnel to that address\n"
        }
        true => {
            "this page does not answer to that name: use the machine's address, or add the name \
             to page.hosts in settings.toml\n"
        }
    };
    (StatusCode::MISDIRECTED_REQUEST, advice).into_response()
}

/// Refuses requests without the password, with status 401, on which a browser asks for it.
pub(crate) async fn check_password(
    State(guard): State<Guard>,
    request: Request,
    next: Next,
) -> Response {
    let is_open = request.uri().path() == OPEN_PATH;
    let knows =
        |password: Password| given(request.headers()).is_some_and(|text| password.is(&text));
    if is_open || guard.password.is_none_or(knows) {
        return next.run(request).await;
    }
    guard.dashboard.metrics().refuse(Refused::Password);
    let asks = [(
        header::WWW_AUTHENTICATE,
        "Basic realm=\"weal\", charset=\"UTF-8\"",
    )];
    let advice = "this page asks for its password; the user name does not matter\n";
    (StatusCode::UNAUTHORIZED, asks, advice).into_response()
}

/// The password in a request's headers.
fn given(headers: &HeaderMap) -> Option<Vec<u8>> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().as_bytes().to_vec());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let mut pair = BASE64_STANDARD.decode(rest.trim()).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    pair.drain(..=colon);
    Some(pair)
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

    fn loopback() -> Hosts {
        Hosts::for_address(([127, 0, 0, 1], 80).into(), &[])
    }

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
            assert!(loopback().allow(name), "{name}");
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
            "box",
            "box.lan",
        ] {
            assert!(!loopback().allow(name), "{name}");
        }
    }

    #[test]
    fn a_dashboard_that_is_open_to_a_network_answers_to_no_web_site() {
        let open = Hosts::for_address(([0, 0, 0, 0], 80).into(), &[]);
        for name in [
            "localhost",
            "192.168.1.2:80",
            "[2001:db8::2]:80",
            "node1:7780",
            "box.lan",
            "BOX.local.:80",
            "box.home.arpa",
        ] {
            assert!(open.allow(name), "{name}");
        }
        for name in [
            "",
            "evil.example",
            "192.168.1.2.evil.example",
            "lan.example",
        ] {
            assert!(!open.allow(name), "{name}");
        }
    }

    #[test]
    fn names_in_the_settings_are_answered() {
        for listen in [[127, 0, 0, 1], [0, 0, 0, 0]] {
            let hosts = Hosts::for_address((listen, 80).into(), &["Weal.Example.org".into()]);
            assert!(hosts.allow("weal.example.org:443"));
            assert!(!hosts.allow("example.org") && !hosts.allow("www.weal.example.org"));
        }
    }

    #[test]
    fn a_password_is_found_in_both_kinds_of_headers() {
        let found = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            given(&headers)
        };
        // "me:a:b" and ":secret"
        assert_eq!(found("Basic bWU6YTpi").unwrap(), b"a:b");
        assert_eq!(found("basic OnNlY3JldA==").unwrap(), b"secret");
        assert_eq!(found("Bearer secret").unwrap(), b"secret");
        for wrong in [
            "Basic",
            "Basic !",
            "Basic c2VjcmV0",
            "Digest secret",
            "secret",
        ] {
            assert_eq!(found(wrong), None, "{wrong}");
        }
        assert_eq!(given(&HeaderMap::new()), None);
    }

    #[test]
    fn a_password_shows_itself_to_nobody() {
        let password = Password::new("correct horse");
        assert!(password.is(b"correct horse"));
        assert!(!password.is(b"correct hors") && !password.is(b""));
        assert_eq!(format!("{password:?}"), "Password");
    }
}
