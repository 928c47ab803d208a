//! Finding peers again: those of earlier days are saved, and called when nobody is here.

use std::time::Instant;

use libp2p::Multiaddr;
use rand::seq::SliceRandom;
use weal_network::{Network, PeerKey};
use weal_proto::PeerId;

use super::event_loop::Daemon;
use crate::error::Result;
use crate::node_network::connected_peers;
use crate::settings::NetworkSettings;
use crate::store::{MetPeer, Store};
use crate::wall_clock::unix_ms;

/// Saved addresses that are called at once, the best first.
const CALLED: usize = 48;
/// Further saved addresses that are called at once, drawn by lot: the best may all be gone.
const DRAWN: usize = 16;

/// Adds the peers of the links by which this node joined to those that the settings name. They are
/// never given up.
pub(super) fn add_link_peers(store: &Store, settings: &mut NetworkSettings) -> Result<()> {
    let addresses = store.link_peers()?;
    for address in addresses.iter().filter_map(|text| text.parse().ok()) {
        if !settings.bootstrap.contains(&address) {
            settings.bootstrap.push(address);
        }
    }
    Ok(())
}

/// Calls peers that were reached earlier.
pub(super) async fn call_known_peers(store: &Store, network: &Network) -> Result<()> {
    let mut known = store.known_peers()?;
    let mut rest = known.split_off(CALLED.min(known.len()));
    rest.shuffle(&mut rand::rng());
    known.extend(rest.into_iter().take(DRAWN));
    for address in known {
        if let Ok(address) = address.parse() {
            network.dial(address).await;
        }
    }
    Ok(())
}

impl Daemon {
    /// A peer connected.
    pub(super) fn met_peer(&mut self, peer: PeerKey, address: &Multiaddr) {
        let peer = PeerId::from(peer);
        let met = MetPeer {
            addresses: vec![address.to_string()],
            unix_seconds: unix_ms() / 1000,
            member: self.is_member(peer),
        };
        self.met.met(peer, met);
    }

    /// Saves where peers were reached, for the next start.
    pub(super) fn remember_peers(&mut self) {
        let now = Instant::now();
        if self.met.renews(now) {
            for peer in connected_peers(&self.network) {
                let peer = PeerId::from(peer);
                let member = self.is_member(peer);
                self.met.still_here(peer, unix_ms() / 1000, member);
            }
        }
        let is_first = self.met.is_first();
        let met = self.met.due(now);
        let saved = tokio::task::block_in_place(|| {
            match is_first || met.values().any(|peer| peer.member) {
                true => self.store.remember_peers(&met),
                false => self.store.note_peers(&met),
            }
        });
        if let Err(error) = saved {
            tracing::warn!("the addresses of peers could not be saved: {error:#}");
        }
    }

    /// Calls the saved peers again if nobody has been here for a while.
    pub(super) async fn call_if_alone(&mut self) {
        let peers = connected_peers(&self.network).len();
        if self.loneliness.calls_again(peers, Instant::now())
            && let Err(error) = call_known_peers(&self.store, &self.network).await
        {
            tracing::warn!("the addresses of peers could not be read: {error:#}");
        }
    }

    pub(super) fn is_member(&self, peer: PeerId) -> bool {
        let account = self.core.chain().ledger().account(&peer);
        account.is_some_and(|account| account.member)
    }
}
