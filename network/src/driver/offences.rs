//! Penalises peers that break the protocol.

use std::time::Instant;

use libp2p::PeerId;

use super::task::Driver;
use crate::event::Event;
use crate::identity::peer_key;
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
        }
        let now = Instant::now();
        let banned = self.reputation.offended(peer, offence, now);
        let demerits = self.reputation.demerits(&peer, now);
        self.set_gossip_score(&peer, -demerits);
        tracing::info!("peer {peer} committed an offence ({offence:?}): {demerits:.0} demerits");
        if banned {
            self.counters.banned.one();
            self.swarm.behaviour_mut().banned.block_peer(peer);
            self.dialler.refused(peer, now);
            if let Some(key) = peer_key(&peer) {
                self.tell(Event::Banned { peer: key, offence });
            }
        }
    }

    /// Sets what this node's opinion of the peer adds to its gossip score.
    pub(super) fn set_gossip_score(&mut self, peer: &PeerId, score: f64) {
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        gossip.set_application_score(peer, score);
    }
}
