//! A run link, which invites people to a run:
//! `weal:<run id>?peer=<multiaddr>&peer=<multiaddr>`.

use std::fmt;
use std::str::FromStr;

use libp2p::Multiaddr;
use weal_proto::RunId;

use crate::error::Error;

/// The name of a run, and some of its peers. A newcomer fetches the manifest from them and checks
/// it against the run id: of the link, only the id has to be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunLink {
    /// The hash of the run's manifest.
    pub run: RunId,
    /// Peers to call first. Each address ends in the peer's identity (`/p2p/…`).
    pub peers: Vec<Multiaddr>,
}

impl fmt::Display for RunLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weal:{}", self.run)?;
        for (i, peer) in self.peers.iter().enumerate() {
            write!(f, "{}peer={peer}", if i == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

impl FromStr for RunLink {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: String| {
            Error::link(format!(
                "not a run link: {why}; expected weal:<64 hexadecimal digits>?peer=<multiaddr>"
            ))
        };
        let rest = text
            .trim()
            .strip_prefix("weal:")
            .ok_or_else(|| wrong("it does not begin with \"weal:\"".into()))?;
        let (run, query) = rest.split_once('?').unwrap_or((rest, ""));
        let run = run.parse().map_err(|error| wrong(format!("{error}")))?;
        let mut peers = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let address = part
                .strip_prefix("peer=")
                .ok_or_else(|| wrong(format!("\"{part}\" is not of the form peer=<multiaddr>")))?;
            peers.push(
                address
                    .parse()
                    .map_err(|error| wrong(format!("address \"{address}\": {error}")))?,
            );
        }
        Ok(Self { run, peers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_survives_the_way_to_text_and_back() {
        let text = format!(
            "weal:{}?peer=/ip4/10.0.0.1/udp/7700/quic-v1&peer=/dns4/example.org/tcp/7700",
            "ab".repeat(32)
        );
        let link: RunLink = text.parse().unwrap();
        assert_eq!(link.peers.len(), 2);
        assert_eq!(link.to_string(), text);
    }

    #[test]
    fn a_wrong_link_says_what_is_expected() {
        for text in [
            "",
            "http://x",
            "weal:12",
            &format!("weal:{}?peer=nonsense", "ab".repeat(32)),
        ] {
            let error = text.parse::<RunLink>().unwrap_err();
            assert_eq!(error.code(), 6);
            assert!(
                error.to_string().contains("weal:<64 hexadecimal digits>"),
                "{error}"
            );
        }
    }
}
