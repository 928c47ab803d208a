//! Peers that take more than their share.

use std::time::Duration;

use super::*;
use crate::swarm::frame::Priority;
use crate::swarm::limits::{ARRIVALS_PER_PEER, GIFTS_PER_PEER};

const PIECES: u32 = 40;

fn outline() -> Arc<Outline> {
    let chunks = (0..PIECES).map(|piece| [piece as u8; 32]).collect();
    let bytes = u64::from(PIECES) << 20;
    Arc::new(Outline { bytes, chunks })
}

/// A picker to which everyone is a stranger.
fn picker() -> Picker {
    let members = Arc::new(Members::default());
    members.set([]);
    Picker::new(members, 1)
}

fn tell(picker: &mut Picker, from: PeerKey, body: Body, now: Instant) {
    let blob = outline().hash();
    picker.heard(from, Frame { blob, body }, now);
}

#[test]
fn peers_that_drip_on_every_place_make_room_for_others() {
    let (mut picker, start, outline) = (picker(), Instant::now(), outline());
    let blob = outline.hash();
    let drips = (ARRIVALS_FROM_STRANGERS / ARRIVALS_PER_PEER) as u8;
    let honest = [drips; 32];
    for peer in 0..=drips {
        picker.connected([peer; 32], start);
    }
    let order = Order {
        blob,
        priority: Priority::State,
        max_bytes: outline.bytes,
        patience: Duration::from_secs(60),
    };
    picker.want(order, start);
    for peer in 0..=drips {
        let copy = outline.as_ref().clone();
        tell(&mut picker, [peer; 32], Body::Outline(copy), start);
        tell(&mut picker, [peer; 32], Body::Here, start);
    }
    picker.prepared(&blob, Bits::none(PIECES), start);
    let mut pieces = 0..;
    for drip in 0..drips {
        for _ in 0..ARRIVALS_PER_PEER {
            let piece = pieces.next().unwrap();
            assert!(picker.begun([drip; 32], &blob, piece, start).is_some());
        }
        assert!(picker.begun([drip; 32], &blob, 39, start).is_none());
    }
    assert!(picker.begun(honest, &blob, 38, start).is_none(), "full");

    let later = start + Duration::from_secs(10);
    picker.tick(later);
    picker.actions();
    assert!(picker.begun(honest, &blob, 38, later).is_some());
    let stopped =
        |action: &Action| matches!(action, Action::StopTaking { from, .. } if *from != honest);
    assert!(picker.actions().iter().any(stopped));
    assert!(
        picker.begun([0; 32], &blob, 39, later).is_none(),
        "it rests"
    );
}

#[test]
fn a_peer_that_begins_anew_gets_no_more_at_once() {
    let (mut picker, mut now, peer) = (picker(), Instant::now(), [1; 32]);
    let blob = outline().hash();
    picker.connected(peer, now);
    let mut gifts = 0;
    for _ in 0..5 {
        picker.restarted(&peer);
        tell(&mut picker, peer, Body::Ask { outline: false }, now);
        picker.looked_up(&blob, Found::Here(outline()), now);
        let (priority, pieces) = (Priority::Apply, Bits::all(PIECES));
        tell(&mut picker, peer, Body::Want { priority, pieces }, now);
        let actions = picker.actions();
        gifts += actions
            .iter()
            .filter(|action| matches!(action, Action::Give(_)))
            .count();
        // The gifts are so slow that they no longer count for the window.
        now += Duration::from_secs(60);
    }
    assert_eq!(gifts, GIFTS_PER_PEER);
}
