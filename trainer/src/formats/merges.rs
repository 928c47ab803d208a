//! Merges of byte-pair encoding: the scores SentencePiece would give, and whether they reach every
//! token.

use std::collections::HashMap;

/// A token of more letters counts as not reached by merges: trying takes the square of its length.
const MOST_LETTERS: usize = 1024;

/// A pair merged earlier has a higher score. Tokens that no merge produces come last, since
/// llama.cpp joins any two pieces that are a token together.
pub(super) fn scores(tokens: &[String], merges: &[String]) -> Vec<f32> {
    let ranks: HashMap<String, usize> = merges
        .iter()
        .enumerate()
        .rev()
        .map(|(rank, pair)| (pair.replacen(' ', "", 1), rank))
        .collect();
    let rank = |token: &String| ranks.get(token).copied().unwrap_or(merges.len());
    tokens.iter().map(|token| -(rank(token) as f32)).collect()
}

/// Whether merging the letters of each token gives that token, so that taking a word whole and
/// merging its letters are the same.
pub(super) fn reach_every_token<'a>(
    tokens: impl Iterator<Item = &'a str>,
    merges: &[String],
) -> bool {
    let ranks: HashMap<(&str, &str), usize> = merges
        .iter()
        .enumerate()
        .rev()
        .filter_map(|(rank, pair)| Some((pair.split_once(' ')?, rank)))
        .collect();
    let mut tokens = tokens;
    tokens.all(|token| is_reached(token, &ranks))
}

fn is_reached(token: &str, ranks: &HashMap<(&str, &str), usize>) -> bool {
    // Where each part begins, and the end of the last.
    let mut bounds: Vec<usize> = token
        .char_indices()
        .map(|(start, _)| start)
        .chain([token.len()])
        .collect();
    if bounds.len() > MOST_LETTERS + 1 {
        return false;
    }
    while bounds.len() > 2 {
        let rank = |three: &[usize]| match three {
            [start, middle, end] => ranks
                .get(&(&token[*start..*middle], &token[*middle..*end]))
                .copied(),
            _ => None,
        };
        let best = bounds
            .windows(3)
            .enumerate()
            .filter_map(|(index, three)| Some((rank(three)?, index)))
            .min();
        let Some((_, index)) = best else { return false };
        bounds.remove(index + 1);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_merges_pass_by_is_found() {
        let merges: Vec<String> = ["b c", "a b", "ab c"].map(str::to_owned).into();
        let reached = |token| reach_every_token([token].into_iter(), &merges);
        assert!(reached("a") && reached("bc") && reached("ab"));
        // "b c" comes first, and no merge takes "a bc".
        assert!(!reached("abc"));
        assert!(!reached(&"a".repeat(MOST_LETTERS + 1)));
    }
}
