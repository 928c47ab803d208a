//! A piece on its way to this node.

use std::time::Instant;

use crate::identity::PeerKey;

#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub from: PeerKey,
    pub piece: u32,
    pub began: Instant,
    /// It takes so long that another peer may send it too.
    pub late: bool,
}

/// Removes a late piece from a peer that matches, if there is one.
pub(super) fn take_late(
    arrivals: &mut Vec<Arrival>,
    matches: impl Fn(&PeerKey) -> bool,
) -> Option<Arrival> {
    let is_late = |arrival: &Arrival| arrival.late && matches(&arrival.from);
    let place = arrivals.iter().position(is_late)?;
    Some(arrivals.swap_remove(place))
}
