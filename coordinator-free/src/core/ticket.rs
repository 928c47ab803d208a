//! Tickets: how a newcomer asks for a place.

use weal_proto::Ticket;

use super::Core;
use crate::interface::output::Output;

/// The most tickets to keep. Each costs its signer work.
const MAX_TICKETS: usize = 128;

impl Core {
    /// Asks the caller for a ticket if this node needs one: it is no member, and none of its
    /// tickets is decided or waits to be.
    pub(super) fn ask_for_ticket(&mut self) {
        let round = self.chain.round();
        if self.needs_ticket() {
            self.outputs.push(Output::FindTicket {
                round,
                bits: self.chain.manifest().membership.ticket_bits,
            });
        }
    }

    pub(super) fn ticket_found(&mut self, ticket: Ticket) {
        if !self.needs_ticket() || !self.chain.allows_ticket(&self.me, &ticket) {
            return;
        }
        let envelope = self.sign(&ticket);
        self.tickets.insert(self.me, envelope.clone());
        self.outputs.push(Output::Broadcast(envelope));
    }

    fn needs_ticket(&self) -> bool {
        let ledger = self.chain.ledger();
        !ledger.is_member(&self.me)
            && !ledger.is_banned(&self.me)
            && !ledger.has_ticket(&self.me)
            && self.chain.places().slot_of(&self.me).is_none()
            && !self.tickets.contains_key(&self.me)
            && !self.leaving
    }

    /// Whether there is room for one more ticket with this much work. A ticket with less gives way.
    pub(super) fn make_room_for_ticket(&mut self, bits: u32) -> bool {
        if self.tickets.len() < MAX_TICKETS {
            return true;
        }
        let run = self.chain.run();
        let work = |peer, envelope: &weal_proto::Envelope| {
            let ticket = envelope.open::<Ticket>();
            ticket.map_or(0, |ticket| ticket.work_bits(run, peer))
        };
        let others = self.tickets.iter().filter(|(peer, _)| **peer != self.me);
        let least = others.map(|(peer, it)| (work(*peer, it), *peer)).min();
        match least {
            Some((least, peer)) if least < bits => {
                self.tickets.remove(&peer);
                true
            }
            _ => false,
        }
    }
}
