//! Host names in addresses, resolved by the operating system: with `/etc/hosts`, the names of the
//! local network, and the servers of the network that the machine is in now.
//!
//! libp2p's resolver reads its servers once, at the start, and does nothing without one. It is left
//! with `/dnsaddr`, which the operating system cannot look up.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, Transport};
use tokio::net::lookup_host;
use tokio::time::timeout;

/// Time in which a name must be resolved.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(15);
/// Limit on the addresses of a name that are dialled.
const ADDRESSES: usize = 8;

/// A transport that resolves host names before it dials.
pub(crate) struct HostNames<T> {
    inner: Arc<Mutex<T>>,
}

impl<T> HostNames<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    fn inner(&self) -> MutexGuard<'_, T> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Transport for HostNames<T>
where
    T: Transport<Error = io::Error> + Send + Unpin + 'static,
    T::Dial: Send,
{
    type Output = T::Output;
    type Error = io::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = BoxFuture<'static, io::Result<T::Output>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        self.inner().listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner().remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let address = numeric(&address);
        let Some(name) = Name::of(&address) else {
            return self.inner().dial(address, options).map(FutureExt::boxed);
        };
        let inner = Arc::clone(&self.inner);
        let dial_each = async move {
            let mut last = io::Error::other(format!("{} has no address", name.host));
            for ip in name.resolve().await? {
                let dialling = inner
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .dial(with_ip(&address, ip), options);
                match dialling {
                    Ok(dialling) => match dialling.await {
                        Ok(connection) => return Ok(connection),
                        Err(error) => last = error,
                    },
                    Err(TransportError::Other(error)) => last = error,
                    Err(TransportError::MultiaddrNotSupported(address)) => {
                        last = io::Error::other(format!("no transport dials {address}"));
                    }
                }
            }
            Err(last)
        };
        Ok(dial_each.boxed())
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut *self.inner()).poll(cx)
    }
}

/// The host name with which an address begins.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    host: String,
    v4: bool,
    v6: bool,
}

impl Name {
    fn of(address: &Multiaddr) -> Option<Self> {
        let (host, v4, v6) = match address.iter().next()? {
            Protocol::Dns(host) => (host, true, true),
            Protocol::Dns4(host) => (host, true, false),
            Protocol::Dns6(host) => (host, false, true),
            _ => return None,
        };
        Some(Self {
            host: host.into_owned(),
            v4,
            v6,
        })
    }

    async fn resolve(&self) -> io::Result<Vec<IpAddr>> {
        let failed = |why: &dyn std::fmt::Display| {
            io::Error::other(format!("cannot resolve {}: {why}", self.host))
        };
        let found = timeout(RESOLVE_TIMEOUT, lookup_host((self.host.as_str(), 0)))
            .await
            .map_err(|_| failed(&"no answer in time"))?
            .map_err(|error| failed(&error))?;
        let mut wanted: Vec<IpAddr> = found
            .map(|address: SocketAddr| address.ip())
            .filter(|ip| if ip.is_ipv4() { self.v4 } else { self.v6 })
            .collect();
        wanted.dedup();
        wanted.truncate(ADDRESSES);
        Ok(wanted)
    }
}

/// The address with a numeric "host name" written as the IP address that it is: people write
/// `/dns4/10.0.0.1`, which no server resolves.
#[must_use]
pub fn numeric(address: &Multiaddr) -> Multiaddr {
    let ip = Name::of(address).and_then(|name| name.host.parse().ok());
    ip.map_or_else(|| address.clone(), |ip| with_ip(address, ip))
}

fn with_ip(address: &Multiaddr, ip: IpAddr) -> Multiaddr {
    std::iter::once(Protocol::from(ip))
        .chain(address.iter().skip(1))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_numeric_name_is_an_ip_address() {
        for (written, meant) in [
            ("/dns4/10.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1"),
            ("/dns/10.0.0.1/udp/1/quic-v1", "/ip4/10.0.0.1/udp/1/quic-v1"),
            ("/dns6/fd00::1/tcp/1", "/ip6/fd00::1/tcp/1"),
            ("/dns4/node1/tcp/1", "/dns4/node1/tcp/1"),
            ("/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1"),
        ] {
            assert_eq!(numeric(&address(written)), address(meant));
        }
    }

    #[tokio::test]
    async fn names_are_resolved_by_the_system_in_the_family_asked_for() {
        let resolve = async |text| Name::of(&address(text)).unwrap().resolve().await;
        let found = resolve("/dns4/localhost/tcp/1").await.unwrap();
        assert_eq!(found, [IpAddr::from([127, 0, 0, 1])]);
        let error = resolve("/dns4/no-such-name.invalid/tcp/1")
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("no-such-name.invalid"),
            "{error}"
        );
    }
}
