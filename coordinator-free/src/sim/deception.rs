//! Lets dishonest peers act.

use weal_proto::{BlobHash, Decided, Envelope};

use super::dishonest::{Act, Dishonest, Glimpse, Said};
use super::world::World;

impl World {
    /// What goes out when the core of a peer broadcasts this message.
    pub(super) fn said(&mut self, peer: usize, envelope: Envelope) -> Vec<Said> {
        let mut envelope = Some(envelope);
        let said = self.deceive(peer, None, |liar, glimpse| {
            envelope.take().map(|envelope| liar.say(glimpse, envelope))
        });
        match (said, envelope) {
            (Some(Some(said)), _) => said,
            (_, honest) => honest.map(Said::to_all).into_iter().collect(),
        }
    }

    /// What a dishonest peer does after a step of its core.
    pub(super) fn add_lies(&mut self, peer: usize, heard: Option<&Envelope>) {
        let added = self.deceive(peer, heard, |liar, glimpse| liar.add(glimpse));
        for act in added.into_iter().flatten() {
            match act {
                Act::Say(Said { envelope, to }) => self.send_all(peer, envelope, &to),
                Act::Serve(blob) => self.hold_and_reveal(peer, blob),
            }
        }
    }

    /// Tells what stands behind the learning that the first honest peer decided a round.
    pub(super) fn learn_of(&mut self, peer: usize, decided: &Decided) {
        if let Some(core) = &self.nodes[peer].core {
            self.learning.decided(self.now, decided, core.chain());
        }
    }

    /// Lets a peer act, if it is dishonest and up.
    fn deceive<T>(
        &mut self,
        peer: usize,
        heard: Option<&Envelope>,
        act: impl FnOnce(&mut dyn Dishonest, &Glimpse<'_>) -> T,
    ) -> Option<T> {
        let mut liar = self.nodes[peer].liar.take()?;
        let acted = self.glimpse(peer, heard, |glimpse| act(liar.as_mut(), glimpse));
        self.nodes[peer].liar = Some(liar);
        acted
    }

    /// Shows what a peer knows; `None` if it is down.
    fn glimpse<T>(
        &self,
        peer: usize,
        heard: Option<&Envelope>,
        show: impl FnOnce(&Glimpse<'_>) -> T,
    ) -> Option<T> {
        let node = &self.nodes[peer];
        let core = node.core.as_ref()?;
        let is_served = |blob: &BlobHash| {
            let mut others = self.nodes.iter().enumerate();
            others.any(|(other, node)| other != peer && node.is_up() && node.serves(blob, peer))
        };
        let glimpse = Glimpse {
            key: &node.key,
            run: self.manifest.run(),
            now: self.now,
            chain: core.chain(),
            heard,
            is_served: &is_served,
        };
        Some(show(&glimpse))
    }
}
