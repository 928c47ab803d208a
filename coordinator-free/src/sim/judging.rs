//! Comparing and measuring contributions, and looking for tickets.

use weal_proto::{BlobHash, RoundNumber, Ticket};

use super::event::Local;
use super::world::World;
use crate::interface::input::Input;
use crate::interface::output::{Candidate, Judge};

impl World {
    /// Compares the contributions of a round, which takes a moment.
    pub(super) fn compare(
        &mut self,
        peer: usize,
        round: RoundNumber,
        found: &[Candidate],
        earlier: &[BlobHash],
    ) {
        let delay = self.random.within(&(5..=100));
        let signals = self.learning.compare(peer, round, found, earlier);
        let compared = Local::Answer(Input::Compared { round, signals });
        self.schedule_local(peer, delay, compared);
    }

    /// Measures contributions, which takes a part of the time that training takes.
    pub(super) fn judge(&mut self, peer: usize, judge: &Judge) {
        let delay = self.random.within(&self.scenario.train_ms) / 6;
        let (round, scores) = (judge.round, self.learning.judge(peer, judge));
        let judged = Local::Answer(Input::Judged { round, scores });
        self.schedule_local(peer, delay, judged);
    }

    /// Finds a ticket, which takes next to nothing here.
    pub(super) fn find_ticket(&mut self, peer: usize, round: RoundNumber, bits: u32) {
        let (run, signer) = (self.manifest.run(), self.nodes[peer].key.peer());
        let found = Ticket { round, nonce: 0 }.find(run, signer, bits);
        let delay = self.random.within(&(50..=2_000));
        if let Some(ticket) = found {
            self.schedule_local(peer, delay, Local::Answer(Input::TicketFound(ticket)));
        }
    }
}
