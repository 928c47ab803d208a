//! The ways to a peer: QUIC, and TCP with Noise and Yamux, both found by name through DNS, both
//! counted.

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
use libp2p::{Multiaddr, PeerId, Transport, dns, noise, quic, tcp, yamux};

use super::Error;
use super::traffic::{CountedConnection, Traffic};

/// How much a connection may hold unread. QUIC's default of 15 MB locks a connection up when a few
/// chunk streams are left unread on both sides; this leaves room for every stream that the limits
/// on requests allow.
const QUIC_CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;
/// How much one stream may hold unread: several chunks, so that a long fat path stays full.
const QUIC_STREAM_WINDOW: u32 = 8 * 1024 * 1024;
/// A silent connection is dead after so long. Generous, since a machine that trains may starve the
/// network for seconds.
const QUIC_IDLE: Duration = Duration::from_secs(20);
const TCP_HANDSHAKE: Duration = Duration::from_secs(10);

/// Both transports as one. Names are resolved as the system does; where the system says nothing of
/// it (a bare container), addresses in numbers still work.
pub(super) fn build(
    key: &Keypair,
    traffic: &Arc<Traffic>,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, Error> {
    match dns::tokio::Transport::system(by_number(key, traffic)?) {
        Ok(by_name) => Ok(by_name.boxed()),
        Err(why) => {
            tracing::warn!("host names in addresses cannot be resolved: {why}");
            by_number(key, traffic)
        }
    }
}

fn by_number(
    key: &Keypair,
    traffic: &Arc<Traffic>,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, Error> {
    let secure = noise::Config::new(key).map_err(|e| Error::Setup {
        part: "noise",
        why: e.to_string(),
    })?;
    let tcp = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(secure)
        .multiplex(yamux::Config::default())
        .timeout(TCP_HANDSHAKE);
    let quic = quic::tokio::Transport::new(quic_config(key));
    let traffic = Arc::clone(traffic);
    let both = quic
        .or_transport(tcp)
        .map(move |connection, _| match connection {
            Either::Left((peer, quic)) => (
                peer,
                StreamMuxerBox::new(CountedConnection::new(quic, peer, &traffic)),
            ),
            Either::Right((peer, tcp)) => (
                peer,
                StreamMuxerBox::new(CountedConnection::new(tcp, peer, &traffic)),
            ),
        });
    Ok(both.boxed())
}

fn quic_config(key: &Keypair) -> quic::Config {
    let mut config = quic::Config::new(key);
    config.max_connection_data = QUIC_CONNECTION_WINDOW;
    config.max_stream_data = QUIC_STREAM_WINDOW;
    config.max_idle_timeout = u32::try_from(QUIC_IDLE.as_millis()).unwrap_or(u32::MAX);
    config.keep_alive_interval = QUIC_IDLE / 4;
    config
}

/// Whether an address can be listened on, told by the system's own error.
///
/// libp2p's TCP shares its port with whoever asks for it, so that a second node would listen on the
/// first one's port unnoticed and take half of its connections. A plain socket does not share.
pub(super) fn probe(address: &Multiaddr) -> io::Result<()> {
    let mut parts = address.iter();
    let ip = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it must begin with /ip4/ or /ip6/",
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
            "it must be /tcp/<port> or /udp/<port>/quic-v1",
        )),
    }
}
