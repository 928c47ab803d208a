//! Splits text into a training and a held-out part, by its hash.

use std::ops::Range;

/// A text of up to this many bytes belongs to one part as a whole.
pub(super) const UNSPLIT_BYTES: usize = 64 << 10;
/// A longer text is split in sections of about this many bytes, which end with a line if possible.
const SECTION_BYTES: usize = 4 << 10;

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

/// Splits a text so that about `heldout_ppm` bytes in a million are held out.
///
/// The same text always falls on the same side, so a copy of held-out text is never trained on. A
/// text longer than [`UNSPLIT_BYTES`], or a `part` of one, is split by sections; adjacent sections
/// on one side are joined.
pub(super) fn split(text: &[u8], part: bool, heldout_ppm: u32) -> Vec<Section> {
    if !part && text.len() <= UNSPLIT_BYTES {
        return vec![Section {
            range: 0..text.len(),
            side: side(text, heldout_ppm),
        }];
    }
    let mut sections: Vec<Section> = Vec::new();
    let mut start = 0;
    while start < text.len() {
        let end = section_end(text, start);
        let side = side(&text[start..end], heldout_ppm);
        match sections.last_mut() {
            Some(last) if last.side == side => last.range.end = end,
            _ => sections.push(Section {
                range: start..end,
                side,
            }),
        }
        start = end;
    }
    sections
}

fn side(text: &[u8], heldout_ppm: u32) -> Side {
    let mut hasher = blake3::Hasher::new_derive_key("commonweal held-out v1");
    let hash = hasher.update(text).finalize();
    let draw = u64::from_le_bytes(*hash.as_bytes().first_chunk().unwrap_or(&[0; 8]));
    let share = (u128::from(draw) * 1_000_000) >> 64;
    if share < u128::from(heldout_ppm) {
        Side::Heldout
    } else {
        Side::Training
    }
}

/// Where the section that begins at `start` ends: after the first line end beyond its length if one
/// is near, else between two characters.
fn section_end(text: &[u8], start: usize) -> usize {
    let least = start + SECTION_BYTES;
    if least + SECTION_BYTES / 2 >= text.len() {
        return text.len();
    }
    let near = &text[least..(least + SECTION_BYTES).min(text.len())];
    match memchr::memchr(b'\n', near) {
        Some(position) => least + position + 1,
        None => character_start(text, least),
    }
}

/// The first character boundary at or after `from`.
pub(crate) fn character_start(text: &[u8], from: usize) -> usize {
    let inside = |byte: &&u8| **byte & 0b1100_0000 == 0b1000_0000;
    from + text[from..].iter().take(3).take_while(inside).count()
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

    #[test]
    fn a_short_text_is_always_on_the_same_side() {
        let texts: Vec<String> = (0..2000)
            .map(|number| format!("text number {number}"))
            .collect();
        let heldout = texts
            .iter()
            .filter(|text| split(text.as_bytes(), false, 100_000)[0].side == Side::Heldout)
            .count();
        assert!((150..250).contains(&heldout), "{heldout}");
        assert!(
            texts
                .iter()
                .all(|text| split(text.as_bytes(), false, 100_000)
                    == split(text.as_bytes(), false, 100_000))
        );
    }

    #[test]
    fn a_long_text_is_split_by_sections_and_nothing_is_lost() {
        let text = book(50_000);
        let sections = split(&text, false, 100_000);
        let mut end = 0;
        for section in &sections {
            assert_eq!(section.range.start, end);
            end = section.range.end;
            assert_eq!(text[end - 1], b'\n');
        }
        assert_eq!(end, text.len());
        let share = heldout_bytes(&sections) as f64 / text.len() as f64;
        assert!((0.05..0.15).contains(&share), "{share}");
        assert!(sections.windows(2).all(|pair| pair[0].side != pair[1].side));
    }

    #[test]
    fn a_larger_held_out_share_contains_the_smaller_one() {
        let text = book(20_000);
        let (few, many) = (split(&text, false, 20_000), split(&text, false, 200_000));
        for section in few.iter().filter(|section| section.side == Side::Heldout) {
            let within = |other: &&Section| {
                other.side == Side::Heldout
                    && other.range.start <= section.range.start
                    && section.range.end <= other.range.end
            };
            assert!(many.iter().any(|other| within(&other)));
        }
    }

    #[test]
    fn a_character_is_never_split() {
        let text = "世".repeat(40_000);
        for section in split(text.as_bytes(), false, 500_000) {
            assert!(
                text.is_char_boundary(section.range.start)
                    && text.is_char_boundary(section.range.end)
            );
        }
    }

    #[test]
    fn none_or_all_can_be_held_out() {
        let text = book(10_000);
        assert_eq!(heldout_bytes(&split(&text, true, 0)), 0);
        assert_eq!(heldout_bytes(&split(&text, true, 1_000_000)), text.len());
    }
}
