//! Weights that are fetched, and weights that are damaged on disk.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use weal_proto::{CHUNK_BYTES, RoundNumber};
use weal_trainer::{Export, FloatFormat, ModelSpec, Tokeniser};

use super::*;
use crate::folder::Folder;
use crate::join::{JoinRequest, LocalData, Progress, Tell, join};
use crate::link::RunLink;
use crate::plan::{INITIAL_WEIGHTS, named_blobs};
use crate::settings::Auto;
use crate::store::blobs;
use crate::store::partial_weights::PartialWeights;
use crate::store::weights::WeightFiles;
use crate::testnet::prepare::NodePlan;

/// A run, and a place for one more node.
pub(super) struct Place {
    root: Arc<tempfile::TempDir>,
    pub(super) founders: Vec<Folder>,
    newcomer: NodePlan,
}

/// A run of a few founders.
pub(super) fn place(founders: usize) -> Place {
    place_of(founders, |_| {})
}

fn place_of(founders: usize, change: impl FnOnce(&mut RunFile)) -> Place {
    // In memory, if there is such a folder: there, syncing takes no time.
    let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let root = root.unwrap();
    let mut nodes = local_nodes(founders + 1, 0, Device::Cpu, 1).unwrap();
    let newcomer = nodes.pop().unwrap();
    let mut run = short_rounds();
    run.inner.steps = 1;
    run.model.context = Some(32);
    change(&mut run);
    let plan = TestnetPlan {
        root: root.path().to_owned(),
        nodes,
        run,
    };
    let founders = prepare(&plan).unwrap().1;
    Place {
        root: root.into(),
        founders: founders.into_iter().map(|node| node.folder).collect(),
        newcomer,
    }
}

impl Place {
    pub(super) async fn start(
        &self,
        folder: &Folder,
        change: impl FnOnce(&mut Settings),
    ) -> TestNode {
        let mut settings = Settings::read(folder).unwrap();
        settings.keep.weights = 2;
        settings.keep.moments_every = Auto::Set(1000);
        // A node that was just ended in this process may still hold the port.
        settings.page.listen.set_port(0);
        settings.evaluation.every = 0;
        change(&mut settings);
        let home = enter(folder).await;
        TestNode::start(self.root.clone(), (home, settings), OpenDevice::cpu()).await
    }

    /// A folder that has joined the run.
    pub(super) async fn join(&self, link: &str) -> Folder {
        self.join_with(link, &|_| {}, |_| {}).await
    }

    fn newcomer_folder(&self) -> Folder {
        Folder::new(self.root.path().join("newcomer"))
    }

    pub(super) async fn join_with(
        &self,
        link: &str,
        tell: Tell<'_>,
        change: impl FnOnce(&mut Settings),
    ) -> Folder {
        let folder = self.newcomer_folder();
        let mut settings = Settings::default();
        settings.network.listen = self.newcomer.listen.clone();
        settings.network.mdns = false;
        settings.page.listen = self.newcomer.page;
        settings.write(&folder).unwrap();
        change(&mut settings);
        self.join_as(link, tell, &settings).await.unwrap();
        folder
    }

    pub(super) async fn join_as(
        &self,
        link: &str,
        tell: Tell<'_>,
        settings: &Settings,
    ) -> Result<Home> {
        let link: RunLink = link.parse()?;
        let request = JoinRequest {
            link: &link,
            settings: &settings.network,
            patience: Some(PATIENCE),
            local: LocalData::default(),
            tell,
        };
        join(self.newcomer_folder().enter()?, request).await
    }
}

/// The run of a folder. A node that was just ended in this process may hold its store for a moment.
pub(super) async fn enter(folder: &Folder) -> Home {
    let mut poll = tokio::time::interval(POLL);
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        match folder.enter().and_then(|entered| entered.expect_home()) {
            Ok(home) => return home,
            Err(error) => assert!(tokio::time::Instant::now() < until, "{error:#}"),
        }
        poll.tick().await;
    }
}

/// Flips the bits of the last byte.
fn damage(file: &Path) {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(file)
        .unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::End(-1)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::End(-1)).unwrap();
    file.write_all(&[!byte[0]]).unwrap();
}

/// Waits until both nodes have decided this many rounds, and asserts that they hold the same
/// weights after all that both know. Returns the first one's status.
pub(super) async fn agree_from(one: &TestNode, other: &TestNode, goal: u64) -> Snapshot {
    let decided = |status: &Snapshot| rounds(status) >= goal;
    let status = one.wait_for("rounds", decided).await;
    assert_roots_agree(&status, &other.wait_for("rounds", decided).await);
    status
}

fn assert_roots_agree(one: &Snapshot, other: &Snapshot) {
    let roots = |status: &Snapshot| -> std::collections::BTreeMap<_, _> {
        let history = status.history.iter();
        history
            .map(|record| (record.round, record.root.clone()))
            .collect()
    };
    let (one, other) = (roots(one), roots(other));
    let common = one
        .iter()
        .filter_map(|(round, root)| Some((root, other.get(round)?)));
    let common: Vec<_> = common.collect();
    assert!(!common.is_empty());
    assert!(common.iter().all(|(one, other)| one == other), "{common:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_weights_are_damaged_on_disk_fetches_what_differs_and_goes_on() {
    let place = place(2);
    let [first, second] = [&place.founders[0], &place.founders[1]];
    let healthy = place.start(first, |_| {}).await;
    let damaged = place.start(second, |_| {}).await;
    // Enough rounds that the node fetches the weights instead of applying all rounds again.
    damaged
        .wait_for("twelve rounds", |status| rounds(status) >= 12)
        .await;
    damaged.end().await.unwrap();
    let files = WeightFiles::new(second.weights());
    let stored = files.rounds().unwrap();
    let [oldest, _, newest] = stored[..] else {
        panic!("{stored:?}")
    };
    assert_eq!(oldest, RoundNumber(0));
    for round in &stored {
        damage(&files.path(*round));
    }

    let repaired = place.start(second, |_| {}).await;
    // Only the last tensor, which is short.
    let text = format!("fetched the weights of round {newest}: 0.0 MB of 3.3 MB");
    repaired
        .wait_for("repair", |status| says(status, &text))
        .await;
    let goal = newest.0 + 2;
    agree_from(&repaired, &healthy, goal).await;
    repaired.end().await.unwrap();

    // A checkpoint is repaired too.
    damage(&files.path(oldest));
    let repaired = place.start(second, |_| {}).await;
    let text = format!("repaired the weights of round {oldest}: ");
    repaired.wait_for(&text, |status| says(status, &text)).await;
    repaired.end().await.unwrap();
    healthy.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_node_whose_weights_differ_from_the_others_fetches_what_differs() {
    let place = place(3);
    let [first, second, third] = [0, 1, 2].map(|node| &place.founders[node]);
    let one = place.start(first, |_| {}).await;
    let two = place.start(second, |_| {}).await;
    let damaged = place.start(third, |_| {}).await;
    damaged
        .wait_for("two rounds", |status| rounds(status) >= 2)
        .await;
    // The file is mapped, so the node computes from damaged weights, unless it has used them
    // already: then the next are damaged.
    let files = WeightFiles::new(third.weights());
    let mut tried = None;
    damaged
        .wait_for("fetch", |status| {
            let newest = files.rounds().unwrap().pop();
            if tried != newest
                && status
                    .node
                    .message
                    .contains(&format!("{}: training", rounds(status)))
            {
                damage(&files.path(newest.unwrap()));
                tried = newest;
            }
            says(status, "fetched the weights of round ")
        })
        .await;
    let status = damaged.dashboard.status();
    assert!(
        says(&status, ": 0.0 MB of 3.3 MB from peers"),
        "{:#?}",
        status.events
    );
    let goal = rounds(&status) + 2;
    agree_from(&damaged, &one, goal).await;
    for node in [one, two, damaged] {
        node.end().await.unwrap();
    }
}

/// A run of one founder that starts from a model file with random weights. Its rounds are so long
/// that a newcomer is not 64 of them behind, and needs no newer weights.
fn place_of_imported(model: &Path) -> Place {
    let spec = ModelSpec::preset("nano").unwrap();
    let values = weal_trainer::initial_weights(&spec, &[7; 32]).unwrap();
    let export = Export::new(&spec, &values, &Tokeniser::Bytes).unwrap();
    export
        .write_folder(model, FloatFormat::F32, &mut |_, _| {})
        .unwrap();
    place_of(1, |run| {
        run.model.checkpoint = Some(model.to_owned());
        run.inner.steps = 20;
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn imported_weights_are_fetched_into_their_file_and_what_is_there_already_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let place = place_of_imported(&dir.path().join("model"));
    let founder = place.start(&place.founders[0], |_| {}).await;
    let status = founder
        .wait_for("a round", |status| rounds(status) >= 1)
        .await;
    let manifest = place.founders[0].manifest().unwrap().unwrap();
    let blob = named_blobs(&manifest).remove(0);
    let of = |folder: &Folder| blobs::path(&folder.blobs(), &blob.hash);

    // What an earlier attempt left: the first two chunks, and one that is not whole.
    let folder = place.newcomer_folder();
    let mut earlier = std::fs::read(of(&place.founders[0])).unwrap();
    assert_eq!(earlier.len() as u64, blob.bytes);
    earlier[2 * CHUNK_BYTES + 9] ^= 1;
    std::fs::create_dir_all(folder.parts()).unwrap();
    let part = folder.parts().join(format!("{}.part", blob.hash));
    std::fs::write(&part, &earlier[..3 * CHUNK_BYTES]).unwrap();

    let shown = std::sync::Mutex::new(Vec::new());
    let tell = |progress: Progress<'_>| {
        if let Progress::Fetch(Some(fetch)) = progress
            && fetch.what == INITIAL_WEIGHTS
        {
            shown.lock().unwrap().push(fetch);
        }
    };
    // So that the rest takes a few seconds.
    let slowly = |settings: &mut Settings| settings.network.max_download = ByteCount(300_000);
    place.join_with(&status.run.link, &tell, slowly).await;
    let shown = shown.into_inner().unwrap();
    assert!(
        shown.iter().all(|fetch| fetch.bytes == blob.bytes),
        "{shown:?}"
    );
    let found = shown
        .iter()
        .map(|fetch| fetch.bytes_done)
        .find(|bytes| *bytes > 0);
    assert!(found >= Some(2 * CHUNK_BYTES as u64), "{shown:?}");
    assert!(!part.exists());
    assert!(std::fs::read(of(&folder)).unwrap() == std::fs::read(of(&place.founders[0])).unwrap());

    let newcomer = place.start(&folder, |_| {}).await;
    let goal = rounds(&founder.dashboard.status()) + 2;
    let ours = agree_from(&newcomer, &founder, goal).await;
    let received = ours.traffic["blob"].bytes_received;
    assert!(received < blob.bytes, "fetched again: {received}");
    newcomer.end().await.unwrap();
    founder.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_that_is_interrupted_keeps_what_it_has_of_a_checkpoint_and_catches_up() {
    let place = place(1);
    // Its rounds are so short that the newcomer, which is slow on purpose, needs more of them.
    let many = |settings: &mut Settings| settings.keep.checkpoints = 100;
    let founder = place.start(&place.founders[0], many).await;
    // From 64 rounds behind on, a node fetches weights.
    let status = founder
        .wait_for("70 rounds", |status| rounds(status) >= 70)
        .await;
    let folder = place.join(&status.run.link).await;
    let slowly = |settings: &mut Settings| settings.network.max_download = ByteCount(300_000);
    let slow = place.start(&folder, slowly).await;
    let is_under_way = |status: &Snapshot| {
        let received = status.traffic.get("blob").map(|blob| blob.bytes_received);
        let message = &status.node.message;
        message.contains("fetching the weights of round ") && received > Some(900_000)
    };
    slow.wait_for("part of the weights", is_under_way).await;
    slow.end().await.unwrap();
    let files = WeightFiles::new(folder.weights());
    assert!(files.rounds().unwrap().is_empty(), "it needs no others");
    let partial = PartialWeights::all(&files).unwrap();
    let [partial] = &partial[..] else {
        panic!("{partial:?}")
    };

    let newcomer = place.start(&folder, |_| {}).await;
    let text = format!("fetched the weights of round {}: ", partial.id.round);
    let status = newcomer.wait_for(&text, |status| says(status, &text)).await;
    assert!(!says(&status, "3.3 MB of 3.3 MB"), "{:#?}", status.events);
    let goal = rounds(&founder.dashboard.status()) + 2;
    agree_from(&newcomer, &founder, goal).await;
    newcomer.end().await.unwrap();
    founder.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_whose_power_was_cut_while_it_caught_up_applies_the_rounds_again() {
    // Its rounds are so long that a newcomer is not 64 of them behind.
    let place = place_of(1, |run| run.inner.steps = 20);
    let founder = place.start(&place.founders[0], |_| {}).await;
    let status = founder
        .wait_for("nine rounds", |status| rounds(status) >= 9)
        .await;
    let folder = place.join(&status.run.link).await;
    let newcomer = place.start(&folder, |_| {}).await;
    agree_from(&newcomer, &founder, 9).await;
    newcomer.end().await.unwrap();

    // What such a cut may leave: names without content, behind weights that were synced.
    let files = WeightFiles::new(folder.weights());
    for round in files.rounds().unwrap() {
        if round > RoundNumber(0) {
            files.remove(round).unwrap();
        }
    }
    let bytes = std::fs::metadata(files.path(RoundNumber(0))).unwrap().len();
    std::fs::write(files.path(RoundNumber(5)), vec![0; bytes as usize]).unwrap();
    std::fs::write(files.path(RoundNumber(6)), []).unwrap();

    let newcomer = place.start(&folder, |_| {}).await;
    let goal = rounds(&founder.dashboard.status()) + 1;
    let status = agree_from(&newcomer, &founder, goal).await;
    assert!(
        !says(&status, "fetched the weights"),
        "{:#?}",
        status.events
    );
    newcomer.end().await.unwrap();
    founder.end().await.unwrap();
}
