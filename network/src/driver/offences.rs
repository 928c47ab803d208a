//! Penalises peers that break the protocol.

use std::time::Instant;

use libp2p::PeerId;

use super::task::Driver;
use crate::event::Event;
use crate::identity::peer_key;
use crate::origin::Origin;
use crate::reputation::Offence;

impl Driver {
    /// Counts an offence, lowers the peer's gossip score, and bans the peer if it has too many
    /// demerits.
    pub(super) fn offended(&mut self, peer: PeerId, offence: Offence) {
        match offence {
            Offence::BadChunk => self.counters.chunks_bad.one(),
            Offence::BadOutline => self.counters.outlines_bad.one(),
            Offence::MalformedAnswer => self.counters.answers_malformed.one(),
            Offence::MalformedRequest => self.counters.requests_malformed.one(),
            Offence::Noise => self.counters.gossip_noise.one(),
            Offence::Flood => self.counters.floods.one(),
        }
        let now = Instant::now();
        let origin = self.peers.address(&peer).map(Origin::of);
        let bans = self.reputation.offended(peer, origin, offence, now);
        let demerits = self.reputation.demerits(&peer, now);
        self.set_gossip_score(&peer, -demerits);
        // Not louder: strangers decide how often that happens.
        tracing::debug!("peer {peer} committed an offence ({offence:?}): {demerits:.0} demerits");
        if let Some(block) = bans.block {
            self.counters.address_blocks_banned.one();
            self.swarm.behaviour_mut().gate.ban(block);
        }
        if bans.peer {
            self.counters.banned.one();
            self.swarm.behaviour_mut().banned.block_peer(peer);
            self.swarm.behaviour_mut().kademlia.remove_peer(&peer);
            self.routes.remove(&peer);
            self.dialler.refused(peer, now);
            if let Some(key) = peer_key(&peer) {
                self.tell(Event::Banned { peer: key, offence });
            }
        }
    }

    /// Lets those in whose ban is over.
    pub(super) fn end_bans(&mut self, now: Instant) {
        let unbanned = self.reputation.unbanned(now);
        let behaviour = self.swarm.behaviour_mut();
        for peer in unbanned.peers {
            behaviour.banned.unblock_peer(peer);
        }
        for block in unbanned.blocks {
            behaviour.gate.unban(&block);
        }
    }

    /// Notices peers that send more unasked than honest peers ever do.
    pub(super) fn notice_floods(&mut self, now: Instant) {
        let connected: Vec<_> = self.swarm.connected_peers().copied().collect();
        let received = |peer: PeerId| (peer, self.traffic.unasked(&peer));
        let received = connected.into_iter().map(received).collect::<Vec<_>>();
        for peer in self.floods.notice(received, now) {
            self.offended(peer, Offence::Flood);
        }
    }

    /// Sets what this node's opinion of the peer adds to its gossip score.
    pub(super) fn set_gossip_score(&mut self, peer: &PeerId, score: f64) {
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        gossip.set_application_score(peer, score);
    }
}
