//! Public keys of peers, and their libp2p form.

use libp2p::identity::{Keypair, PublicKey, ed25519};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use crate::error::Error;
use crate::host_names::numeric;

/// A peer's Ed25519 public key. The peer signs messages with it, and its connections are
/// authenticated by it.
pub type PeerKey = [u8; 32];

/// libp2p's `identity` multihash: the peer id contains the public key itself.
const IDENTITY_MULTIHASH: u64 = 0;

/// The libp2p key pair of an Ed25519 seed.
pub(crate) fn keypair(secret: [u8; 32]) -> Result<Keypair, Error> {
    Keypair::ed25519_from_bytes(secret).map_err(|_| Error::Key)
}

/// The libp2p id of a peer, or `None` if the bytes are not a point on the curve.
pub(crate) fn peer_id(key: &PeerKey) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(key).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// The public key in a libp2p id, or `None` if the key is not an Ed25519 key.
pub(crate) fn peer_key(peer: &PeerId) -> Option<PeerKey> {
    let hash = peer.as_ref();
    if hash.code() != IDENTITY_MULTIHASH {
        return None;
    }
    let key = PublicKey::try_decode_protobuf(hash.digest()).ok()?;
    Some(key.try_into_ed25519().ok()?.to_bytes())
}

/// Appends the peer's id to an address, so that a dialler can check which peer answers. A numeric
/// host name becomes the IP address that it is.
///
/// `None` if `key` is not an Ed25519 public key, or if `address` already ends in another peer's id.
#[must_use]
pub fn address_of(key: &PeerKey, address: &Multiaddr) -> Option<Multiaddr> {
    numeric(address).with_p2p(peer_id(key)?).ok()
}

/// The public key of the peer whose id ends the address.
#[must_use]
pub fn peer_in_address(address: &Multiaddr) -> Option<PeerKey> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => peer_key(&peer),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_conversion_to_a_libp2p_id_and_back() {
        let pair = keypair([7; 32]).unwrap();
        let id = pair.public().to_peer_id();
        let key = peer_key(&id).unwrap();
        assert_eq!(peer_id(&key), Some(id));
        assert_eq!(pair.public().try_into_ed25519().unwrap().to_bytes(), key);
    }

    #[test]
    fn the_peer_id_is_appended_to_an_address_and_read_back() {
        let key = peer_key(&keypair([9; 32]).unwrap().public().to_peer_id()).unwrap();
        let plain: Multiaddr = "/ip4/127.0.0.1/tcp/9".parse().unwrap();
        assert_eq!(peer_in_address(&plain), None);
        assert_eq!(
            peer_in_address(&address_of(&key, &plain).unwrap()),
            Some(key)
        );
    }
}
