//! Newcomers that begin with the state that a link names.

use std::sync::Mutex;

use weal_coordinator_free::host::retention::MILESTONE_EVERY;
use weal_proto::RoundNumber;

use super::weights::{Place, agree_from, enter, place};
use super::*;
use crate::folder::Folder;
use crate::join::Progress;
use crate::link::RunLink;
use crate::lone_founder::LoneFounder;
use crate::plan::{self, Plan};
use crate::store::weights::WeightFiles;
use crate::verify::ProvenHistory;

/// Decided rounds of the founder when it starts.
const DECIDED: u64 = MILESTONE_EVERY + 6;

/// Lets the founder decide many rounds in which nobody contributes, without starting it.
async fn decide(founder: &Folder) {
    let home = enter(founder).await;
    let plan = Plan::new(&home.manifest).unwrap();
    let initial = plan::initial_weights(&home.manifest, &plan, |_| Ok(None)).unwrap();
    let files = WeightFiles::new(founder.weights());
    for round in [MILESTONE_EVERY, DECIDED] {
        let stored = files.store(&plan.layout, RoundNumber(round), &initial.values);
        stored.unwrap();
    }
    let root = files.load(&plan.layout, RoundNumber(DECIDED)).unwrap().root;
    let mut run = LoneFounder::new(&home.manifest, &founder.key().unwrap(), root);
    home.store.persist(&run.decide_until(DECIDED)).unwrap();
}

/// The founder of a long run, started, and its link.
async fn long_run() -> (Place, TestNode, RunLink) {
    let place = place(1);
    decide(&place.founders[0]).await;
    let founder = place.start(&place.founders[0], |_| {}).await;
    let has_link = |status: &Snapshot| status.run.link.contains("peer=");
    let link = founder.wait_for("link", has_link).await.run.link;
    (place, founder, link.parse().unwrap())
}

/// Joins by a link. Returns the folder, and what was told on the way.
async fn join(place: &Place, link: &RunLink) -> (Folder, String) {
    let told = Mutex::new(String::new());
    let tell = |progress: Progress<'_>| match progress {
        Progress::Note(text) | Progress::Warning(text) => {
            let mut told = told.lock().unwrap();
            told.push_str(text);
            told.push('\n');
        }
        Progress::Fetch(_) => {}
    };
    let folder = place.join_with(&link.to_string(), &tell, |_| {}).await;
    (folder, told.into_inner().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_begins_with_the_state_that_the_link_names() {
    let (place, founder, link) = long_run().await;
    let first = RoundNumber(MILESTONE_EVERY);
    assert_eq!(link.anchor.map(|anchor| anchor.round), Some(first));

    let (folder, told) = join(&place, &link).await;
    assert!(
        told.contains("beginning with the state before round 1024"),
        "{told}"
    );
    let newcomer = place.start(&folder, |_| {}).await;
    agree_from(&founder, &newcomer, DECIDED + 2).await;
    newcomer.end().await.unwrap();

    // It knows the rounds since only, and starts again with these.
    let home = enter(&folder).await;
    assert!(
        home.store
            .decided(RoundNumber(0), 10, usize::MAX)
            .unwrap()
            .is_empty()
    );
    assert_eq!(home.store.first_round().unwrap(), first);
    let proven = ProvenHistory::of_home(&home, &mut |_, _| {}).unwrap();
    assert_eq!(proven.first(), first);
    assert!(proven.rounds() >= DECIDED + 2);
    drop(home);
    let newcomer = place.start(&folder, |_| {}).await;
    agree_from(&founder, &newcomer, proven.rounds() + 2).await;
    newcomer.end().await.unwrap();
    founder.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_checks_all_rounds_if_no_peer_has_the_state_of_the_link() {
    let (place, founder, mut link) = long_run().await;
    if let Some(anchor) = &mut link.anchor {
        anchor.state = [7; 32].into();
    }

    let (folder, told) = join(&place, &link).await;
    assert!(
        told.contains("checking all rounds from the manifest on"),
        "{told}"
    );
    let newcomer = place.start(&folder, |_| {}).await;
    agree_from(&founder, &newcomer, DECIDED + 1).await;
    newcomer.end().await.unwrap();
    let home = enter(&folder).await;
    let proven = ProvenHistory::of_home(&home, &mut |_, _| {}).unwrap();
    assert_eq!(proven.first(), RoundNumber(0));
    drop(home);
    founder.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_whose_state_is_another_thing_is_refused() {
    let (place, founder, mut link) = long_run().await;
    if let Some(anchor) = &mut link.anchor {
        anchor.round = RoundNumber(2 * MILESTONE_EVERY);
    }
    let mut settings = Settings::default();
    settings.network.mdns = false;
    let joined = place.join_as(&link.to_string(), &|_| {}, &settings).await;
    let error = joined.err().expect("the state is of another round");
    assert_eq!(error.code(), 6);
    assert!(error.to_string().contains("cannot be used"), "{error}");
    founder.end().await.unwrap();
}
