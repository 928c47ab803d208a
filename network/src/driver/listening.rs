//! Listens on the addresses in the settings.

use std::io;
use std::time::Duration;

use futures::StreamExt;
use libp2p::Multiaddr;
use tokio::time::timeout;

use super::task::Driver;
use crate::error::Error;
use crate::transport::{self, innermost};

/// Time in which a listener must get an address.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);

impl Driver {
    /// Listens on all addresses, and waits until each listener has an address.
    pub(super) async fn open(&mut self, addresses: &[Multiaddr]) -> Result<(), Error> {
        let usable = usable(addresses)?;
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
        let all_up = async {
            while !self.starting.is_empty() {
                let event = self.swarm.select_next_some().await;
                self.on_swarm_event(event);
            }
        };
        let _ = timeout(LISTEN_TIMEOUT, all_up).await;
        // These are addresses such as `0.0.0.0`: others were probed. Their listeners follow the
        // interfaces that come up later.
        for address in self.starting.values() {
            tracing::warn!("no network interface has an address for {address} yet");
        }
        Ok(())
    }
}

/// The addresses that this system can listen on; at least one, unless the list is empty.
///
/// All are probed before the first is opened: a plain socket on `::` would conflict with this
/// node's listener on `0.0.0.0`.
fn usable(addresses: &[Multiaddr]) -> Result<Vec<&Multiaddr>, Error> {
    let mut unsupported = None;
    let mut usable = Vec::new();
    for address in addresses {
        match transport::probe(address).map_err(|error| ProbeError::from_io(address, &error)) {
            Ok(()) => usable.push(address),
            Err(ProbeError::UnsupportedFamily(why)) => {
                tracing::info!("this system cannot listen on {address}: {why}");
                unsupported = Some(why);
            }
            Err(ProbeError::Failed(error)) => return Err(error),
        }
    }
    if usable.is_empty() && !addresses.is_empty() {
        let why = unsupported.unwrap_or_default();
        return Err(Error::NothingToListenOn { why });
    }
    Ok(usable)
}

/// The system's number for an address family that it does not support.
#[cfg(unix)]
const UNSUPPORTED_FAMILY: i32 = libc::EAFNOSUPPORT;
/// WSAEAFNOSUPPORT.
#[cfg(not(unix))]
const UNSUPPORTED_FAMILY: i32 = 10047;

/// Why this system cannot listen on an address.
enum ProbeError {
    /// The system does not support the address family. This is harmless if it supports another.
    UnsupportedFamily(String),
    Failed(Error),
}

impl ProbeError {
    fn from_io(address: &Multiaddr, error: &io::Error) -> Self {
        let address = address.clone();
        match (error.kind(), error.raw_os_error()) {
            (io::ErrorKind::AddrInUse, _) => Self::Failed(Error::PortInUse { address }),
            (_, Some(UNSUPPORTED_FAMILY)) => Self::UnsupportedFamily(error.to_string()),
            // `::` on a system with IPv6 disabled.
            (io::ErrorKind::AddrNotAvailable, _) if address.to_string().starts_with("/ip6/::/") => {
                Self::UnsupportedFamily(error.to_string())
            }
            _ => Self::Failed(Error::Listen {
                address,
                why: error.to_string(),
            }),
        }
    }
}
