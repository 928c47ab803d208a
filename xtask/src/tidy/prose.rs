//! Phrases that nobody would say aloud; `docs/STYLE.md` has the register.

use super::Finding;
use super::lexer::Kind;
use super::source::Source;
use crate::Outcome;

/// A phrase, and what to write instead. A phrase that ends with a stop is only wrong before
/// punctuation.
const PHRASES: [(&str, &str); 20] = [
    ("that there is", "name the subject: \"the node has\""),
    ("where there is", "\"if a GPU is present\""),
    ("where there are", "\"if peers are connected\""),
    ("in mid-run", "\"during the run\""),
    ("goes on on", "\"continues on\""),
    ("go on on", "\"continue on\""),
    ("any more.", "\"no longer\""),
    ("any more,", "\"no longer\""),
    ("mends", "\"fixes\""),
    ("mended", "\"fixed\""),
    ("to mend", "\"to fix\""),
    ("an own", "\"its own\""),
    ("of no account", "\"ignored\""),
    ("at least so many", "\"at least this many\""),
    ("at most so many", "\"at most this many\""),
    ("so many rounds", "\"that many rounds\""),
    ("so many bytes", "\"that many bytes\""),
    ("so many tokens", "\"that many tokens\""),
    ("it is looked", "name who looks"),
    ("it is waited", "name who waits"),
];

/// The files that quote them.
const QUOTES: [&str; 2] = ["docs/STYLE.md", "xtask/src/tidy/prose.rs"];

/// Finds phrases in comments and literals of Rust, and anywhere in other text.
pub(crate) fn check(sources: &[Source]) -> Outcome<Vec<Finding>> {
    let checked = |source: &&Source| !QUOTES.contains(&source.path.as_str());
    Ok(sources.iter().filter(checked).flat_map(findings).collect())
}

fn findings(source: &Source) -> Vec<Finding> {
    let prose = Prose::of(source);
    let mut findings = Vec::new();
    for (phrase, instead) in PHRASES {
        for (at, _) in prose.text.match_indices(phrase) {
            if prose.is_whole(at, phrase) {
                findings.push(Finding {
                    path: source.path.clone(),
                    line: source.line_at(prose.offsets[at]),
                    message: format!("\"{phrase}\": write {instead}"),
                });
            }
        }
    }
    findings
}

/// What a person reads in a file: lower case, on one line, without comment markers.
struct Prose {
    text: String,
    /// For each byte of `text`, its offset in the file.
    offsets: Vec<usize>,
}

impl Prose {
    fn of(source: &Source) -> Self {
        let rust = source.is("rs");
        let mut prose = Self {
            text: String::new(),
            offsets: Vec::new(),
        };
        for (offset, character) in source.text.char_indices() {
            let code = rust && source.kinds[offset] == Kind::Code;
            let gap = character.is_whitespace() || matches!(character, '/' | '!' | '#' | '*');
            match (code, gap) {
                // Code ends a sentence, white space in it does not.
                (true, false) => prose.push('\u{0}', offset),
                (_, true) if prose.text.ends_with([' ', '\u{0}']) => {}
                (_, true) => prose.push(' ', offset),
                _ => prose.push(character.to_ascii_lowercase(), offset),
            }
        }
        prose
    }

    fn push(&mut self, character: char, offset: usize) {
        self.text.push(character);
        self.offsets.resize(self.text.len(), offset);
    }

    /// Whether a phrase stands between the ends of words.
    fn is_whole(&self, at: usize, phrase: &str) -> bool {
        let letter = |character: char| character.is_alphanumeric();
        let before = self.text[..at].ends_with(letter);
        let after = self.text[at + phrase.len()..].starts_with(letter);
        !before && !after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        let findings = findings(&Source::new(path, text));
        findings.iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn phrases_are_found_across_lines_of_a_comment() {
        let text = "let a = 1;\n/// Whether that\n/// there is a GPU.\nfn b() {}\n";
        assert_eq!(lines("a.rs", text), [2]);
    }

    #[test]
    fn code_and_longer_words_are_none() {
        assert!(lines("a.rs", "fn mended() {}\n// amended, any more memory\n").is_empty());
        assert_eq!(lines("a.md", "It is mended.\n"), [1]);
    }
}
