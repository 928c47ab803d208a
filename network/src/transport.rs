//! Transports: QUIC, and TCP with Noise and Yamux. Both resolve DNS names, and both count bytes.
//! Circuits through relays run over them, with Noise and Yamux between the ends.

use std::error;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use futures::future::Either;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::DialError;
use libp2p::{Multiaddr, PeerId, Transport, dns, noise, quic, relay, tcp};
use tokio::time::{sleep, timeout};

use crate::error::Error;
use crate::host_names::HostNames;
use crate::limits::STREAMS;
use crate::stream_places::{Placed, StreamPlaces, yamux_config};
use crate::traffic::{CountedConnection, Traffic};

/// Bytes that a connection may hold unread: the pieces that a peer may send at once, while a rate
/// limit holds them up, with as much again for everything else. Peers decide how much of it they
/// fill, so it bounds the memory that each connection costs.
const QUIC_CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// Bytes that a stream may hold unread: two pieces.
const QUIC_STREAM_WINDOW: u32 = 2 * 1024 * 1024;
/// Idle timeout of a connection. Generous, because training may starve the network for seconds.
const QUIC_IDLE: Duration = Duration::from_secs(20);
const TCP_HANDSHAKE: Duration = Duration::from_secs(10);
/// Time to set up a connection over a circuit.
const CIRCUIT_HANDSHAKE: Duration = Duration::from_secs(20);
/// Time to close connections and free ports at a shutdown.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause between two checks whether the ports are free again.
const RELEASE_POLL: Duration = Duration::from_millis(20);

/// What the swarm dials and listens with.
pub(crate) struct Built {
    pub transport: Boxed<(PeerId, StreamMuxerBox)>,
    /// The part of the relay client that belongs to the swarm's behaviour.
    pub relay_client: relay::client::Behaviour,
}

/// Builds all transports as one. The system resolves host names; `/dnsaddr` needs a resolver
/// configuration, which a minimal container may lack.
pub(crate) fn build(
    key: &Keypair,
    traffic: &Arc<Traffic>,
    places: &Arc<StreamPlaces>,
) -> Result<Built, Error> {
    let inner = match dns::tokio::Transport::system(without_dns(key, traffic, places)?) {
        Ok(with_dns) => with_dns.boxed(),
        Err(why) => {
            tracing::info!("cannot look up /dnsaddr addresses: {why}");
            without_dns(key, traffic, places)?
        }
    };
    let (circuits, relay_client) = relay::client::new(key.public().to_peer_id());
    let (counter, circuit_places) = (Arc::clone(traffic), Arc::clone(places));
    let transport = circuits
        .upgrade(Version::V1Lazy)
        .authenticate(noise_config(key)?)
        .multiplex(yamux_config())
        .timeout(CIRCUIT_HANDSHAKE)
        .or_transport(HostNames::new(inner))
        .map(move |connection, _| match connection {
            Either::Left((peer, circuit)) => {
                let circuit = Placed::new(circuit, &peer, &circuit_places);
                let counted = CountedConnection::new(circuit, peer, &counter);
                (peer, StreamMuxerBox::new(counted))
            }
            Either::Right(direct) => direct,
        })
        .boxed();
    Ok(Built {
        transport,
        relay_client,
    })
}

fn noise_config(key: &Keypair) -> Result<noise::Config, Error> {
    noise::Config::new(key).map_err(|e| Error::Setup {
        part: "noise",
        why: e.to_string(),
    })
}

fn without_dns(
    key: &Keypair,
    traffic: &Arc<Traffic>,
    places: &Arc<StreamPlaces>,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, Error> {
    let tcp = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise_config(key)?)
        .multiplex(yamux_config())
        .timeout(TCP_HANDSHAKE);
    let quic = quic::tokio::Transport::new(quic_config(key));
    let (traffic, places) = (Arc::clone(traffic), Arc::clone(places));
    let both = quic
        .or_transport(tcp)
        .map(move |connection, _| match connection {
            Either::Left((peer, quic)) => (
                peer,
                StreamMuxerBox::new(CountedConnection::new(quic, peer, &traffic)),
            ),
            Either::Right((peer, tcp)) => {
                let tcp = Placed::new(tcp, &peer, &places);
                let counted = CountedConnection::new(tcp, peer, &traffic);
                (peer, StreamMuxerBox::new(counted))
            }
        });
    Ok(both.boxed())
}

fn quic_config(key: &Keypair) -> quic::Config {
    let mut config = quic::Config::new(key);
    config.max_concurrent_stream_limit = STREAMS;
    config.max_connection_data = QUIC_CONNECTION_WINDOW;
    config.max_stream_data = QUIC_STREAM_WINDOW;
    config.max_idle_timeout = u32::try_from(QUIC_IDLE.as_millis()).unwrap_or(u32::MAX);
    config.keep_alive_interval = QUIC_IDLE / 4;
    config
}

/// Checks that an address can be listened on, by binding a plain socket to it for a moment.
///
/// libp2p sets `SO_REUSEPORT` on TCP sockets: a second node could listen on the port of the first
/// unnoticed and take half of its connections. A plain socket does not share its port.
pub(crate) fn probe(address: &Multiaddr) -> io::Result<()> {
    let mut parts = address.iter();
    let ip = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "an address must begin with /ip4/ or /ip6/",
            ));
        }
    };
    match (parts.next(), parts.next()) {
        (Some(Protocol::Tcp(port)), None) => TcpListener::bind(SocketAddr::new(ip, port)).map(drop),
        (Some(Protocol::Udp(port)), Some(Protocol::QuicV1)) => {
            UdpSocket::bind(SocketAddr::new(ip, port)).map(drop)
        }
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "an address must end in /tcp/<port> or /udp/<port>/quic-v1",
        )),
    }
}

/// Waits until the ports of `addresses` are free again, so that the caller of a shutdown may reuse
/// them: QUIC keeps its socket for a moment to answer late packets.
pub(crate) async fn released(addresses: &[Multiaddr]) {
    let free = async {
        while addresses.iter().any(|address| probe(address).is_err()) {
            sleep(RELEASE_POLL).await;
        }
    };
    let _ = timeout(CLOSE_TIMEOUT, free).await;
}

/// The most specific reason why dialling failed.
pub(crate) fn dial_failure(error: &DialError) -> String {
    match error {
        DialError::Transport(attempts) => match attempts.last() {
            Some((_, error)) => innermost(error),
            None => "no address to dial".into(),
        },
        DialError::WrongPeerId { obtained, .. } => {
            format!("another peer answers there: {obtained}")
        }
        DialError::Denied { cause } => innermost(cause),
        error => error.to_string(),
    }
}

/// The message of the last error in the chain of sources.
pub(crate) fn innermost(error: &(dyn error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
