//! Dials the addresses that are due.

use std::time::Instant;

use libp2p::swarm::DialError;
use libp2p::swarm::dial_opts::DialOpts;

use super::task::Driver;
use crate::dialler::{Failed, Purpose, peer_in};
use crate::event::Event;
use crate::transport::dial_failure;

impl Driver {
    /// Dials every address that is due.
    pub(super) fn dial_due(&mut self, now: Instant) {
        for address in self.dialler.due(self.peers.admitted(), now) {
            // Dialling without the peer id would open a second connection to a connected peer.
            let options = match peer_in(&address) {
                Some(peer) => DialOpts::peer_id(peer)
                    .addresses(vec![address.clone()])
                    .build(),
                None => DialOpts::from(address.clone()),
            };
            let connection = options.connection_id();
            match self.swarm.dial(options) {
                Ok(()) => self.dialler.dialling(&address, connection),
                Err(DialError::DialPeerConditionFalse(_)) => match peer_in(&address) {
                    Some(peer) if self.swarm.is_connected(&peer) => {
                        self.dialler.connected(connection, peer)
                    }
                    _ => self.dialler.postpone(&address, now),
                },
                Err(error) => {
                    let failed = self.dialler.failed_at_once(&address, now);
                    self.report(failed, &dial_failure(&error));
                }
            }
        }
    }

    /// Logs failures, and tells the node of failed bootstrap addresses.
    pub(super) fn report(&mut self, failed: impl IntoIterator<Item = Failed>, why: &str) {
        for Failed {
            address,
            purpose,
            retry_in,
        } in failed
        {
            tracing::debug!("cannot reach {address}: {why}");
            if let (Purpose::Bootstrap, Some(retry_in)) = (purpose, retry_in) {
                self.tell(Event::BootstrapFailed {
                    address,
                    why: why.into(),
                    retry_in,
                });
            }
        }
    }
}
