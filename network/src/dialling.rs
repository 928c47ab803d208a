//! Whom to call, and when again: bootstrap addresses for ever, lost peers a few times, all with
//! back-off.

use std::time::{Duration, Instant};

use libp2p::multiaddr::Protocol;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use rand::Rng;

/// The first pause after a failure; it doubles from there.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Each pause is this much longer or shorter, at random, so that a network that lost a node does
/// not call it in step.
const JITTER: f64 = 0.25;
/// A lost peer is given up after so many failures.
const ATTEMPTS_FOR_LOST: u32 = 8;
/// Addresses held at most; lost peers beyond that are not called again.
const MOST: usize = 512;
/// With fewer peers than this, those that were lost or let go are called again.
pub(super) const ENOUGH_PEERS: usize = 16;

/// Why an address is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It stands in the settings: never given up.
    Bootstrap,
    /// The node or a lost connection asked for it.
    Known,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Waiting { until: Instant },
    Calling { connection: ConnectionId },
    Reached { peer: PeerId, admitted: bool },
}

#[derive(Debug)]
struct Target {
    address: Multiaddr,
    purpose: Purpose,
    failures: u32,
    /// It was reached before: while there are peers enough it need not be called again.
    reached_before: bool,
    state: State,
}

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failed {
    pub address: Multiaddr,
    pub purpose: Purpose,
    /// `None`: it is given up.
    pub retry_in: Option<Duration>,
}

/// The addresses to call.
#[derive(Debug, Default)]
pub(super) struct Dialler {
    targets: Vec<Target>,
}

impl Dialler {
    /// Calls an address as soon as possible, unless it is known already.
    pub(super) fn add(&mut self, address: Multiaddr, purpose: Purpose, now: Instant) {
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

    /// Calls the address of a lost peer after a pause, unless it is known already.
    pub(super) fn call_later(&mut self, address: Multiaddr, now: Instant) {
        if self.targets.iter().all(|target| target.address != address) {
            self.push(address, Purpose::Known, now + pause(0), true);
        }
    }

    fn push(&mut self, address: Multiaddr, purpose: Purpose, until: Instant, reached_before: bool) {
        if self.targets.len() < MOST {
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

    /// The addresses to call now. Each is to be followed by [`Self::calling`], [`Self::postpone`]
    /// or [`Self::failed_at_once`].
    pub(super) fn due(&self, peers: usize, now: Instant) -> Vec<Multiaddr> {
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

    /// The address is being called.
    pub(super) fn calling(&mut self, address: &Multiaddr, connection: ConnectionId) {
        if let Some(target) = self
            .targets
            .iter_mut()
            .find(|target| target.address == *address)
        {
            target.state = State::Calling { connection };
        }
    }

    /// A connection was made.
    pub(super) fn connected(&mut self, connection: ConnectionId, peer: PeerId) {
        for target in &mut self.targets {
            let called =
                matches!(target.state, State::Calling { connection: ours } if ours == connection);
            if called || (named(&target.address) == Some(peer) && !target.is_at(peer)) {
                target.state = State::Reached {
                    peer,
                    admitted: false,
                };
            }
        }
    }

    /// The peer is connected, and of this run.
    pub(super) fn admitted(&mut self, peer: PeerId) {
        for target in self.targets.iter_mut().filter(|target| target.is_at(peer)) {
            target.failures = 0;
            target.reached_before = true;
            target.state = State::Reached {
                peer,
                admitted: true,
            };
        }
    }

    /// The peer is unwanted (of another run, or shut out): known addresses of it are given up,
    /// bootstrap addresses count as failed.
    pub(super) fn refused(&mut self, peer: PeerId, now: Instant) -> Vec<Failed> {
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

    /// The peer is being called under another address: look again in a moment.
    pub(super) fn postpone(&mut self, address: &Multiaddr, now: Instant) {
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

    /// A call failed.
    pub(super) fn failed(&mut self, connection: ConnectionId, now: Instant) -> Option<Failed> {
        let place = self
            .targets
            .iter()
            .position(|target| matches!(target.state, State::Calling { connection: ours } if ours == connection))?;
        self.fail(place, now)
    }

    /// A call could not even be begun.
    pub(super) fn failed_at_once(&mut self, address: &Multiaddr, now: Instant) -> Option<Failed> {
        let place = self
            .targets
            .iter()
            .position(|target| target.address == *address)?;
        self.fail(place, now)
    }

    /// The last connection with a peer ended: call it again after a pause. A peer that was never
    /// admitted has failed.
    pub(super) fn lost(&mut self, peer: PeerId, now: Instant) -> Vec<Failed> {
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

    /// The address is this node's own: never call it again.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        self.targets
            .retain(|target| !matches!(target.state, State::Calling { connection: ours } if ours == connection));
    }

    fn fail(&mut self, place: usize, now: Instant) -> Option<Failed> {
        let target = self.targets.get_mut(place)?;
        let wait = pause(target.failures);
        target.failures = target.failures.saturating_add(1);
        target.state = State::Waiting { until: now + wait };
        let (address, purpose) = (target.address.clone(), target.purpose);
        let given_up = purpose == Purpose::Known && target.failures >= ATTEMPTS_FOR_LOST;
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
    fn is_at(&self, peer: PeerId) -> bool {
        matches!(self.state, State::Reached { peer: there, .. } if there == peer)
    }

    fn leads_to(&self, peer: PeerId) -> bool {
        self.is_at(peer) || named(&self.address) == Some(peer)
    }
}

/// The peer that an address names at its end.
pub(super) fn named(address: &Multiaddr) -> Option<PeerId> {
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

    fn call(dialler: &mut Dialler, address: &Multiaddr, number: usize) -> ConnectionId {
        let connection = ConnectionId::new_unchecked(number);
        dialler.calling(address, connection);
        connection
    }

    #[test]
    fn a_bootstrap_address_is_tried_for_ever_with_growing_pauses() {
        let (mut dialler, mut now) = (Dialler::default(), Instant::now());
        dialler.add(address(1), Purpose::Bootstrap, now);
        for attempt in 0..50 {
            assert_eq!(dialler.due(0, now), [address(1)]);
            let connection = call(&mut dialler, &address(1), attempt);
            assert!(dialler.due(0, now).is_empty(), "called twice at once");
            let wait = dialler.failed(connection, now).unwrap().retry_in.unwrap();
            assert!(wait <= LONGEST_PAUSE.mul_f64(1.0 + JITTER));
            assert!(attempt < 7 || wait >= LONGEST_PAUSE.mul_f64(1.0 - JITTER));
            assert!(
                dialler.due(0, now).is_empty(),
                "called before its pause is over"
            );
            now += wait;
        }
    }

    #[test]
    fn a_lost_peer_is_given_up_in_the_end() {
        let (mut dialler, now) = (Dialler::default(), Instant::now());
        dialler.add(address(1), Purpose::Known, now);
        for attempt in 1..=ATTEMPTS_FOR_LOST {
            let connection = call(&mut dialler, &address(1), attempt as usize);
            let failed = dialler.failed(connection, now).unwrap();
            assert_eq!(failed.retry_in.is_none(), attempt == ATTEMPTS_FOR_LOST);
        }
        assert!(dialler.due(0, now + LONGEST_PAUSE * 2).is_empty());
    }

    #[test]
    fn a_peer_that_left_is_called_again_only_where_peers_are_few() {
        let (mut dialler, now, peer) = (Dialler::default(), Instant::now(), PeerId::random());
        dialler.add(address(1), Purpose::Bootstrap, now);
        let connection = call(&mut dialler, &address(1), 1);
        dialler.connected(connection, peer);
        dialler.admitted(peer);
        dialler.lost(peer, now);
        let later = now + FIRST_PAUSE * 2;
        assert_eq!(dialler.due(0, later), [address(1)]);
        assert!(dialler.due(ENOUGH_PEERS, later).is_empty());
        // Asked for by name it is called all the same.
        dialler.add(address(1), Purpose::Known, later);
        assert_eq!(dialler.due(ENOUGH_PEERS, later), [address(1)]);
    }

    #[test]
    fn a_stranger_at_a_bootstrap_address_is_not_called_in_a_loop() {
        let (mut dialler, mut now, stranger) =
            (Dialler::default(), Instant::now(), PeerId::random());
        dialler.add(address(1), Purpose::Bootstrap, now);
        dialler.add(address(2).with_p2p(stranger).unwrap(), Purpose::Known, now);
        for attempt in 0..10 {
            let connection = call(&mut dialler, &address(1), attempt);
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
    fn who_hangs_up_at_once_has_failed() {
        let (mut dialler, now, peer) = (Dialler::default(), Instant::now(), PeerId::random());
        dialler.add(address(1), Purpose::Bootstrap, now);
        let connection = call(&mut dialler, &address(1), 1);
        dialler.connected(connection, peer);
        assert_eq!(dialler.lost(peer, now).len(), 1);
    }

    #[test]
    fn a_peer_that_calls_by_itself_need_not_be_called() {
        let (mut dialler, now, peer) = (Dialler::default(), Instant::now(), PeerId::random());
        let named = address(1).with_p2p(peer).unwrap();
        dialler.add(named, Purpose::Bootstrap, now);
        dialler.connected(ConnectionId::new_unchecked(9), peer);
        assert!(dialler.due(0, now).is_empty());
    }
}
