//! Which addresses to dial, and when to retry: bootstrap addresses for ever, other addresses a few
//! times, all with back-off.

use std::time::{Duration, Instant};

use libp2p::multiaddr::Protocol;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use rand::Rng;

/// The pause after the first failure. It doubles with each further failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Each pause is up to this much longer or shorter, at random, so that the peers of a lost node do
/// not dial it in step.
const JITTER: f64 = 0.25;
/// Failures after which an address that is no bootstrap address is given up.
const MAX_FAILURES: u32 = 8;
/// Limit on addresses. Further ones are not dialled.
const MAX_TARGETS: usize = 512;
/// Below this number of peers, addresses that were reached before are redialled.
pub(crate) const ENOUGH_PEERS: usize = 16;

/// Why an address is dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It is in the settings. It is never given up.
    Bootstrap,
    /// The node, another peer or a lost connection named it.
    Known,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Waiting { until: Instant },
    Dialling { connection: ConnectionId },
    Reached { peer: PeerId, admitted: bool },
}

#[derive(Debug)]
struct Target {
    address: Multiaddr,
    purpose: Purpose,
    failures: u32,
    /// It was reached before, so it need not be redialled while there are enough peers.
    reached_before: bool,
    state: State,
}

/// A failed attempt to dial an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed {
    pub address: Multiaddr,
    pub purpose: Purpose,
    /// Time until the next attempt, or `None` if the address was given up.
    pub retry_in: Option<Duration>,
}

/// The addresses to dial.
#[derive(Debug, Default)]
pub(crate) struct Dialler {
    targets: Vec<Target>,
}

impl Dialler {
    /// Schedules an address to be dialled at once, unless it is being dialled or was reached.
    pub(crate) fn add(&mut self, address: Multiaddr, purpose: Purpose, now: Instant) {
        if let Some(known) = self
            .targets
            .iter_mut()
            .find(|target| target.address == address)
        {
            if let State::Waiting { until } = &mut known.state {
                *until = now;
                known.reached_before = false;
            }
        } else {
            self.push(address, purpose, now, false);
        }
    }

    /// Schedules the address of a lost peer to be dialled after a pause, unless it is known
    /// already.
    pub(crate) fn redial(&mut self, address: Multiaddr, now: Instant) {
        if self.targets.iter().all(|target| target.address != address) {
            self.push(address, Purpose::Known, now + pause(0), true);
        }
    }

    fn push(&mut self, address: Multiaddr, purpose: Purpose, until: Instant, reached_before: bool) {
        if self.targets.len() < MAX_TARGETS {
            let state = State::Waiting { until };
            self.targets.push(Target {
                address,
                purpose,
                failures: 0,
                reached_before,
                state,
            });
        }
    }

    /// The addresses to dial now. For each, call [`Self::dialling`], [`Self::postpone`] or
    /// [`Self::failed_at_once`].
    pub(crate) fn due(&self, peers: usize, now: Instant) -> Vec<Multiaddr> {
        let due = |target: &&Target| match target.state {
            State::Waiting { until } => {
                until <= now && (!target.reached_before || peers < ENOUGH_PEERS)
            }
            _ => false,
        };
        self.targets
            .iter()
            .filter(due)
            .map(|target| target.address.clone())
            .collect()
    }

    /// The address is being dialled.
    pub(crate) fn dialling(&mut self, address: &Multiaddr, connection: ConnectionId) {
        if let Some(target) = self
            .targets
            .iter_mut()
            .find(|target| target.address == *address)
        {
            target.state = State::Dialling { connection };
        }
    }

    /// A connection was opened.
    pub(crate) fn connected(&mut self, connection: ConnectionId, peer: PeerId) {
        for target in &mut self.targets {
            if target.is_dialling(connection)
                || (peer_in(&target.address) == Some(peer) && !target.is_at(peer))
            {
                target.state = State::Reached {
                    peer,
                    admitted: false,
                };
            }
        }
    }

    /// The peer is connected and belongs to this run.
    pub(crate) fn admitted(&mut self, peer: PeerId) {
        for target in self.targets.iter_mut().filter(|target| target.is_at(peer)) {
            target.failures = 0;
            target.reached_before = true;
            target.state = State::Reached {
                peer,
                admitted: true,
            };
        }
    }

    /// The peer belongs to another run or is banned. Its known addresses are given up, and its
    /// bootstrap addresses count as failed.
    pub(crate) fn refused(&mut self, peer: PeerId, now: Instant) -> Vec<Failed> {
        self.targets
            .retain(|target| target.purpose == Purpose::Bootstrap || !target.leads_to(peer));
        let mut failed = Vec::new();
        for place in (0..self.targets.len()).rev() {
            if self
                .targets
                .get(place)
                .is_some_and(|target| target.is_at(peer))
            {
                failed.extend(self.fail(place, now));
            }
        }
        failed
    }

    /// The peer is being dialled at another address. Try this one again in a moment.
    pub(crate) fn postpone(&mut self, address: &Multiaddr, now: Instant) {
        if let Some(target) = self
            .targets
            .iter_mut()
            .find(|target| target.address == *address)
        {
            target.state = State::Waiting {
                until: now + FIRST_PAUSE,
            };
        }
    }

    /// Dialling failed.
    pub(crate) fn failed(&mut self, connection: ConnectionId, now: Instant) -> Option<Failed> {
        let place = self
            .targets
            .iter()
            .position(|target| target.is_dialling(connection))?;
        self.fail(place, now)
    }

    /// The swarm refused to dial the address.
    pub(crate) fn failed_at_once(&mut self, address: &Multiaddr, now: Instant) -> Option<Failed> {
        let place = self
            .targets
            .iter()
            .position(|target| target.address == *address)?;
        self.fail(place, now)
    }

    /// The last connection to a peer closed. It is redialled after a pause; for a peer that was
    /// never admitted, this counts as a failure.
    pub(crate) fn lost(&mut self, peer: PeerId, now: Instant) -> Vec<Failed> {
        let mut failed = Vec::new();
        for place in (0..self.targets.len()).rev() {
            match self.targets.get_mut(place) {
                Some(Target {
                    state:
                        State::Reached {
                            peer: there,
                            admitted: false,
                        },
                    ..
                }) if *there == peer => {
                    failed.extend(self.fail(place, now));
                }
                Some(target) if target.is_at(peer) => {
                    target.state = State::Waiting {
                        until: now + pause(0),
                    }
                }
                _ => {}
            }
        }
        failed
    }

    /// The connection leads to this node itself. Its address is never dialled again.
    pub(crate) fn forget(&mut self, connection: ConnectionId) {
        self.targets
            .retain(|target| !target.is_dialling(connection));
    }

    fn fail(&mut self, place: usize, now: Instant) -> Option<Failed> {
        let target = self.targets.get_mut(place)?;
        let wait = pause(target.failures);
        target.failures = target.failures.saturating_add(1);
        target.state = State::Waiting { until: now + wait };
        let (address, purpose) = (target.address.clone(), target.purpose);
        let given_up = purpose == Purpose::Known && target.failures >= MAX_FAILURES;
        if given_up {
            self.targets.swap_remove(place);
        }
        Some(Failed {
            address,
            purpose,
            retry_in: (!given_up).then_some(wait),
        })
    }
}

impl Target {
    fn is_dialling(&self, connection: ConnectionId) -> bool {
        matches!(self.state, State::Dialling { connection: ours } if ours == connection)
    }

    fn is_at(&self, peer: PeerId) -> bool {
        matches!(self.state, State::Reached { peer: there, .. } if there == peer)
    }

    fn leads_to(&self, peer: PeerId) -> bool {
        self.is_at(peer) || peer_in(&self.address) == Some(peer)
    }
}

/// The peer whose id ends the address.
pub(crate) fn peer_in(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}

/// The pause after `failures` earlier failures.
fn pause(failures: u32) -> Duration {
    let full = FIRST_PAUSE
        .saturating_mul(1 << failures.min(16))
        .min(LONGEST_PAUSE);
    full.mul_f64(1.0 + rand::rng().random_range(-JITTER..=JITTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
    }

    fn dial(dialler: &mut Dialler, address: &Multiaddr, number: usize) -> ConnectionId {
        let connection = ConnectionId::new_unchecked(number);
        dialler.dialling(address, connection);
        connection
    }

    #[test]
    fn a_bootstrap_address_is_retried_for_ever_with_growing_pauses() {
        let (mut dialler, mut now) = (Dialler::default(), Instant::now());
        dialler.add(address(1), Purpose::Bootstrap, now);
        for attempt in 0..50 {
            assert_eq!(dialler.due(0, now), [address(1)]);
            let connection = dial(&mut dialler, &address(1), attempt);
            assert!(dialler.due(0, now).is_empty(), "dialled twice at once");
            let wait = dialler.failed(connection, now).unwrap().retry_in.unwrap();
            assert!(wait <= LONGEST_PAUSE.mul_f64(1.0 + JITTER));
            assert!(attempt < 7 || wait >= LONGEST_PAUSE.mul_f64(1.0 - JITTER));
            assert!(
                dialler.due(0, now).is_empty(),
                "dialled before its pause is over"
            );
            now += wait;
        }
    }

    #[test]
    fn an_address_is_given_up_after_enough_failures() {
        let (mut dialler, now) = (Dialler::default(), Instant::now());
        dialler.add(address(1), Purpose::Known, now);
        for attempt in 1..=MAX_FAILURES {
            let connection = dial(&mut dialler, &address(1), attempt as usize);
            let failed = dialler.failed(connection, now).unwrap();
            assert_eq!(failed.retry_in.is_none(), attempt == MAX_FAILURES);
        }
        assert!(dialler.due(0, now + LONGEST_PAUSE * 2).is_empty());
    }

    #[test]
    fn a_lost_peer_is_redialled_only_while_there_are_too_few_peers() {
        let (mut dialler, now, peer) = (Dialler::default(), Instant::now(), PeerId::random());
        dialler.add(address(1), Purpose::Bootstrap, now);
        let connection = dial(&mut dialler, &address(1), 1);
        dialler.connected(connection, peer);
        dialler.admitted(peer);
        dialler.lost(peer, now);
        let later = now + FIRST_PAUSE * 2;
        assert_eq!(dialler.due(0, later), [address(1)]);
        assert!(dialler.due(ENOUGH_PEERS, later).is_empty());
        // An explicit request dials it all the same.
        dialler.add(address(1), Purpose::Known, later);
        assert_eq!(dialler.due(ENOUGH_PEERS, later), [address(1)]);
    }

    #[test]
    fn a_stranger_at_a_bootstrap_address_is_not_dialled_in_a_loop() {
        let (mut dialler, mut now, stranger) =
            (Dialler::default(), Instant::now(), PeerId::random());
        dialler.add(address(1), Purpose::Bootstrap, now);
        dialler.add(address(2).with_p2p(stranger).unwrap(), Purpose::Known, now);
        for attempt in 0..10 {
            let connection = dial(&mut dialler, &address(1), attempt);
            dialler.connected(connection, stranger);
            let failed = dialler.refused(stranger, now);
            assert!(dialler.lost(stranger, now).is_empty(), "counted twice");
            let [
                Failed {
                    retry_in: Some(wait),
                    ..
                },
            ] = failed[..]
            else {
                panic!("{failed:?}")
            };
            assert!(attempt < 7 || wait >= LONGEST_PAUSE.mul_f64(1.0 - JITTER));
            now += wait;
            assert_eq!(dialler.due(0, now), [address(1)]);
        }
    }

    #[test]
    fn a_peer_that_disconnects_at_once_counts_as_failed() {
        let (mut dialler, now, peer) = (Dialler::default(), Instant::now(), PeerId::random());
        dialler.add(address(1), Purpose::Bootstrap, now);
        let connection = dial(&mut dialler, &address(1), 1);
        dialler.connected(connection, peer);
        assert_eq!(dialler.lost(peer, now).len(), 1);
    }

    #[test]
    fn a_peer_that_dialled_this_node_need_not_be_dialled() {
        let (mut dialler, now, peer) = (Dialler::default(), Instant::now(), PeerId::random());
        let named = address(1).with_p2p(peer).unwrap();
        dialler.add(named, Purpose::Bootstrap, now);
        dialler.connected(ConnectionId::new_unchecked(9), peer);
        assert!(dialler.due(0, now).is_empty());
    }
}
