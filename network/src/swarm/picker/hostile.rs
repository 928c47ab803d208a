//! Peers that take more than their share.

use std::time::Duration;

use super::*;
use crate::swarm::frame::Priority;
use crate::swarm::limits::{ARRIVALS_PER_PEER, GIFTS_PER_PEER};

const PIECES: u32 = 40;

fn outline() -> Arc<Outline> {
    let chunks = (0..PIECES).map(|piece| [piece as u8; 32]).collect();
    let bytes = u64::from(PIECES) << 20;
    Arc::new(Outline { bytes, chunks })
}

/// A picker to which everyone is a stranger.
fn picker() -> Picker {
    let members = Arc::new(Members::default());
    members.set([]);
    Picker::new(members, 1)
}

fn tell(picker: &mut Picker, from: PeerKey, body: Body, now: Instant) {
    let blob = outline().hash();
    picker.heard(from, Frame { blob, body }, now);
}

#[test]
fn peers_that_drip_on_every_place_make_room_for_others() {
    let (mut picker, start, outline) = (picker(), Instant::now(), outline());
    let blob = outline.hash();
    let drips = (ARRIVALS_FROM_STRANGERS / ARRIVALS_PER_PEER) as u8;
    let honest = [drips; 32];
    for peer in 0..=drips {
        picker.connected([peer; 32], start);
    }
    let order = Order {
        blob,
        priority: Priority::State,
        max_bytes: outline.bytes,
        patience: Duration::from_secs(60),
    };
    picker.want(order, start);
    for peer in 0..=drips {
        let copy = outline.as_ref().clone();
        tell(&mut picker, [peer; 32], Body::Outline(copy), start);
        tell(&mut picker, [peer; 32], Body::Here, start);
    }
    picker.prepared(&blob, Bits::none(PIECES), start);
    let mut pieces = 0..;
    for drip in 0..drips {
        for _ in 0..ARRIVALS_PER_PEER {
            let piece = pieces.next().unwrap();
            assert!(picker.begun([drip; 32], &blob, piece, start).is_some());
        }
        assert!(picker.begun([drip; 32], &blob, 39, start).is_none());
    }
    assert!(picker.begun(honest, &blob, 38, start).is_none(), "full");

    let later = start + Duration::from_secs(10);
    picker.tick(later);
    picker.actions();
    assert!(picker.begun(honest, &blob, 38, later).is_some());
    let stopped =
        |action: &Action| matches!(action, Action::StopTaking { from, .. } if *from != honest);
    assert!(picker.actions().iter().any(stopped));
    assert!(
        picker.begun([0; 32], &blob, 39, later).is_none(),
        "it rests"
    );
}

#[test]
fn a_peer_that_begins_anew_gets_no_more_at_once() {
    let (mut picker, mut now, peer) = (picker(), Instant::now(), [1; 32]);
    let blob = outline().hash();
    picker.connected(peer, now);
    let mut gifts = 0;
    for _ in 0..5 {
        picker.restarted(&peer);
        tell(&mut picker, peer, Body::Ask { outline: false }, now);
        picker.looked_up(&blob, Found::Here(outline()), now);
        let (priority, pieces) = (Priority::Apply, Bits::all(PIECES));
        tell(&mut picker, peer, Body::Want { priority, pieces }, now);
        let actions = picker.actions();
        gifts += actions
            .iter()
            .filter(|action| matches!(action, Action::Give(_)))
            .count();
        // The gifts are so slow that they no longer count for the window.
        now += Duration::from_secs(60);
    }
    assert_eq!(gifts, GIFTS_PER_PEER);
}

/// A swarm of peers that want a blob of this node. Each takes this long for a piece.
struct Clients {
    picker: Picker,
    now: Instant,
    peers: Vec<(PeerKey, Duration)>,
    /// Gifts on their way, by when they arrive.
    gifts: Vec<(Instant, Gift)>,
    /// Pieces that arrived at each.
    arrived: BTreeMap<PeerKey, usize>,
}

impl Clients {
    /// `members` members that read at once, and hostile peers that take this long for a piece.
    fn new(members: u8, hostile: u8, (hostile_are, takes): (Standing, Duration)) -> Self {
        let mut peers: Vec<_> = (0..members)
            .map(|peer| ([peer; 32], Duration::from_millis(400)))
            .collect();
        peers.extend((0..hostile).map(|peer| ([100 + peer; 32], takes)));
        let known = Arc::new(Members::default());
        let is_member = |peer: &PeerKey| peer[0] < 100 || hostile_are == Standing::Member;
        let keys = peers.iter().map(|(peer, _)| *peer);
        known.set(keys.filter(is_member));
        let mut clients = Self {
            picker: Picker::new(known, 7),
            now: Instant::now(),
            peers,
            gifts: Vec::new(),
            arrived: BTreeMap::new(),
        };
        for (peer, _) in clients.peers.clone() {
            clients.picker.connected(peer, clients.now);
        }
        clients.want_all();
        clients
    }

    /// Every peer wants every piece, as if it were another blob each time.
    fn want_all(&mut self) {
        let (blob, now) = (outline().hash(), self.now);
        for (peer, _) in &self.peers {
            tell(&mut self.picker, *peer, Body::Ask { outline: false }, now);
            self.picker.looked_up(&blob, Found::Here(outline()), now);
            let (priority, pieces) = (Priority::Apply, Bits::all(PIECES));
            tell(
                &mut self.picker,
                *peer,
                Body::Want { priority, pieces },
                now,
            );
        }
    }

    /// Lets this time pass. Two pieces fit through the uplink at once.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            for action in self.picker.actions() {
                if let Action::Give(gift) = action {
                    let (_, takes) = self
                        .peers
                        .iter()
                        .find(|(peer, _)| *peer == gift.to)
                        .unwrap();
                    self.gifts.push((self.now + *takes, gift));
                }
            }
            let arrived = self.gifts.extract_if(.., |(at, _)| *at <= self.now);
            let arrived: Vec<_> = arrived.collect();
            for (_, gift) in arrived {
                *self.arrived.entry(gift.to).or_default() += 1;
                self.picker.given(gift.id, true, self.now);
            }
            self.now += Duration::from_millis(100);
            self.picker.tick(self.now);
            if self
                .now
                .saturating_duration_since(end - time)
                .as_millis()
                .is_multiple_of(10_000)
            {
                self.want_all();
            }
        }
    }

    /// Pieces that members got.
    fn members_got(&self) -> usize {
        let members = self.arrived.iter().filter(|(peer, _)| peer[0] < 100);
        members.map(|(_, pieces)| pieces).sum()
    }
}

/// What members get within ten minutes, beside hostile peers and without them.
fn beside(hostile: u8, are: Standing) -> (usize, usize) {
    let got = |hostile| {
        let slow = Duration::from_secs(600);
        let mut clients = Clients::new(4, hostile, (are, slow));
        clients.run(Duration::from_secs(600));
        clients.members_got()
    };
    (got(hostile), got(0))
}

#[test]
fn strangers_that_read_slowly_take_nothing_from_members() {
    let (beside, alone) = beside(48, Standing::Stranger);
    assert!(alone > 1000, "{alone}");
    assert!(beside * 10 >= alone * 9, "{beside} instead of {alone}");
}

#[test]
fn strangers_that_read_at_once_get_one_piece_in_ten() {
    let prompt = (Standing::Stranger, Duration::from_millis(400));
    let mut clients = Clients::new(4, 48, prompt);
    clients.run(Duration::from_secs(600));
    let members = clients.members_got();
    let strangers = clients.arrived.values().sum::<usize>() - members;
    assert!(strangers > 100, "{strangers}");
    assert!(strangers * 9 <= members, "{strangers} and {members}");
}

#[test]
fn members_that_read_slowly_hold_up_the_others_once() {
    let (beside, alone) = beside(8, Standing::Member);
    assert!(beside * 10 >= alone * 9, "{beside} instead of {alone}");
}
