//! Who is who, and the names under which the peers of one run find each other.

use libp2p::gossipsub::IdentTopic;
use libp2p::identity::{Keypair, PublicKey, ed25519};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, StreamProtocol};

use super::Error;

/// A peer's Ed25519 public key: the identity it signs with and the one its connections are
/// authenticated by.
pub type PeerKey = [u8; 32];

/// libp2p's `identity` multihash: the public key itself stands in the peer id.
const IDENTITY_MULTIHASH: u64 = 0;

/// The libp2p form of an Ed25519 seed.
pub(super) fn keypair(secret: [u8; 32]) -> Result<Keypair, Error> {
    Keypair::ed25519_from_bytes(secret).map_err(|_| Error::Key)
}

/// The libp2p name of a peer; `None` where the bytes are no point of the curve.
pub(super) fn peer_id(key: &PeerKey) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(key).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// The key in a libp2p name; `None` where the name is that of another kind of key.
pub(super) fn peer_key(peer: &PeerId) -> Option<PeerKey> {
    let hash = peer.as_ref();
    if hash.code() != IDENTITY_MULTIHASH {
        return None;
    }
    let key = PublicKey::try_decode_protobuf(hash.digest()).ok()?;
    Some(key.try_into_ed25519().ok()?.to_bytes())
}

/// The address with the peer's name at its end, so that whoever dials it knows whom to expect.
///
/// `None` where `key` is no Ed25519 public key, or `address` already names another peer.
#[must_use]
pub fn address_of(key: &PeerKey, address: Multiaddr) -> Option<Multiaddr> {
    address.with_p2p(peer_id(key)?).ok()
}

/// The peer that an address names at its end.
#[must_use]
pub fn peer_in_address(address: &Multiaddr) -> Option<PeerKey> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => peer_key(&peer),
        _ => None,
    }
}

/// The protocol names of one run. All but gossip's carry the run, so that peers of different runs
/// share nothing.
#[derive(Debug, Clone)]
pub(super) struct Protocols {
    /// What identify announces; peers that announce another are of another run.
    pub identify: String,
    /// Chunks and outlines of blobs.
    pub blob: StreamProtocol,
    /// Control requests: manifests, certificates, status.
    pub sync: StreamProtocol,
    /// Kademlia.
    pub kademlia: StreamProtocol,
    /// The one gossip topic.
    pub topic: IdentTopic,
}

impl Protocols {
    pub(super) fn of_run(run: &[u8; 32]) -> Result<Self, Error> {
        let run = hex::encode(run);
        let named = |part: &str| {
            StreamProtocol::try_from_owned(format!("/commonweal/{run}/{part}/1")).map_err(|e| {
                Error::Setup {
                    part: "protocol names",
                    why: e.to_string(),
                }
            })
        };
        Ok(Self {
            identify: format!("/commonweal/{run}"),
            blob: named("blob")?,
            sync: named("sync")?,
            kademlia: named("kad")?,
            topic: IdentTopic::new(format!("commonweal/{run}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_the_way_through_its_libp2p_name() {
        let pair = keypair([7; 32]).unwrap();
        let name = pair.public().to_peer_id();
        let key = peer_key(&name).unwrap();
        assert_eq!(peer_id(&key), Some(name));
        assert_eq!(pair.public().try_into_ed25519().unwrap().to_bytes(), key);
    }

    #[test]
    fn an_address_names_its_peer() {
        let key = peer_key(&keypair([9; 32]).unwrap().public().to_peer_id()).unwrap();
        let plain: Multiaddr = "/ip4/127.0.0.1/tcp/9".parse().unwrap();
        assert_eq!(peer_in_address(&plain), None);
        assert_eq!(
            peer_in_address(&address_of(&key, plain).unwrap()),
            Some(key)
        );
    }
}
