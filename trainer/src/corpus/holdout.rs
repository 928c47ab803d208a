//! Which part of a run's text files is held out.

use std::collections::BTreeMap;

use crate::data::{character_start, fingerprint};

/// A tenth of the text is held out.
const SHARE: u64 = 10;

/// For each text, the byte from which on it is held out: 0 for all of it, its length for none.
///
/// Whole texts are held out if that comes to between a twentieth and a fifth of all text: those
/// with the lowest fingerprints, so that texts that look alike are on the same side. Otherwise, as
/// for a single text, the last tenth of each is held out, without splitting a character.
pub(super) fn heldout_from(texts: &[Vec<u8>]) -> Vec<usize> {
    let mut alike: BTreeMap<u64, u64> = BTreeMap::new();
    let prints: Vec<u64> = texts.iter().map(|text| fingerprint(text)).collect();
    for (print, text) in prints.iter().zip(texts) {
        *alike.entry(*print).or_default() += text.len() as u64;
    }
    let all: u64 = alike.values().sum();
    let (mut chosen, mut bytes) = (Vec::new(), 0);
    for (print, of_these) in &alike {
        if bytes < all / SHARE && bytes + of_these <= all * 2 / SHARE {
            bytes += of_these;
            chosen.push(*print);
        }
    }
    let whole = bytes > 0 && bytes >= all / SHARE / 2;
    let from = |(print, text): (&u64, &Vec<u8>)| match (whole, chosen.contains(print)) {
        (true, true) => 0,
        (true, false) => text.len(),
        (false, _) => character_start(text, text.len() - text.len() / SHARE as usize),
    };
    prints.iter().zip(texts).map(from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(count: usize) -> Vec<Vec<u8>> {
        (0..count)
            .map(|number| format!("text {number}\n").repeat(50).into_bytes())
            .collect()
    }

    #[test]
    fn of_many_texts_whole_ones_are_held_out_and_copies_with_them() {
        let mut texts = numbered(60);
        let copies = texts.iter().map(|text| {
            let copy = String::from_utf8(text.clone()).unwrap();
            copy.replace('\n', "\r\n").into_bytes()
        });
        texts = texts.iter().cloned().chain(copies).collect();
        let from = heldout_from(&texts);
        let side = |index: usize| (from[index] == 0, from[index] == texts[index].len());
        for index in 0..60 {
            assert_eq!(side(index), side(index + 60), "{index}");
            assert!(side(index).0 != side(index).1);
        }
        let bytes: usize = (0..120).map(|index| texts[index].len() - from[index]).sum();
        let all: usize = texts.iter().map(Vec::len).sum();
        assert!((all / 20..all / 5).contains(&bytes), "{bytes} of {all}");
    }

    #[test]
    fn of_one_or_two_texts_the_last_tenth_is_held_out() {
        for count in [1, 2] {
            let texts = numbered(count);
            for (from, text) in heldout_from(&texts).iter().zip(&texts) {
                assert_eq!(*from, text.len() - text.len() / 10);
            }
        }
        assert!(heldout_from(&[]).is_empty());
    }

    #[test]
    fn a_character_is_never_split() {
        for length in 10..40 {
            let text: String = std::iter::repeat_n('世', length).collect();
            let from = heldout_from(&[text.clone().into_bytes()])[0];
            assert!(text.is_char_boundary(from));
        }
    }
}
