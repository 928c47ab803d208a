//! What reading a tokeniser or a model left out or guessed, told to the person at the terminal.

use weal_trainer::{LostLetters, Tokeniser};

use crate::terminal::say;

/// Tells what was guessed, ignored or left out when the tokeniser was read.
pub(crate) fn tell_notes(tokeniser: &Tokeniser) {
    for note in tokeniser.notes() {
        warn(note);
    }
}

/// A warning on standard error.
pub(crate) fn warn(note: &str) {
    say!("warning: {note}");
}

/// Tells how many letters of a text the tokeniser could not read.
pub(crate) fn tell_lost(lost: LostLetters) {
    let LostLetters { unknown, dropped } = lost;
    for (count, what) in [
        (unknown, "became the token for unknown ones"),
        (dropped, "were left out"),
    ] {
        if count > 0 {
            warn(&format!(
                "{count} letters of the text have no token in this tokeniser, and {what}"
            ));
        }
    }
}
