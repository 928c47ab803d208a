//! A run link, which invites people to a run:
//! `weal:<run id>?round=<number>&state=<hash>&peer=<multiaddr>&peer=<multiaddr>`.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use weal_network::numeric_address;
use weal_proto::{BlobHash, RoundNumber, RunId};

use crate::anchor::Anchor;
use crate::error::Error;

/// What every link begins with.
const SCHEME: &str = "weal:";

/// The name of a run, and some of its peers. A newcomer fetches the manifest from them and checks
/// it against the run id: of the link, only the id has to be trusted, and the state if it names
/// one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunLink {
    /// The hash of the run's manifest.
    pub run: RunId,
    /// What was decided before some round. A newcomer checks the rounds from there on.
    pub anchor: Option<Anchor>,
    /// Peers to call first. Each address ends in the peer's identity (`/p2p/…`).
    pub peers: Vec<Multiaddr>,
}

/// From where an address can be reached, the farthest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// From everywhere, or from where its name is known.
    Anywhere,
    /// From its local network.
    LocalNetwork,
    /// From its own machine only.
    ThisMachine,
}

/// From where an address can be reached, as far as its text tells.
pub(crate) fn reach_of(address: &Multiaddr) -> Reach {
    match ip_of(&numeric_address(address)) {
        None => Reach::Anywhere,
        Some(ip) if ip.is_loopback() || ip.is_unspecified() => Reach::ThisMachine,
        // A link-local IPv6 address leads nowhere without the name of an interface.
        Some(IpAddr::V6(ip)) if ip.is_unicast_link_local() => Reach::ThisMachine,
        Some(IpAddr::V6(ip)) if ip.is_unique_local() => Reach::LocalNetwork,
        Some(IpAddr::V4(ip)) if ip.is_private() || ip.is_link_local() => Reach::LocalNetwork,
        Some(_) => Reach::Anywhere,
    }
}

/// The IP address with which an address begins.
pub(crate) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

impl RunLink {
    /// What people should know before they use or give away the link; `None` if it leads to a peer
    /// from everywhere.
    pub fn warning(&self) -> Option<&'static str> {
        match self.peers.iter().map(reach_of).min() {
            None => Some("the link names no address: it finds peers on the local network only"),
            Some(Reach::ThisMachine) => Some(
                "the link names only addresses of the machine that made it, and works there only; \
                 a node given --external names that address",
            ),
            Some(Reach::LocalNetwork) => Some(
                "the link names only addresses of a local network, and works there only; a node \
                 given --external names that address",
            ),
            Some(Reach::Anywhere) => None,
        }
    }
}

impl RunLink {
    /// The link as it leads to a node of this machine: also by loopback, which no router and no
    /// firewall is in the way of.
    #[must_use]
    pub(crate) fn on_this_machine(mut self) -> Self {
        let mut peers: Vec<_> = self.peers.iter().filter_map(by_loopback).collect();
        peers.append(&mut self.peers);
        let mut seen = BTreeSet::new();
        peers.retain(|peer| seen.insert(peer.to_vec()));
        Self { peers, ..self }
    }

    /// Whether a text is meant as a run link.
    pub fn is_like(text: &str) -> bool {
        text.trim_start().starts_with(SCHEME)
    }
}

/// The same address on loopback; `None` if it leads through a relay, or does not begin with an IP
/// address.
fn by_loopback(address: &Multiaddr) -> Option<Multiaddr> {
    let is_relay = |part: Protocol<'_>| matches!(part, Protocol::P2pCircuit);
    if address.iter().any(is_relay) {
        return None;
    }
    let loopback = match ip_of(address)? {
        IpAddr::V4(_) => Protocol::from(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => Protocol::from(Ipv6Addr::LOCALHOST),
    };
    address.replace(0, |_| Some(loopback))
}

impl fmt::Display for RunLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.run)?;
        let mut separator = '?';
        if let Some(Anchor { round, state }) = &self.anchor {
            write!(f, "{separator}round={round}&state={state}")?;
            separator = '&';
        }
        for peer in &self.peers {
            write!(f, "{separator}peer={peer}")?;
            separator = '&';
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
            .strip_prefix(SCHEME)
            .ok_or_else(|| wrong("it does not begin with \"weal:\"".into()))?;
        let (run, query) = rest.split_once('?').unwrap_or((rest, ""));
        let run = run.parse().map_err(|error| wrong(format!("{error}")))?;
        let (mut peers, mut round, mut state) = (Vec::new(), None, None);
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let failed = |error: &dyn fmt::Display| wrong(format!("{key} \"{value}\": {error}"));
            match key {
                "round" if round.is_none() => {
                    round = Some(RoundNumber(value.parse::<u64>().map_err(|e| failed(&e))?));
                }
                "state" if state.is_none() => {
                    state = Some(value.parse::<BlobHash>().map_err(|e| failed(&e))?);
                }
                "peer" => {
                    let peer = value.parse::<Multiaddr>().map_err(|e| failed(&e))?;
                    // A link that was made where `WEAL_EXTERNAL` was set to nothing.
                    if !peer.is_empty() {
                        peers.push(peer);
                    }
                }
                _ => return Err(wrong(format!("\"{part}\" does not belong there"))),
            }
        }
        let anchor = match (round, state) {
            (Some(round), Some(state)) => Some(Anchor { round, state }),
            (None, None) => None,
            _ => {
                return Err(wrong(
                    "it names a round or a state without the other".into(),
                ));
            }
        };
        Ok(Self { run, anchor, peers })
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
    fn a_link_may_name_a_state() {
        let text = format!(
            "weal:{}?round=2048&state={}&peer=/ip4/10.0.0.1/tcp/1",
            "ab".repeat(32),
            "cd".repeat(32)
        );
        let link: RunLink = text.parse().unwrap();
        let anchor = Anchor {
            round: RoundNumber(2_048),
            state: [0xcd; 32].into(),
        };
        assert_eq!(link.anchor, Some(anchor));
        assert_eq!(link.to_string(), text);
        assert_eq!(link.on_this_machine().anchor, Some(anchor));
    }

    #[test]
    fn a_link_that_leads_nowhere_else_says_so() {
        let warning = |peers: &str| {
            let link = format!("weal:{}?{peers}", "ab".repeat(32));
            link.parse::<RunLink>().unwrap().warning()
        };
        let of_machine = warning("peer=/ip4/127.0.0.1/tcp/1&peer=/dns4/0.0.0.0/tcp/1").unwrap();
        assert!(of_machine.contains("of the machine"), "{of_machine}");
        let local = warning("peer=/ip4/127.0.0.1/tcp/1&peer=/ip6/fd00::1/tcp/1").unwrap();
        assert!(local.contains("local network"), "{local}");
        assert!(warning("").is_some());
        for peers in ["peer=/ip4/9.9.9.9/tcp/1", "peer=/dns4/example.org/tcp/1"] {
            assert_eq!(warning(&format!("{peers}&peer=/ip4/10.0.0.1/tcp/1")), None);
        }
    }

    #[test]
    fn a_link_leads_to_a_node_of_this_machine_by_loopback_first() {
        let peers = [
            "/ip4/9.9.9.9/udp/7700/quic-v1",
            "/ip4/127.0.0.1/udp/7700/quic-v1",
            "/ip6/2001:db8::1/tcp/7701",
            "/dns4/example.org/tcp/7700",
        ];
        let link = format!("weal:{}?peer={}", "ab".repeat(32), peers.join("&peer="));
        let local = link.parse::<RunLink>().unwrap().on_this_machine();
        let local: Vec<_> = local.peers.iter().map(ToString::to_string).collect();
        let loopback = ["/ip4/127.0.0.1/udp/7700/quic-v1", "/ip6/::1/tcp/7701"];
        assert_eq!(local, [&loopback[..], &peers[..1], &peers[2..]].concat());
    }

    #[test]
    fn a_wrong_link_says_what_is_expected() {
        for text in [
            "",
            "http://x",
            "weal:12",
            &format!("weal:{}?peer=nonsense", "ab".repeat(32)),
            &format!("weal:{}?round=5", "ab".repeat(32)),
            &format!("weal:{}?state={}", "ab".repeat(32), "cd".repeat(32)),
            &format!("weal:{}?round=x&state={}", "ab".repeat(32), "cd".repeat(32)),
            &format!("weal:{}?relay=5", "ab".repeat(32)),
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
