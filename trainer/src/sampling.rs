//! Which window of the training text is a peer's i-th sample: a pure function of decided rounds, so
//! no coordinator assigns samples, and every peer can check another's.
//!
//! The text is cut into windows, one after the other. In each epoch they begin a little later than
//! in the one before, and come in another order. Decided rounds deal *positions* of this endless
//! sequence to peers, each once. A newcomer, to whom nothing is dealt yet, draws its own positions.

use std::ops::Range;

use crate::permutation::Permutation;

/// Domain separation from every other use of BLAKE3.
const EPOCH: &str = "commonweal epoch v1";
const NEWCOMER: &[u8] = b"commonweal newcomer v1";
const DRAW: &[u8] = b"commonweal sample v1";

/// The samples that a round assigns to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The run's id, which decides the order of the windows.
    pub run: [u8; 32],
    /// The round's seed, the same for every peer.
    pub seed: [u8; 32],
    /// The peer's public key.
    pub peer: [u8; 32],
    /// The positions dealt to the peer, in the order in which it takes them.
    pub spans: Vec<Range<u64>>,
    /// The first position that is dealt to nobody yet.
    pub ahead: u64,
}

impl Assignment {
    /// The samples of a peer to which nothing is dealt, in a run that is just beginning.
    pub const fn newcomer(seed: [u8; 32], peer: [u8; 32]) -> Self {
        Self {
            run: [0; 32],
            seed,
            peer,
            spans: Vec::new(),
            ahead: 0,
        }
    }

    /// The token at which the peer's sample number `index` begins.
    ///
    /// The first samples are the positions dealt to the peer. All further ones, and all of a
    /// newcomer, are drawn without replacement from positions that are dealt to nobody yet: the
    /// rest of the epoch, or the next epoch if less than half is left. Other peers will train on
    /// these once the epoch gets there.
    pub fn start(&self, index: u64, windows: &Windows) -> u64 {
        let mut passed = 0;
        for span in &self.spans {
            let length = span.end.saturating_sub(span.start);
            if index - passed < length {
                return windows.start(&self.run, span.start + (index - passed));
            }
            passed += length;
        }
        windows.start(&self.run, self.drawn(index - passed, windows.count()))
    }

    /// A newcomer's position number `index`.
    fn drawn(&self, index: u64, count: u64) -> u64 {
        let done = self.ahead % count;
        let (first, left) = if done <= count / 2 {
            (self.ahead, count - done)
        } else {
            (self.ahead.saturating_add(count - done), count)
        };
        let mut hasher = blake3::Hasher::new_keyed(&self.seed);
        let key = hasher.update(NEWCOMER).update(&self.peer).finalize();
        first.saturating_add(Permutation::new(key.into(), left).apply(index))
    }
}

/// The windows of a text: sequences of `context` predicted tokens, epoch after epoch.
///
/// A window follows where the one before it ended. An epoch has [`count`](Self::count) windows and
/// goes through all of them once; less than two windows' worth of tokens at the ends of the text
/// belongs to none. Where the first window begins changes with the epoch, so other tokens are left
/// out each time, and no token always stands at the start of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    context: u64,
    count: u64,
    /// The first window begins at a token below this.
    offsets: u64,
}

impl Windows {
    /// The windows of a text with this many tokens. A text that is shorter than a window counts as
    /// one window, which cannot be read.
    pub fn new(tokens: u64, context: u64) -> Self {
        let context = context.max(1);
        let count = (tokens.saturating_sub(context) / context).max(1);
        let offsets = tokens.saturating_sub(count * context).clamp(1, context);
        Self {
            context,
            count,
            offsets,
        }
    }

    /// Windows of an epoch.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The token at which the window at `position` of a run's endless sequence begins.
    pub fn start(&self, run: &[u8; 32], position: u64) -> u64 {
        let epoch = position / self.count;
        let mut hasher = blake3::Hasher::new_derive_key(EPOCH);
        let mut stream = hasher
            .update(run)
            .update(&epoch.to_le_bytes())
            .finalize_xof();
        let (mut key, mut draw) = ([0; 32], [0; 8]);
        stream.fill(&mut key);
        stream.fill(&mut draw);
        let offset = (u128::from(u64::from_le_bytes(draw)) * u128::from(self.offsets)) >> 64;
        let window = Permutation::new(key, self.count).apply(position % self.count);
        offset as u64 + window * self.context
    }
}

/// Number `index` of a stream of uniform draws below `bound`, with replacement. Returns 0 if
/// `bound` is 0.
///
/// Without bias: a 64-bit draw from keyed BLAKE3 is scaled by a 128-bit multiplication, and the few
/// draws that would favour some numbers are rejected (Lemire, 2019,
/// <https://arxiv.org/abs/1805.10941>).
pub(crate) fn uniform(seed: &[u8; 32], index: u64, bound: u64) -> u64 {
    let mut hasher = blake3::Hasher::new_keyed(seed);
    hasher.update(DRAW).update(&index.to_le_bytes());
    let mut stream = hasher.finalize_xof();
    let rejected = bound.wrapping_neg().checked_rem(bound).unwrap_or(0);
    loop {
        let mut draw = [0; 8];
        stream.fill(&mut draw);
        let product = u128::from(u64::from_le_bytes(draw)) * u128::from(bound);
        if product as u64 >= rejected {
            return (product >> 64) as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn dealt(spans: Vec<Range<u64>>) -> Assignment {
        let ahead = spans.iter().map(|span| span.end).max().unwrap_or(0);
        Assignment {
            spans,
            ahead,
            ..Assignment::newcomer([1; 32], [2; 32])
        }
    }

    #[test]
    fn the_samples_are_the_same_on_every_machine() {
        let windows = Windows::new(1_000_000, 100);
        let starts = |assignment: &Assignment| -> Vec<u64> {
            (0..4).map(|n| assignment.start(n, &windows)).collect()
        };
        assert_eq!(
            starts(&dealt(vec![5..7, 9..99])),
            [52_959, 340_359, 593_559, 797_259]
        );
        assert_eq!(
            starts(&dealt(Vec::new())),
            [166_859, 259_959, 893_059, 859_959]
        );
    }

    #[test]
    fn an_epoch_goes_through_every_window_once() {
        for (tokens, context) in [
            (33, 32),
            (40, 32),
            (64, 32),
            (65, 32),
            (1000, 7),
            (4096, 64),
        ] {
            let windows = Windows::new(tokens, context);
            let mut offsets = BTreeSet::new();
            for epoch in 0..20 {
                let first = epoch * windows.count();
                let starts: BTreeSet<u64> = (first..first + windows.count())
                    .map(|position| windows.start(&[9; 32], position))
                    .collect();
                let rest = starts.first().unwrap() % context;
                assert_eq!(starts.len() as u64, windows.count());
                assert!(starts.iter().all(|start| start % context == rest));
                // A window needs the token after its last one, too.
                assert!(
                    starts.last().unwrap() + context < tokens,
                    "{tokens} {context}"
                );
                assert!(windows.count() * context + 2 * context > tokens);
                offsets.insert(rest);
            }
            assert!(offsets.len() > 1 || tokens == context + 1);
        }
    }

    #[test]
    fn a_text_that_is_too_short_has_one_window() {
        for tokens in 0..4 {
            let windows = Windows::new(tokens, 5);
            assert_eq!((windows.count(), windows.start(&[0; 32], 7)), (1, 0));
        }
        Windows::new(0, 0).start(&[0; 32], u64::MAX);
    }

    /// Peers of unlike speed share an epoch, with shares as a run deals them.
    #[test]
    fn unlike_peers_share_an_epoch_and_see_every_window_once() {
        let windows = Windows::new(10_000, 8);
        let mut seen = BTreeMap::new();
        let (mut first, mut trained) = (0, 0);
        while first < windows.count() {
            for (number, samples) in [(0, 3), (1, 11), (2, 40)] {
                let share = dealt(vec![first..first + samples]);
                first += samples;
                for index in 0..samples {
                    let position = share.spans[0].start + index;
                    if position < windows.count() {
                        *seen.entry(share.start(index, &windows)).or_insert(0) += 1;
                        trained += 1;
                    }
                }
                assert!(number < 3);
            }
        }
        assert_eq!(
            (seen.len() as u64, trained),
            (windows.count(), windows.count())
        );
        assert!(seen.values().all(|times| *times == 1));
    }

    #[test]
    fn newcomers_draw_without_replacement_from_what_is_ahead() {
        let windows = Windows::new(10_000, 8);
        let behind: BTreeSet<u64> = (0..300).map(|n| windows.start(&[0; 32], n)).collect();
        let newcomer = |peer| Assignment {
            ahead: 300,
            ..Assignment::newcomer([1; 32], [peer; 32])
        };
        let drawn = |peer| -> BTreeSet<u64> {
            (0..100)
                .map(|index| newcomer(peer).start(index, &windows))
                .collect()
        };
        assert_eq!(drawn(1).len(), 100);
        assert!(drawn(1).is_disjoint(&behind));
        assert_ne!(drawn(1), drawn(2));
        // Near the end of an epoch, a newcomer draws from the next one.
        let late = Assignment {
            ahead: windows.count() - 1,
            ..newcomer(1)
        };
        let positions: BTreeSet<u64> = (0..100).map(|n| late.drawn(n, windows.count())).collect();
        assert_eq!(positions.len(), 100);
        assert!(
            positions
                .iter()
                .all(|position| *position >= windows.count())
        );
    }

    #[test]
    fn a_peer_that_needs_more_than_its_share_draws_like_a_newcomer() {
        let windows = Windows::new(10_000, 8);
        let mut short = dealt(vec![5..7]);
        let beyond = short.start(2, &windows);
        short.spans.clear();
        assert_eq!(short.start(0, &windows), beyond);
    }

    #[test]
    fn uniform_draws_are_the_same_on_every_machine_and_about_equally_frequent() {
        let mut counts = [0u32; 7];
        for index in 0..70_000 {
            counts[uniform(&[1; 32], index, 7) as usize] += 1;
        }
        assert!(
            counts.iter().all(|count| count.abs_diff(10_000) < 400),
            "{counts:?}"
        );
        assert_eq!((uniform(&[1; 32], 5, 1), uniform(&[1; 32], 5, 0)), (0, 0));
    }
}
