//! Requests become windows of tokens. Requests that begin alike share a window.

use std::ops::Range;

use crate::engine::ScoredWindow;

/// Tokens, and which of them are scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scored {
    pub tokens: Vec<u32>,
    /// Not empty, and not from the first token on.
    pub range: Range<usize>,
}

impl Scored {
    /// The tokens from `first` on, scored after those before, as far as a context of `context`
    /// tokens reaches back.
    pub(super) fn after(mut tokens: Vec<u32>, first: usize, context: usize) -> Self {
        let cut = tokens.len().saturating_sub(context + 1);
        tokens.drain(..cut);
        let range = first.saturating_sub(cut).max(1)..tokens.len();
        Self { tokens, range }
    }

    /// What the model reads: all but the last token.
    fn inputs(&self) -> &[u32] {
        self.tokens.split_last().map_or(&[], |(_, inputs)| inputs)
    }
}

/// A window, and the texts that it scores.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub window: ScoredWindow,
    /// The number of each text, and how many of the window's targets are its own, in their order.
    pub texts: Vec<(usize, usize)>,
}

/// Windows that score all `texts`. A text whose inputs are the beginning of another's needs no
/// window of its own: a model that looks backwards only scores both in one pass. So the choices
/// of a question that are one token each share one window.
pub(super) fn shared(texts: &[Scored]) -> Vec<Shared> {
    let mut order: Vec<usize> = (0..texts.len()).collect();
    // Whatever begins with a text comes right after it, so in reverse right before it.
    order.sort_by(|a, b| texts[*b].inputs().cmp(texts[*a].inputs()));
    let mut windows: Vec<Shared> = Vec::new();
    for number in order {
        let text = &texts[number];
        let begins_last = windows
            .last()
            .is_some_and(|last| last.window.tokens.starts_with(text.inputs()));
        if !begins_last {
            windows.push(Shared {
                window: ScoredWindow {
                    tokens: text.inputs().to_vec(),
                    targets: Vec::new(),
                },
                texts: Vec::new(),
            });
        }
        if let Some(shared) = windows.last_mut() {
            let scored = text.range.clone().filter_map(|place| {
                let token = text.tokens.get(place)?;
                Some((place.checked_sub(1)?, *token))
            });
            let before = shared.window.targets.len();
            shared.window.targets.extend(scored);
            shared
                .texts
                .push((number, shared.window.targets.len() - before));
        }
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(tokens: &[u32], first: usize) -> Scored {
        Scored::after(tokens.to_vec(), first, 100)
    }

    #[test]
    fn texts_that_begin_alike_share_a_window() {
        let texts = [
            scored(&[1, 2, 3, 10], 3),
            scored(&[1, 2, 3, 11], 3),
            scored(&[1, 2, 3, 11, 12], 3),
            scored(&[1, 2, 4, 10], 3),
            scored(&[1, 2], 1),
        ];
        let windows = shared(&texts);
        let tokens: Vec<&[u32]> = windows
            .iter()
            .map(|shared| shared.window.tokens.as_slice())
            .collect();
        assert_eq!(tokens, [&[1, 2, 4][..], &[1, 2, 3, 11]]);
        let mut found = vec![Vec::new(); texts.len()];
        for shared in &windows {
            let mut targets = shared.window.targets.iter();
            for (text, count) in &shared.texts {
                found[*text].extend(targets.by_ref().take(*count).copied());
            }
            assert_eq!(targets.next(), None);
        }
        assert_eq!(
            found,
            [
                vec![(2, 10)],
                vec![(2, 11)],
                vec![(2, 11), (3, 12)],
                vec![(2, 10)],
                vec![(0, 2)]
            ]
        );
    }

    #[test]
    fn a_text_longer_than_the_context_loses_its_beginning() {
        let text = Scored::after((0..10).collect(), 8, 4);
        assert_eq!(
            (text.tokens.as_slice(), text.range),
            (&[5, 6, 7, 8, 9][..], 3..5)
        );
        // What is scored is longer than the context: its first tokens have nothing before them.
        let text = Scored::after((0..10).collect(), 2, 4);
        assert_eq!((text.tokens.len(), text.range), (5, 1..5));
    }
}
