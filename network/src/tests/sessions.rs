//! Two machines with one key.

use std::collections::BTreeSet;

use super::*;

fn with_session(id: u8, bootstrap: Vec<Multiaddr>) -> Settings {
    Settings {
        session: Some(Session {
            id: [id; 16],
            started: u64::from(id),
            earlier: BTreeSet::new(),
        }),
        ..settings(bootstrap)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_machines_with_one_key_are_told_of_each_other() {
    let peer = start_with(1, RUN, settings(Vec::new())).await;
    let known = peer.addresses().await;
    let first = start_with(2, RUN, with_session(1, known.clone())).await;
    let mut of_first = first.network.key_use();
    in_time(of_first.wait_for(|known| known.answered))
        .await
        .unwrap();
    assert_eq!(of_first.borrow().other, None);

    let second = start_with(2, RUN, with_session(2, known)).await;
    let began_first = async |node: &Node| {
        let mut key_use = node.network.key_use();
        let known = in_time(key_use.wait_for(|known| known.other.is_some())).await;
        known.unwrap().other.unwrap().began_first
    };
    assert!(began_first(&second).await, "the second one should stop");
    assert!(!began_first(&first).await, "the first one should go on");
}
