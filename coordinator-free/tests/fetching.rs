//! What a node fetches, and for how long: whatever a dishonest peer names or withholds, the node
//! examines each contribution under its author's name, and attests in time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use weal_coordinator_free::sim::fixtures::{commitment, key, manifest, peer, training_founder};
use weal_coordinator_free::{Core, Fetch, Input, Millis, Output, Phase, TimerId};
use weal_proto::{
    Attestation, Closed, Envelope, PlaceSet, Refusal, RoundNumber, Samples, Signable, SlotId,
    Verdict,
};

const ROUND: RoundNumber = RoundNumber(0);
/// The blob of this node, founder 1.
const OWN: u8 = 1;

fn send<M: Signable>(core: &mut Core, n: u8, message: &M) -> Vec<Output> {
    let envelope = Envelope::sign(&key(n), manifest(&[1, 2, 3, 4]).run(), message);
    core.step(Millis(20), Input::Received(envelope))
}

/// A core that fetches after founders 2 to 4 have committed to these blobs, and what it fetches.
fn fetching(blobs: [u8; 3]) -> (Core, Vec<Fetch>) {
    let (mut core, _) = training_founder(Vec::new()).expect("founders can vote");
    let trained = Input::Trained {
        round: ROUND,
        blob: [OWN; 32].into(),
        blob_bytes: 1_000,
        samples: Samples(10),
    };
    core.step(Millis(10), trained);
    for (n, blob) in (2..).zip(blobs) {
        send(&mut core, n, &commitment(0, blob));
    }
    let mut outputs = send(&mut core, 2, &Closed { round: ROUND });
    outputs.extend(send(&mut core, 3, &Closed { round: ROUND }));
    assert_eq!(core.view().phase, Phase::Fetching);
    let fetches = outputs.into_iter().filter_map(|output| match output {
        Output::Fetch(fetch) => Some(fetch),
        _ => None,
    });
    (core, fetches.collect())
}

fn examined(core: &mut Core, fetch: &Fetch, verdict: Verdict) -> Vec<Output> {
    let commitment = fetch.hash;
    core.step(
        Millis(30),
        Input::Validated {
            commitment,
            verdict,
        },
    )
}

fn time_to_fetch_is_up(core: &mut Core) -> Vec<Output> {
    core.step(Millis(9_000), Input::TimerFired(TimerId::FetchClose(ROUND)))
}

fn compared(core: &mut Core) -> Vec<Output> {
    let (round, signals) = (ROUND, Vec::new());
    core.step(Millis(40), Input::Compared { round, signals })
}

fn attested(outputs: &[Output]) -> Option<Attestation> {
    outputs.iter().find_map(|output| match output {
        Output::Broadcast(envelope) => envelope.open().ok(),
        _ => None,
    })
}

fn slot(core: &Core, n: u8) -> SlotId {
    let places = core.chain().places();
    places.slot_of(&peer(n)).expect("members have places")
}

#[test]
fn a_commitment_to_a_blob_that_is_here_for_another_reason_gets_no_credit_for_it() {
    // Founder 2 names this node's own blob, and founder 3 the one that founder 4 committed to.
    let (mut core, fetches) = fetching([OWN, 4, 4]);
    let of: Vec<_> = fetches.iter().map(|fetch| fetch.peer).collect();
    assert_eq!(of.len(), 3, "each is examined under its author's name");
    let mut outputs = Vec::new();
    for fetch in &fetches {
        let verdict = match fetch.peer == peer(4) {
            true => Verdict::Valid,
            false => Verdict::WrongHeader, // the header names another author
        };
        outputs.extend(examined(&mut core, fetch, verdict));
    }
    outputs.extend(compared(&mut core));
    let attested = attested(&outputs).expect("all contributions are examined");
    let [own, two, three, four] = [1, 2, 3, 4].map(|n| slot(&core, n));
    assert_eq!(attested.valid, PlaceSet::from_iter([own, four]));
    let mut refused: Vec<_> = attested.refused.iter().map(|one| one.slot).collect();
    refused.sort_unstable();
    let mut thieves = [two, three];
    thieves.sort_unstable();
    assert_eq!(refused, thieves);
}

#[test]
fn a_contribution_that_drips_in_delays_a_round_by_the_time_to_fetch_and_no_more() {
    let (mut core, fetches) = fetching([2, 3, 4]);
    let (dripping, prompt) = fetches.split_last().expect("three are fetched");
    for fetch in prompt {
        assert!(attested(&examined(&mut core, fetch, Verdict::Valid)).is_none());
    }
    let asked = time_to_fetch_is_up(&mut core);
    let found = asked.iter().find_map(|output| match output {
        Output::Compare { contributions, .. } => Some(contributions.len()),
        _ => None,
    });
    assert_eq!(found, Some(3), "what is here is compared");
    let attestation = attested(&compared(&mut core)).expect("the rest is not waited for");
    let late = slot(&core, (2..=4).find(|n| peer(*n) == dripping.peer).unwrap());
    assert_eq!(attestation.valid.len(), 3);
    assert!(!attestation.valid.contains(late));
    assert_eq!(attestation.refused, Vec::<Refusal>::new());
    // Its last byte arrives after all. This node has said what it had to say.
    assert!(attested(&examined(&mut core, dripping, Verdict::Valid)).is_none());
}

#[test]
fn a_comparison_that_takes_too_long_is_given_up() {
    let (mut core, fetches) = fetching([2, 3, 4]);
    for fetch in &fetches[1..] {
        examined(&mut core, fetch, Verdict::Valid);
    }
    assert!(attested(&time_to_fetch_is_up(&mut core)).is_none());
    let attestation = attested(&time_to_fetch_is_up(&mut core));
    assert_eq!(attestation.expect("time is up").valid.len(), 3);
}
