//! Fetches the decided rounds of a run, to be checked by somebody who takes no part in it.

use std::sync::Arc;

use weal_network::{Network, PeerKey, Silent};
use weal_proto::manifest::Manifest;
use weal_proto::{ChainSnapshot, Decided, Message, Request, Response, RoundNumber, limits};

use super::JoinRequest;
use super::fetch::Newcomer;
use crate::error::{Error, Result};
use crate::folder::Folder;
use crate::node_network::{connected_peers, settings_of_newcomer};
use crate::traffic_meter::MonthlyTraffic;

/// Fetches the manifest and then every decided round of the link's run. `begin` gets the manifest,
/// and the state to begin with; `follow` gets the rounds in order, and refuses those that are not
/// the run's.
///
/// The history begins with the `known` state. Without one it begins with round 0, or else, if no
/// peer has that, with the state that the link names.
///
/// # Errors
/// When no peer has the manifest, or none has a history that `follow` takes.
pub(crate) async fn fetch_history<T>(
    request: &JoinRequest<'_>,
    known: Option<ChainSnapshot>,
    begin: impl FnOnce(Manifest, Option<&ChainSnapshot>) -> Result<T>,
    follow: impl Fn(&mut T, Decided) -> Result<()>,
) -> Result<T> {
    let place = tempfile::tempdir().map_err(Error::storage(
        "cannot make a folder in",
        &std::env::temp_dir(),
    ))?;
    let folder = Folder::new(place.path());
    let seed = folder.key()?.seed();
    let traffic = MonthlyTraffic::open(&folder, request.settings);
    let peers = request.link.peers.clone();
    let addresses = settings_of_newcomer(request.settings, &folder, &traffic, peers);
    let run = request.link.run.into();
    let (network, mut events) = Network::start(seed, run, addresses, Arc::new(Silent)).await?;
    let newcomer = Newcomer {
        link: request.link,
        network: &network,
        patience: request.patience,
        tell: request.tell,
    };
    let followed = async {
        let manifest = newcomer.find_manifest(&mut events).await?;
        let state = match known {
            Some(state) => Some(state),
            None if newcomer.finds_first_round().await => None,
            None => newcomer.state_of_link(&manifest).await?,
        };
        let mut found = begin(manifest, state.as_ref())?;
        let first = state.map_or(RoundNumber(0), |state| state.round);
        newcomer.follow_rounds(&mut found, first, follow).await?;
        Ok(found)
    };
    let followed = followed.await;
    network.shutdown().await;
    followed
}

impl Newcomer<'_> {
    /// Whether a connected peer has the history from its beginning.
    async fn finds_first_round(&self) -> bool {
        for peer in connected_peers(self.network) {
            if self.ask_decided(peer, RoundNumber(0)).await.is_some() {
                return true;
            }
        }
        false
    }

    /// Asks peers for one round after the other until none has more.
    async fn follow_rounds<T>(
        &self,
        found: &mut T,
        first: RoundNumber,
        follow: impl Fn(&mut T, Decided) -> Result<()>,
    ) -> Result<()> {
        let mut next = first;
        loop {
            let before = next;
            let (mut refused, mut is_end) = (None, false);
            for peer in connected_peers(self.network) {
                let Some(decided) = self.ask_decided(peer, next).await else {
                    continue;
                };
                is_end |= decided.is_empty();
                for one in decided {
                    match follow(found, one) {
                        Ok(()) => next = next.next(),
                        Err(error) => {
                            refused = Some(error);
                            break;
                        }
                    }
                }
                if next > before {
                    break;
                }
            }
            if next > before {
                continue;
            }
            return match refused {
                _ if is_end => Ok(()),
                Some(error) => Err(error),
                None => Err(Error::link("no connected peer answers").with_hint("try again")),
            };
        }
    }

    async fn ask_decided(&self, peer: PeerKey, from: RoundNumber) -> Option<Vec<Decided>> {
        let at_most = limits::DECIDED_BATCH as u32;
        let request = Request::Decided { from, at_most }.encode();
        let answer = self.network.request(peer, request).await.ok()?;
        match Response::decode(&answer).ok()? {
            Response::Decided(decided) => Some(decided),
            _ => None,
        }
    }
}
