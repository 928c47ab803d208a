//! Peers in homes behind routers find each other, and connect directly where that is possible.
//!
//! Each cell of the matrix is a public peer and two homes, which know only the public peer. The
//! short form tests what is typical. `WEAL_FULL=1 cargo test -p weal-network --test nat` tests all
//! pairs, and prints the table of `docs/protocol/network.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod nat {
    #[allow(dead_code)] // other tests need more of it
    pub(crate) mod peer;
}

use std::fmt::Write;
use std::time::Duration;

use nat::peer::Peer;
use weal_testing::lab::{Home, Lab, can_make_labs};
use weal_testing::require::{full, skip};

/// Time within which two homes must be connected, through a relay or directly.
const MEET: Duration = Duration::from_secs(90);
/// Time within which they must be connected directly, where that is possible.
const PUNCH: Duration = Duration::from_secs(60);

/// What a pair of homes came to.
struct Cell {
    homes: [Home; 2],
    /// Seconds until the first connection, and whether it was relayed.
    met: (f64, bool),
    /// Seconds until the direct connection.
    direct: Option<f64>,
}

/// Whether a direct connection is possible: a symmetric router gives a socket another port for each
/// destination, which a peer that lets in only whom it knows cannot guess.
fn is_possible(homes: [Home; 2]) -> bool {
    let is_strict = |home| home != Home::Open;
    !(homes.contains(&Home::Symmetric) && homes.into_iter().all(is_strict))
}

#[test]
fn homes_behind_routers_meet_and_connect_directly_where_that_is_possible() {
    if let Err(why) = can_make_labs() {
        return skip("the NAT matrix", &why);
    }
    use Home::{Firewall6, Open, PortRestricted, Symmetric};
    let pairs = if full() {
        pairs()
    } else {
        vec![
            [PortRestricted, PortRestricted],
            [Symmetric, Open],
            [Symmetric, PortRestricted],
            [Firewall6, Firewall6],
        ]
    };
    let mut table = String::new();
    for (number, homes) in pairs.into_iter().enumerate() {
        let cell = try_pair(number, homes);
        let met = if cell.met.1 { "relayed" } else { "direct" };
        let direct = cell.direct.map(|after| format!("{after:.1} s"));
        let direct = direct.unwrap_or_else(|| "no".into());
        let [first, second] = cell.homes;
        let after = cell.met.0;
        writeln!(
            table,
            "| {first:?} | {second:?} | {met} after {after:.1} s | {direct} |"
        )
        .unwrap();
    }
    println!("{table}");
}

/// Every home of an IP version with every other of it.
fn pairs() -> Vec<[Home; 2]> {
    let mut pairs = Vec::new();
    for homes in [&Home::V4[..], &Home::V6] {
        for (place, first) in homes.iter().enumerate() {
            pairs.extend(homes[place..].iter().map(|second| [*first, *second]));
        }
    }
    pairs
}

fn try_pair(number: usize, homes: [Home; 2]) -> Cell {
    let mut lab = Lab::new(&format!("c{number}"));
    let open = if Home::V6.contains(&homes[0]) {
        Home::Open6
    } else {
        Home::Open
    };
    let public = Peer::start(1, &lab.home(open), &[]);
    let known = [public.address()];
    let [first, second] = [(2, homes[0]), (3, homes[1])].map(|(index, home)| {
        let place = lab.home(home);
        Peer::start(index, &place, &known)
    });
    let all = || format!("{homes:?}\n{}{}{}", public.log(), first.log(), second.log());
    let direct = format!("is direct {}", second.key());
    let relayed = format!("is relayed {}", second.key());
    first.wait_for_any(&[&direct, &relayed], MEET, all);
    // Gossip reaches the other home, and so does a blob: directly, or through the public peer,
    // which fetches it as well.
    for (listener, speaker) in [(&first, 3), (&second, 2)] {
        listener.wait_for(&format!("heard {speaker}"), MEET, all);
    }
    if is_possible(homes) {
        first.wait_for(&direct, PUNCH, all);
        second.wait_for(&format!("is direct {}", first.key()), PUNCH, all);
    }
    public.fetch(2);
    second.fetch(2);
    second.wait_for("fetched 2", MEET, all);
    let relays_blobs = |line: &str| line.starts_with("is relaying") && line != "is relaying 0 MiB";
    assert!(
        !public.lines().iter().any(|(_, line)| relays_blobs(line)),
        "{}",
        all()
    );
    let after = |line: &str| first.first(line);
    let met = match (after(&direct), after(&relayed)) {
        (Some(direct), Some(relayed)) => (direct.min(relayed), relayed < direct),
        (direct, relayed) => (direct.or(relayed).unwrap(), direct.is_none()),
    };
    Cell {
        homes,
        met,
        direct: after(&direct),
    }
}
