//! Opening the addresses of the settings, and giving them back.

use std::io;
use std::time::Duration;

use futures::StreamExt;
use libp2p::Multiaddr;
use tokio::time::{sleep, timeout};

use super::driver::{CLOSING, Driver, innermost};
use super::{Error, transport};

/// A listener that has no address by then is reported.
const LISTENING: Duration = Duration::from_secs(5);
/// How often it is looked whether ports are free again.
const RELEASE_POLL: Duration = Duration::from_millis(20);

impl Driver {
    /// Listens on all of the addresses, and waits until each has come up.
    pub(super) async fn open(&mut self, addresses: &[Multiaddr]) -> Result<(), Error> {
        let mut lacking = None;
        let mut usable = Vec::new();
        // All are tried before the first is opened: a plain socket on `::` would meet this node's
        // own on `0.0.0.0`.
        for address in addresses {
            match transport::probe(address).map_err(|error| Opening::from_io(address, &error)) {
                Ok(()) => usable.push(address),
                Err(Opening::FamilyLacking(why)) => {
                    tracing::info!("this system cannot listen on {address}: {why}");
                    lacking = Some(why);
                }
                Err(Opening::Failed(error)) => return Err(error),
            }
        }
        for address in usable {
            let failed = |why| Error::Listen {
                address: address.clone(),
                why,
            };
            let listener = self
                .swarm
                .listen_on(address.clone())
                .map_err(|error| failed(innermost(&error)))?;
            self.starting.insert(listener, address.clone());
        }
        if self.starting.is_empty() {
            let why = lacking.unwrap_or_else(|| "there are none".into());
            return Err(Error::NothingToListenOn { why });
        }
        let all_up = async {
            while !self.starting.is_empty() {
                let event = self.swarm.select_next_some().await;
                self.on_swarm_event(event);
            }
        };
        let _ = timeout(LISTENING, all_up).await;
        match self.starting.values().next() {
            Some(address) if self.swarm.listeners().next().is_none() => Err(Error::Listen {
                address: address.clone(),
                why: "no network interface has such an address".into(),
            }),
            Some(address) => {
                tracing::warn!("no network interface has an address for {address}");
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// Why an address could not be opened.
enum Opening {
    /// The system has no such address family: nothing to worry about where another works.
    FamilyLacking(String),
    Failed(Error),
}

impl Opening {
    fn from_io(address: &Multiaddr, error: &io::Error) -> Self {
        let address = address.clone();
        match (error.kind(), error.raw_os_error()) {
            (io::ErrorKind::AddrInUse, _) => Self::Failed(Error::PortInUse { address }),
            (_, Some(libc::EAFNOSUPPORT)) => Self::FamilyLacking(error.to_string()),
            // `::` where IPv6 is switched off.
            (io::ErrorKind::AddrNotAvailable, _) if address.to_string().starts_with("/ip6/::/") => {
                Self::FamilyLacking(error.to_string())
            }
            _ => Self::Failed(Error::Listen {
                address,
                why: error.to_string(),
            }),
        }
    }
}

/// Waits until the ports are free again, so that whoever waits for the shutdown may use them: QUIC
/// keeps its socket for a moment, to answer late packets.
pub(super) async fn released(addresses: &[Multiaddr]) {
    let free = async {
        while addresses
            .iter()
            .any(|address| transport::probe(address).is_err())
        {
            sleep(RELEASE_POLL).await;
        }
    };
    let _ = timeout(CLOSING, free).await;
}
