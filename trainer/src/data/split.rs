//! Splits text into a training and a held-out part, by its fingerprint.

use std::ops::Range;

use super::cut::Cutter;
use super::fingerprint::fingerprint;

/// The part a text belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Training,
    Heldout,
}

/// Consecutive bytes of a text that belong to one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub range: Range<usize>,
    pub side: Side,
}

/// How to split texts. Pieces that look alike are always on the same side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Split {
    pub cutter: Cutter,
    /// Pieces with a fingerprint below this are held out.
    pub bound: u128,
    /// Join adjacent pieces of a text that are on the same side.
    pub join: bool,
}

/// A piece as far as the choice of what to hold out is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Piece {
    pub fingerprint: u64,
    pub bytes: u64,
}

impl Split {
    /// Whole documents, and large pieces of very long ones: about `heldout_ppm` bytes in a million
    /// are held out.
    pub(super) fn documents(heldout_ppm: u32) -> Self {
        Self {
            cutter: Cutter::LONG,
            bound: u128::from(heldout_ppm.min(1_000_000)) * (1 << 64) / 1_000_000,
            join: false,
        }
    }

    /// Small pieces of a text of `bytes` bytes, for a text of which no whole document can be held
    /// out. The bound is still to be [chosen](Self::choose).
    pub(super) fn sections(bytes: u64, heldout_ppm: u32) -> Self {
        let share = u128::from(bytes) * u128::from(heldout_ppm.min(100_000)) / 2_000_000;
        let least = usize::try_from(share).unwrap_or(usize::MAX);
        Self {
            cutter: Cutter::small(least.clamp(64, 256 << 10)),
            bound: 0,
            join: true,
        }
    }

    /// The same split, with the pieces of the lowest fingerprints held out: at least one and at
    /// least `heldout_ppm` bytes in a million, but not all. `None` if all pieces look alike.
    pub(super) fn choose(self, mut pieces: Vec<Piece>, heldout_ppm: u32) -> Option<Self> {
        pieces.sort_unstable();
        let all: u128 = pieces.iter().map(|piece| u128::from(piece.bytes)).sum();
        let highest = pieces.last()?.fingerprint;
        let (mut chosen, mut bound) = (0, None);
        for piece in &pieces {
            let another = bound != Some(piece.fingerprint);
            let enough = chosen * 1_000_000 >= all * u128::from(heldout_ppm);
            if another && (piece.fingerprint == highest || (bound.is_some() && enough)) {
                break;
            }
            chosen += u128::from(piece.bytes);
            bound = Some(piece.fingerprint);
        }
        Some(Self {
            bound: u128::from(bound?) + 1,
            ..self
        })
    }

    /// The side of a text that stays whole whatever its length.
    pub(super) fn whole(&self, text: &[u8]) -> (Side, Piece) {
        let fingerprint = fingerprint(text);
        let side = if u128::from(fingerprint) < self.bound {
            Side::Heldout
        } else {
            Side::Training
        };
        let piece = Piece {
            fingerprint,
            bytes: text.len() as u64,
        };
        (side, piece)
    }

    /// The sections of a text, in order, and the pieces that were dealt.
    pub(super) fn apply(&self, text: &[u8]) -> (Vec<Section>, Vec<Piece>) {
        let (mut sections, mut pieces) = (Vec::<Section>::new(), Vec::new());
        for range in self.cutter.pieces(text) {
            let (side, piece) = self.whole(&text[range.clone()]);
            pieces.push(piece);
            match sections.last_mut() {
                Some(last) if self.join && last.side == side => last.range.end = range.end,
                _ => sections.push(Section { range, side }),
            }
        }
        (sections, pieces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(lines: usize) -> Vec<u8> {
        (0..lines)
            .flat_map(|line| format!("line {line} of a book\n").into_bytes())
            .collect()
    }

    fn heldout_bytes(sections: &[Section]) -> usize {
        sections
            .iter()
            .filter(|section| section.side == Side::Heldout)
            .map(|section| section.range.len())
            .sum()
    }

    fn side(text: &str, heldout_ppm: u32) -> Side {
        let (sections, _) = Split::documents(heldout_ppm).apply(text.as_bytes());
        assert_eq!(sections.len(), 1);
        sections[0].side
    }

    #[test]
    fn a_document_is_always_on_one_side_and_its_copies_with_it() {
        let texts: Vec<String> = (0..2000)
            .map(|number| format!("text number\n{number}"))
            .collect();
        let heldout = texts
            .iter()
            .filter(|text| side(text, 100_000) == Side::Heldout)
            .count();
        assert!((150..250).contains(&heldout), "{heldout}");
        for text in &texts {
            let copy = format!("{}\r\n\n", text.replace('\n', "  \n"));
            assert_eq!(side(&copy, 100_000), side(text, 100_000), "{text}");
        }
        // A document that was once divided in sections of 4 KiB.
        side(&"a line of a book\n".repeat(20_000), 500_000);
    }

    #[test]
    fn a_very_long_text_is_dealt_in_large_pieces() {
        let text = book(1_000_000);
        let (sections, pieces) = Split::documents(300_000).apply(&text);
        assert_eq!(sections.len(), pieces.len());
        let whole = &pieces[..pieces.len() - 1];
        assert!(whole.iter().all(|piece| piece.bytes >= 256 << 10));
        assert_eq!(sections.last().unwrap().range.end, text.len());
        assert!(
            sections
                .windows(2)
                .all(|pair| pair[0].range.end == pair[1].range.start)
        );
        assert!((1..text.len()).contains(&heldout_bytes(&sections)));
    }

    #[test]
    fn a_larger_held_out_share_contains_the_smaller_one() {
        for number in 0..500 {
            let text = format!("text {number}");
            if side(&text, 20_000) == Side::Heldout {
                assert_eq!(side(&text, 200_000), Side::Heldout);
            }
        }
        assert_eq!(
            (side("x", 0), side("x", 1_000_000)),
            (Side::Training, Side::Heldout)
        );
    }

    #[test]
    fn of_a_single_text_a_share_can_always_be_held_out() {
        for (lines, ppm) in [
            (2_000, 20_000),
            (2_000, 200_000),
            (2_000, 500_000),
            (12, 20_000),
            (2_000, 1),
        ] {
            let text = book(lines);
            let split = Split::sections(text.len() as u64, ppm);
            let split = split.choose(split.apply(&text).1, ppm).unwrap();
            let (sections, _) = split.apply(&text);
            let heldout = heldout_bytes(&sections) as f64 / text.len() as f64;
            let asked = f64::from(ppm) / 1e6;
            assert!(heldout > 0.0 && heldout < 1.0, "{heldout}");
            assert!(heldout >= asked * 0.8 || lines < 20, "{heldout} of {asked}");
            assert!(heldout < asked + 0.35, "{heldout} of {asked}");
            assert!(sections.windows(2).all(|pair| pair[0].side != pair[1].side));
        }
    }

    #[test]
    fn pieces_that_look_alike_cannot_be_on_both_sides() {
        let alike = vec![
            Piece {
                fingerprint: 5,
                bytes: 10
            };
            4
        ];
        assert!(
            Split::sections(40, 20_000)
                .choose(alike.clone(), 20_000)
                .is_none()
        );
        assert!(
            Split::sections(0, 20_000)
                .choose(Vec::new(), 20_000)
                .is_none()
        );
        let mut two = alike;
        two.push(Piece {
            fingerprint: 9,
            bytes: 1,
        });
        assert_eq!(
            Split::sections(41, 20_000)
                .choose(two, 20_000)
                .unwrap()
                .bound,
            6
        );
    }
}
