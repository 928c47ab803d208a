//! When a transfer that failed is tried again, and when it is given up.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ureq::Body;
use ureq::http::{HeaderMap, Response};

use crate::error::{Error, Result};

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often a pause looks whether it should end.
const LOOK: Duration = Duration::from_millis(50);

/// Why a request had no answer.
#[derive(Debug)]
pub(super) struct NoAnswer {
    reason: String,
    /// Another attempt cannot help; this might.
    hopeless: Option<&'static str>,
}

impl NoAnswer {
    /// `answered` is whether the server has answered before, so that its name and port are right.
    pub(super) fn of(error: &ureq::Error, answered: bool) -> Self {
        let reason = match error {
            ureq::Error::Io(error) => error.to_string(),
            other => other.to_string(),
        };
        Self {
            hopeless: hopeless(error, &reason, answered),
            reason,
        }
    }
}

/// What to do about an error that another attempt would meet again.
fn hopeless(error: &ureq::Error, reason: &str, answered: bool) -> Option<&'static str> {
    use ureq::Error as Http;
    const ADDRESS: &str = "check the address";
    const NAME: &str = "check the address, and that this machine reaches the network";
    const TLS: &str = "check whether the server speaks https at this port";
    match error {
        Http::Http(_) | Http::BadUri(_) | Http::TooManyRedirects | Http::RedirectFailed => {
            Some(ADDRESS)
        }
        Http::InvalidProxyUrl | Http::ConnectProxyFailed(_) => {
            Some("check the proxy in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY")
        }
        Http::Tls(_) | Http::TlsRequired | Http::Rustls(_) | Http::Pem(_) => {
            Some(certificate_hint(reason).unwrap_or(TLS))
        }
        // What rustls refuses.
        Http::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            Some(certificate_hint(reason).unwrap_or(TLS))
        }
        Http::HostNotFound | Http::ConnectionFailed if !answered => Some(NAME),
        Http::Io(_) if !answered && reason.contains("lookup address") => Some(NAME),
        Http::Io(error) if !answered => match error.kind() {
            io::ErrorKind::ConnectionRefused => Some("check the address, its port, and the server"),
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::InvalidInput => Some(NAME),
            _ => None,
        },
        _ => None,
    }
}

fn certificate_hint(reason: &str) -> Option<&'static str> {
    if reason.contains("UnknownIssuer") {
        return Some(
            "if a proxy or an authority of your own signs here, name the file of its certificate \
             (PEM) with SSL_CERT_FILE",
        );
    }
    if reason.contains("CaUsedAsEndEntity") {
        return Some(
            "the server shows an authority's certificate: give it one of its own, signed by that \
             authority, and name the authority's with SSL_CERT_FILE",
        );
    }
    let hint = "check the server's name and this machine's clock, or name the file of the right \
                authority's certificate (PEM) with SSL_CERT_FILE";
    reason.contains("certificate").then_some(hint)
}

/// How long to try.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience<'a> {
    /// Attempts in a row that may fail.
    pub attempts: u32,
    /// Pause after the first failed attempt; doubles with each further one.
    pub pause: Duration,
    /// Ends every wait.
    pub stop: &'a AtomicBool,
}

/// Counts failed attempts in a row.
pub(super) struct Failures<'a> {
    patience: Patience<'a>,
    url: &'a str,
    count: u32,
}

impl<'a> Failures<'a> {
    pub(super) fn new(patience: Patience<'a>, url: &'a str) -> Self {
        Self {
            patience,
            url,
            count: 0,
        }
    }

    /// Forgets the failures, as there was progress.
    pub(super) fn forget(&mut self) {
        self.count = 0;
    }

    /// Waits before the next attempt, or gives up. The wait ends early if it is `stopped`.
    pub(super) fn no_answer(
        &mut self,
        no: &NoAnswer,
        stopped: &mut dyn FnMut() -> bool,
    ) -> Result<()> {
        match no.hopeless {
            Some(hint) => Err(wrong(self.url, no.reason.clone(), Some(hint))),
            None => self.pause(&no.reason, None, stopped),
        }
    }

    /// Waits before the next attempt, or gives up. The wait ends early if it is `stopped`.
    pub(super) fn pause(
        &mut self,
        reason: &str,
        wanted: Option<Duration>,
        stopped: &mut dyn FnMut() -> bool,
    ) -> Result<()> {
        self.count += 1;
        if self.count >= self.patience.attempts {
            return Err(wrong(
                self.url,
                format!("{reason} ({} attempts)", self.count),
                Some("try again; the download resumes where it stopped"),
            ));
        }
        let pause = wanted.unwrap_or(self.patience.pause * (1 << (self.count - 1).min(10)));
        tracing::warn!(url = self.url, reason, "a transfer failed; retrying");
        let end = Instant::now() + pause.min(LONGEST_PAUSE);
        loop {
            if stopped() || self.patience.stop.load(Ordering::Relaxed) {
                return Err(Error::Stopped);
            }
            match end.checked_duration_since(Instant::now()) {
                None | Some(Duration::ZERO) => return Ok(()),
                Some(left) => std::thread::sleep(left.min(LOOK)),
            }
        }
    }

    /// Waits if the server is busy; fails with a hint if it refuses.
    pub(super) fn refused(
        &mut self,
        response: &Response<Body>,
        stopped: &mut dyn FnMut() -> bool,
    ) -> Result<()> {
        let status = response.status();
        let (reason, hint) = match status.as_u16() {
            501 | 505 | 506 | 508 | 510 => ("the server cannot do it", None),
            511 => (
                "the network asks for a login",
                Some("log in with a browser first"),
            ),
            407 => (
                "the proxy asks for a password",
                Some("put user and password into HTTPS_PROXY"),
            ),
            408 | 425 | 429 | 500..=599 => {
                let wanted = number(response.headers(), "retry-after").map(Duration::from_secs);
                let reason = format!("the server answered {status}");
                return self.pause(&reason, wanted, stopped);
            }
            401 | 403 => (
                "access is restricted",
                Some("set HF_TOKEN to a token that may read it"),
            ),
            404 | 410 => (
                "it does not exist",
                Some("check the address, the revision and the path"),
            ),
            _ => ("the server refused it", None),
        };
        Err(wrong(
            self.url,
            format!("{reason} (the server answered {status})"),
            hint,
        ))
    }
}

pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

pub(super) fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    header(headers, name)?.trim().parse().ok()
}

pub(super) fn wrong(url: &str, reason: String, hint: Option<&'static str>) -> Error {
    Error::Prepare {
        place: url.to_owned(),
        reason,
        hint: hint.map(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(error: ureq::Error, answered: bool) -> Option<&'static str> {
        NoAnswer::of(&error, answered).hopeless
    }

    fn io(kind: io::ErrorKind, why: &str) -> ureq::Error {
        ureq::Error::Io(io::Error::new(kind, why.to_owned()))
    }

    #[test]
    fn a_certificate_that_is_not_trusted_is_told_with_what_fixes_it() {
        for (why, fix) in [
            ("invalid peer certificate: UnknownIssuer", "SSL_CERT_FILE"),
            (
                "invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))",
                "one of its own",
            ),
            ("invalid peer certificate: certificate expired", "clock"),
            (
                "received corrupt message of type InvalidContentType",
                "speaks https",
            ),
        ] {
            for answered in [false, true] {
                let hint = hint(io(io::ErrorKind::InvalidData, why), answered).unwrap();
                assert!(hint.contains(fix), "{hint}");
            }
        }
    }

    #[test]
    fn a_server_that_has_answered_is_tried_again() {
        let refused = || io(io::ErrorKind::ConnectionRefused, "refused");
        let lookup = || io(io::ErrorKind::Other, "failed to lookup address information");
        assert!(hint(refused(), false).is_some() && hint(refused(), true).is_none());
        assert!(hint(lookup(), false).is_some() && hint(lookup(), true).is_none());
        let reset = || io(io::ErrorKind::ConnectionReset, "reset");
        assert!(hint(reset(), false).is_none() && hint(reset(), true).is_none());
    }
}
