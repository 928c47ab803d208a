//! Who learns from a text, and who is measured on it: its hash decides.

use std::ops::Range;

/// A text of up to this many bytes lies on one side as a whole.
pub(super) const WHOLE_BYTES: usize = 64 << 10;
/// A longer one is dealt in sections of about this many bytes, each ending with a line where it
/// can.
const SECTION_BYTES: usize = 4 << 10;

/// What a text is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Training,
    Heldout,
}

/// Consecutive bytes of a text that lie on one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub range: Range<usize>,
    pub side: Side,
}

/// Divides a text between the sides, so that about `heldout_ppm` of a million bytes are held out.
///
/// The same text falls on the same side wherever it stands, so that a copy of what is held out is
/// never trained on. A text longer than [`WHOLE_BYTES`], or a `part` of one, is dealt section by
/// section; neighbours on one side stay together.
pub(super) fn deal(text: &[u8], part: bool, heldout_ppm: u32) -> Vec<Section> {
    if !part && text.len() <= WHOLE_BYTES {
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
/// comes soon, else between two characters.
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

/// The first place from `from` on that is not inside a character.
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
    fn a_short_text_lies_on_one_side_and_always_on_the_same() {
        let texts: Vec<String> = (0..2000)
            .map(|number| format!("text number {number}"))
            .collect();
        let heldout = texts
            .iter()
            .filter(|text| deal(text.as_bytes(), false, 100_000)[0].side == Side::Heldout)
            .count();
        assert!((150..250).contains(&heldout), "{heldout}");
        assert!(
            texts
                .iter()
                .all(|text| deal(text.as_bytes(), false, 100_000)
                    == deal(text.as_bytes(), false, 100_000))
        );
    }

    #[test]
    fn a_long_text_is_dealt_by_sections_and_nothing_is_lost() {
        let text = book(50_000);
        let sections = deal(&text, false, 100_000);
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
    fn more_held_out_holds_out_all_of_what_less_does() {
        let text = book(20_000);
        let (few, many) = (deal(&text, false, 20_000), deal(&text, false, 200_000));
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
    fn a_character_is_never_cut_in_two() {
        let text = "世".repeat(40_000);
        for section in deal(text.as_bytes(), false, 500_000) {
            assert!(
                text.is_char_boundary(section.range.start)
                    && text.is_char_boundary(section.range.end)
            );
        }
    }

    #[test]
    fn none_or_all_can_be_held_out() {
        let text = book(10_000);
        assert_eq!(heldout_bytes(&deal(&text, true, 0)), 0);
        assert_eq!(heldout_bytes(&deal(&text, true, 1_000_000)), text.len());
    }
}
