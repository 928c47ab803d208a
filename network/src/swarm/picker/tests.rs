//! Any order of events keeps to the limits, and once they calm down every blob arrives.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::swarm::frame::Priority;
use crate::swarm::limits::{ARRIVALS_PER_PEER, GIFTS_PER_PEER};

const NODES: usize = 4;

/// A few pickers, the frames between them, and the pieces on their way.
struct Net {
    now: Instant,
    outline: Arc<Outline>,
    pickers: Vec<Picker>,
    frames: VecDeque<(usize, usize, Frame)>,
    /// Sender, gift, and whether the receiver has accepted it.
    gifts: Vec<(usize, Gift, bool)>,
    here: Vec<BTreeSet<u32>>,
    done: Vec<bool>,
}

impl Net {
    fn new(pieces: u64, seed: u64) -> Self {
        let outline = Outline {
            bytes: pieces << 20,
            chunks: (0..pieces).map(|piece| [piece as u8; 32]).collect(),
        };
        let members = Arc::new(Members::default());
        let pickers = (0..NODES as u64).map(|node| Picker::new(Arc::clone(&members), seed ^ node));
        let mut net = Self {
            now: Instant::now(),
            outline: Arc::new(outline),
            pickers: pickers.collect(),
            frames: VecDeque::new(),
            gifts: Vec::new(),
            here: vec![BTreeSet::new(); NODES],
            done: vec![false; NODES],
        };
        for (node, other) in pairs() {
            net.pickers[node].connected([other as u8; 32], net.now);
        }
        for node in 1..NODES {
            let order = Order {
                blob: net.outline.hash(),
                priority: Priority::State,
                max_bytes: net.outline.bytes,
                patience: Duration::from_secs(100_000),
            };
            net.pickers[node].want(order, net.now);
            net.act(node);
        }
        net
    }

    fn act(&mut self, node: usize) {
        loop {
            let actions = self.pickers[node].actions();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                self.carry_out(node, action);
            }
        }
    }

    fn carry_out(&mut self, node: usize, action: Action) {
        let picker = &mut self.pickers[node];
        match action {
            Action::Send { to, frame } => {
                let bytes = frame.encode();
                let frame = Frame::decode(&bytes).unwrap();
                self.frames.push_back((node, to[0] as usize, frame));
            }
            Action::Give(gift) => {
                assert!(node == 0 || self.here[node].contains(&gift.piece));
                self.gifts.push((node, gift, false));
                let same =
                    |(from, other, _): &&(usize, Gift, bool)| *from == node && other.to == gift.to;
                assert!(self.gifts.iter().filter(same).count() <= GIFTS_PER_PEER + 2);
            }
            Action::StopTaking { from, piece, .. } => self.end(from[0] as usize, node, piece),
            Action::LookUp { blob } => {
                let found = (node == 0).then(|| Arc::clone(&self.outline));
                picker.looked_up(&blob, found.into(), self.now);
            }
            Action::Prepare { blob, outline } => {
                let none = Bits::none(outline.chunks.len() as u32);
                picker.prepared(&blob, none, self.now);
            }
            Action::Done { blob } => {
                assert_eq!(self.here[node].len(), self.outline.chunks.len());
                assert!(!std::mem::replace(&mut self.done[node], true), "done twice");
                picker.end(&blob, self.now);
            }
            Action::Failed { error, .. } => panic!("{error}"),
            Action::Blame { offence, .. } => panic!("{offence:?}"),
        }
    }

    /// The receiver stops taking a piece.
    fn end(&mut self, from: usize, to: usize, piece: u32) {
        let to = [to as u8; 32];
        let same = |(node, gift, begun): &(usize, Gift, bool)| {
            *begun && *node == from && gift.to == to && gift.piece == piece
        };
        if let Some(place) = self.gifts.iter().position(same) {
            self.fails(place);
        }
    }

    /// A sender learns that its piece did not arrive.
    fn fails(&mut self, place: usize) {
        let (from, gift, _) = self.gifts.swap_remove(place);
        self.pickers[from].given(gift.id, false, self.now);
        self.act(from);
    }

    fn deliver(&mut self) {
        if let Some((from, to, frame)) = self.frames.pop_front() {
            self.pickers[to].heard([from as u8; 32], frame, self.now);
            self.act(to);
        }
    }

    /// A gift begins, or ends if it has begun.
    fn advance(&mut self, place: usize, succeeds: bool) {
        let Some((from, gift, begun)) = self.gifts.get(place).copied() else {
            return;
        };
        let (to, sender) = (gift.to[0] as usize, [from as u8; 32]);
        if !begun {
            let taken = self.pickers[to].begun(sender, &gift.blob, gift.piece, self.now);
            if taken.is_some() {
                self.gifts[place].2 = true;
                self.act(to);
                let arrivals = |(from, other, begun): &&(usize, Gift, bool)| {
                    [*from as u8; 32] == sender && other.to == gift.to && *begun
                };
                assert!(self.gifts.iter().filter(arrivals).count() <= ARRIVALS_PER_PEER);
            } else {
                self.fails(place);
            }
            return;
        }
        self.gifts.swap_remove(place);
        let how = if succeeds {
            self.here[to].insert(gift.piece);
            Arrived::Stored
        } else {
            Arrived::Failed
        };
        self.pickers[to].ended(sender, (&gift.blob, gift.piece), how, self.now);
        self.act(to);
        self.pickers[from].given(gift.id, succeeds, self.now);
        self.act(from);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        for node in 0..NODES {
            self.pickers[node].tick(self.now);
            self.act(node);
        }
    }

    /// Two nodes lose each other, and meet again.
    fn reconnect(&mut self, one: usize, other: usize) {
        for (from, to) in [(one, other), (other, one)] {
            self.frames.retain(|(a, b, _)| (*a, *b) != (from, to));
            self.pickers[from].disconnected(&[to as u8; 32]);
        }
        let broken: Vec<_> = self
            .gifts
            .extract_if(.., |(from, gift, _)| {
                let to = gift.to[0] as usize;
                (*from, to) == (one, other) || (*from, to) == (other, one)
            })
            .collect();
        for (from, gift, _) in broken {
            let to = gift.to[0] as usize;
            let sender = [from as u8; 32];
            let how = Arrived::Failed;
            self.pickers[to].ended(sender, (&gift.blob, gift.piece), how, self.now);
            self.act(to);
            self.pickers[from].given(gift.id, false, self.now);
            self.act(from);
        }
        for (from, to) in [(one, other), (other, one)] {
            self.pickers[from].connected([to as u8; 32], self.now);
            self.act(from);
        }
    }
}

fn pairs() -> impl Iterator<Item = (usize, usize)> {
    let all = (0..NODES).flat_map(|node| (0..NODES).map(move |other| (node, other)));
    all.filter(|(node, other)| node != other)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_blob_arrives_in_the_end(
        pieces in 0u64..20,
        seed: u64,
        events in prop::collection::vec((0u8..12, any::<u8>()), 0..300),
    ) {
        let mut net = Net::new(pieces, seed);
        for (event, which) in events {
            let place = usize::from(which) % net.gifts.len().max(1);
            match event {
                0..5 => net.deliver(),
                5..9 => net.advance(place, true),
                9 => net.advance(place, false),
                10 => net.pass(Duration::from_millis(u64::from(which) * 20)),
                _ => {
                    let (one, other) = pairs().nth(usize::from(which) % 12).unwrap();
                    net.reconnect(one, other);
                }
            }
        }
        for _ in 0..5_000 {
            while !net.frames.is_empty() {
                net.deliver();
            }
            net.advance(0, true);
            net.pass(Duration::from_millis(200));
        }
        prop_assert!(net.done[1..].iter().all(|done| *done), "{:?}", net.done);
    }
}
