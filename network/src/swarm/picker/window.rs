//! How many bytes a node has on their way to all peers together.
//!
//! Few pieces at once means that each arrives soon and can be passed on, which is what makes a blob
//! spread fast. Too few leave the uplink idle while a peer confirms. How long pieces take tells
//! which is the case.

use std::time::Duration;

use crate::swarm::limits::{
    GIFT_SLOW, LARGEST_WINDOW, LEAST_WINDOW, OFFERED_ONE_IN, WINDOW_FAST, WINDOW_MEASURES,
    WINDOW_SLOW,
};

const STEP: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Window {
    bytes: usize,
    /// Moving average of what a piece takes.
    usual: Option<Duration>,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            bytes: LEAST_WINDOW,
            usual: None,
        }
    }

    /// Bytes in flight at which nothing more is offered.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes offered, and not yet welcome, at which nothing more is offered.
    pub(super) fn offered(&self) -> usize {
        self.bytes / OFFERED_ONE_IN
    }

    /// A piece of this length arrived.
    pub(super) fn arrived(&mut self, bytes: usize, took: Duration) {
        if bytes < WINDOW_MEASURES {
            return;
        }
        self.usual = Some(match self.usual {
            Some(usual) => (usual * 7 + took) / 8,
            None => took,
        });
        if took < WINDOW_FAST {
            self.bytes = (self.bytes + STEP).min(LARGEST_WINDOW);
        } else if took > WINDOW_SLOW {
            self.bytes = self.bytes.saturating_sub(STEP).max(LEAST_WINDOW);
        }
    }

    /// How long after a piece the next one begins, while others are on their way. Pieces that begin
    /// together also arrive together, and leave the uplink idle until the sender hears of it.
    /// Pieces that arrive fast need no such pause.
    pub(super) fn pause(&self) -> Duration {
        let slow = self.usual.filter(|usual| *usual >= WINDOW_FAST);
        let pieces = u32::try_from(self.bytes / STEP).unwrap_or(1).max(1);
        slow.unwrap_or_default() / (2 * pieces)
    }

    /// After this time a gift does not count.
    pub(super) fn slow(&self) -> Duration {
        GIFT_SLOW.max(self.usual.unwrap_or_default() * 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_follows_the_path() {
        let mut window = Window::new();
        let after = |window: &mut Window, bytes, millis| {
            for _ in 0..100 {
                window.arrived(bytes, Duration::from_millis(millis));
            }
            window.bytes()
        };
        assert_eq!(after(&mut window, STEP, 10), LARGEST_WINDOW);
        assert_eq!(after(&mut window, STEP, 500), LARGEST_WINDOW);
        assert_eq!(after(&mut window, STEP, 2000), LEAST_WINDOW);
        assert_eq!(after(&mut window, 1000, 1), LEAST_WINDOW);
        assert!(window.slow() > Duration::from_secs(7));
    }

    #[test]
    fn slow_pieces_begin_apart() {
        let mut window = Window::new();
        assert_eq!(window.pause(), Duration::ZERO);
        window.arrived(STEP, Duration::from_millis(800));
        window.bytes = 2 * STEP;
        assert_eq!(window.pause(), Duration::from_millis(200));
        for _ in 0..100 {
            window.arrived(STEP, Duration::from_millis(10));
        }
        assert_eq!(window.pause(), Duration::ZERO);
    }
}
