//! A peer that changes its address, sleeps for longer than connections last, or loses its network
//! interface for a while comes back by itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod nat {
    #[allow(dead_code)] // other tests need more of it
    pub(crate) mod peer;
}

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use nat::peer::Peer;
use weal_testing::lab::{Home, Lab, Place, can_make_labs};
use weal_testing::require::skip;
use weal_testing::wait_for;

const PATIENCE: Duration = Duration::from_secs(90);
/// The peer that is interrupted; 1 and 2 are the others.
const VICTIM: u8 = 3;

/// Three peers with public addresses.
struct Trio {
    lab: Lab,
    /// Where the interrupted peer lives.
    place: Place,
    peers: [Peer; 3],
}

impl Trio {
    /// Starts the peers, and waits until all hear one another. `None` if this machine cannot.
    fn start(name: &str) -> Option<Self> {
        if let Err(why) = can_make_labs() {
            skip("interruptions of a peer", &why);
            return None;
        }
        let mut lab = Lab::new(name);
        let places = [1, 2, VICTIM].map(|_| lab.home(Home::Open));
        // It listens on whatever address it has.
        let any = |place: &Place| Place {
            ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            ..place.clone()
        };
        let first = Peer::start(1, &places[0], &[]);
        let second = Peer::start(2, &places[1], &[first.address()]);
        let known = [first.address(), second.address()];
        let victim = Peer::start(VICTIM, &any(&places[2]), &known);
        let [.., place] = places;
        let trio = Self {
            lab,
            place,
            peers: [first, second, victim],
        };
        trio.all_hear();
        Some(trio)
    }

    fn victim(&self) -> &Peer {
        &self.peers[2]
    }

    fn log(&self) -> String {
        self.peers.iter().map(Peer::log).collect()
    }

    /// Messages of the interrupted peer that the others have heard, and theirs that it has heard.
    fn heard(&self) -> [usize; 4] {
        [(0, VICTIM), (1, VICTIM), (2, 1), (2, 2)].map(|(listener, speaker)| {
            let line = format!("heard {speaker}");
            let lines = self.peers[listener].lines();
            lines.iter().filter(|(_, other)| *other == line).count()
        })
    }

    /// Waits until new messages arrive in all directions.
    fn all_hear(&self) {
        let before = self.heard();
        // The first ones may be older.
        let all = || {
            let now = self.heard();
            now.iter()
                .zip(before)
                .all(|(now, before)| *now >= before + 3)
        };
        wait_for("messages from all to all", PATIENCE, all, || self.log());
    }

    /// Waits until the others have lost the interrupted peer.
    fn is_lost(&self) {
        let lost = format!("was direct {}", self.victim().key());
        for peer in &self.peers[..2] {
            peer.wait_for(&lost, PATIENCE, || self.log());
        }
    }

    /// Waits until the interrupted peer hears, is heard, and exchanges blobs.
    fn is_back(&self) {
        self.all_hear();
        self.peers[0].fetch(VICTIM);
        self.victim().fetch(2);
        self.peers[0].wait_for("fetched 3", PATIENCE, || self.log());
        self.victim().wait_for("fetched 2", PATIENCE, || self.log());
    }
}

#[test]
fn a_peer_whose_address_changes_comes_back() {
    let Some(mut trio) = Trio::start("a") else {
        return;
    };
    trio.lab.change_address(&mut trio.place);
    trio.is_back();
}

#[test]
fn a_peer_that_slept_comes_back() {
    let Some(trio) = Trio::start("s") else {
        return;
    };
    trio.victim().signal("-STOP");
    trio.is_lost();
    trio.victim().signal("-CONT");
    trio.is_back();
}

#[test]
fn a_peer_whose_interface_was_down_comes_back() {
    let Some(trio) = Trio::start("i") else {
        return;
    };
    trio.place.unplug();
    trio.is_lost();
    trio.place.plug_in();
    trio.is_back();
}
