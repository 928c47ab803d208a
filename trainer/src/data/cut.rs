//! Cuts long texts where their content says, so that a copy with another beginning is cut at the
//! same places (content-defined chunking).

use std::ops::Range;

/// How far to look for the end of a line.
const LINE: usize = 4 << 10;

/// Where to cut. Lengths are in bytes; white space does not count for `least`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cutter {
    /// A text of up to this many bytes, or the rest of one, stays whole.
    pub whole: usize,
    /// The least length of a piece.
    pub least: usize,
    /// A piece is longer than `least` by 2 to the power of `bits` on average.
    pub bits: u32,
    /// The greatest length of a piece, a line's end not included.
    pub most: usize,
}

impl Cutter {
    /// Pieces of books: of 256 KiB at least, and 384 KiB on average.
    pub(crate) const LONG: Self = Self {
        whole: 512 << 10,
        least: 256 << 10,
        bits: 17,
        most: 1 << 20,
    };
    /// The longest piece of [`Self::LONG`], with the end of its line.
    pub(crate) const LONGEST: usize = Self::LONG.most + LINE;

    /// Small pieces, of `least` bytes at least.
    pub(crate) fn small(least: usize) -> Self {
        let least = least.max(1);
        Self {
            whole: least,
            least,
            bits: (least / 2).max(1).ilog2(),
            most: 4 * least,
        }
    }

    /// The pieces of a text.
    pub(crate) fn pieces(self, text: &[u8]) -> impl Iterator<Item = Range<usize>> {
        let mut start = 0;
        std::iter::from_fn(move || {
            let rest = text.get(start..).filter(|rest| !rest.is_empty())?;
            let length = if rest.len() <= self.whole {
                rest.len()
            } else {
                self.first(rest)
            };
            let piece = start..start + length;
            start = piece.end;
            Some(piece)
        })
    }

    /// The length of a text's first piece. What follows the piece does not matter.
    pub(crate) fn first(self, text: &[u8]) -> usize {
        let (mut hash, mut counted) = (0u64, 0);
        for (position, byte) in text.iter().take(self.most).enumerate() {
            if byte.is_ascii_whitespace() {
                continue;
            }
            hash = (hash << 1).wrapping_add(GEAR[usize::from(*byte)]);
            counted += 1;
            if counted >= self.least && hash >> (64 - self.bits.clamp(1, 63)) == 0 {
                return line_end(text, position + 1);
            }
        }
        line_end(text, self.most.min(text.len()))
    }
}

/// The end of the line at `from` if it is near, else the start of the next character.
fn line_end(text: &[u8], from: usize) -> usize {
    let near = text.get(from..).unwrap_or_default();
    match memchr::memchr(b'\n', &near[..near.len().min(LINE)]) {
        Some(position) => from + position + 1,
        None => character_start(text, from),
    }
}

/// The first character boundary at or after `from`.
pub(crate) fn character_start(text: &[u8], from: usize) -> usize {
    let inside = |byte: &&u8| **byte & 0b1100_0000 == 0b1000_0000;
    from + text[from..].iter().take(3).take_while(inside).count()
}

/// A random number for each byte (SplitMix64).
const GEAR: [u64; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut z = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        table[index] = z ^ (z >> 31);
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn book(lines: usize) -> Vec<u8> {
        (0..lines)
            .flat_map(|line| format!("line {line} of a book, {}\n", line * line % 977).into_bytes())
            .collect()
    }

    fn pieces(text: &[u8], cutter: Cutter) -> Vec<Vec<u8>> {
        cutter
            .pieces(text)
            .map(|range| text[range].to_vec())
            .collect()
    }

    #[test]
    fn pieces_are_whole_lines_and_nothing_is_lost() {
        for cutter in [Cutter::LONG, Cutter::small(1000)] {
            let text = book(200_000);
            let pieces = pieces(&text, cutter);
            assert_eq!(pieces.concat(), text);
            assert!(pieces.iter().all(|piece| piece.ends_with(b"\n")));
            for piece in &pieces[..pieces.len() - 1] {
                assert!(piece.len() >= cutter.least && piece.len() <= cutter.most + LINE);
            }
            let mean = text.len() / pieces.len();
            assert!((cutter.least..3 * cutter.least).contains(&mean), "{mean}");
        }
    }

    #[test]
    fn a_copy_with_another_beginning_or_other_line_ends_is_cut_at_the_same_places() {
        let text = book(200_000);
        let longer = [b"A preface\nof two lines.\n".as_slice(), &text].concat();
        let windows = String::from_utf8(text.clone())
            .unwrap()
            .replace('\n', "\r\n");
        let unix = |text: &[u8]| String::from_utf8(text.to_vec()).unwrap().replace('\r', "");
        let original: BTreeSet<String> = pieces(&text, Cutter::LONG)
            .iter()
            .map(|p| unix(p))
            .collect();
        for copy in [longer.as_slice(), windows.as_bytes()] {
            let copied: BTreeSet<String> =
                pieces(copy, Cutter::LONG).iter().map(|p| unix(p)).collect();
            let same = copied.intersection(&original).count();
            assert!(same + 3 >= original.len(), "{same} of {}", original.len());
        }
    }

    #[test]
    fn a_character_is_never_split() {
        let text = "世".repeat(900_000);
        for cutter in [Cutter::LONG, Cutter::small(100)] {
            for piece in cutter.pieces(text.as_bytes()) {
                assert!(text.is_char_boundary(piece.start) && text.is_char_boundary(piece.end));
            }
        }
    }

    #[test]
    fn a_piece_does_not_depend_on_what_follows() {
        let text = book(100_000);
        let length = Cutter::LONG.first(&text);
        assert_eq!(Cutter::LONG.first(&text[..length]), length);
        assert!(Cutter::small(0).pieces(b"abc").count() > 0);
        assert_eq!(Cutter::LONG.first(b"abc"), 3);
    }
}
