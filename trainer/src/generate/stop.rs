//! Stop strings: where a generated text ends.

/// Holds text back while it may be the start of a stop string.
pub(super) struct StopWatch<'a> {
    stop: &'a [String],
    /// Text that may be the start of a stop string.
    held: String,
}

impl<'a> StopWatch<'a> {
    pub(super) fn new(stop: &'a [String]) -> Self {
        Self {
            stop,
            held: String::new(),
        }
    }

    /// The text to pass on now, and whether a stop string ends it there.
    pub(super) fn push(&mut self, piece: &str) -> (String, bool) {
        self.held.push_str(piece);
        if let Some(end) = self
            .stop
            .iter()
            .filter_map(|stop| self.held.find(stop.as_str()))
            .min()
        {
            return (self.held[..end].to_owned(), true);
        }
        let may_begin = |start: &usize| {
            self.stop
                .iter()
                .any(|stop| stop.starts_with(&self.held[*start..]))
        };
        let held_from = self
            .held
            .char_indices()
            .map(|(start, _)| start)
            .find(may_begin)
            .unwrap_or(self.held.len());
        let kept = self.held.split_off(held_from);
        (std::mem::replace(&mut self.held, kept), false)
    }

    /// The text still held back.
    pub(super) fn finish(self) -> String {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_ends_before_the_first_stop_string() {
        let stop = ["END".to_owned(), "\n\n".to_owned()];
        let heard = |pieces: &[&str]| {
            let mut watch = StopWatch::new(&stop);
            let mut said = String::new();
            for piece in pieces {
                let (out, stopped) = watch.push(piece);
                said.push_str(&out);
                if stopped {
                    return (said, true);
                }
            }
            (said + &watch.finish(), false)
        };
        assert_eq!(heard(&["one E", "N", "D two"]), ("one ".into(), true));
        assert_eq!(
            heard(&["one\n", "two EN", "\n", "\nEND"]),
            ("one\ntwo EN".into(), true)
        );
        assert_eq!(heard(&["one EEN", "D"]), ("one E".into(), true));
        assert_eq!(heard(&["a\nb", "E"]), ("a\nbE".into(), false));
        let mut watch = StopWatch::new(&stop);
        assert_eq!(watch.push("to the EN"), ("to the ".into(), false));
        assert_eq!(watch.push("emy"), ("ENemy".into(), false));
    }
}
