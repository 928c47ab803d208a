//! Two nodes behind two home routers, which have never met, join by pasting one link and train a
//! model; each sends more than 1 MB of contributions. A node joins before its line is up. And a
//! node takes part again after it slept, got another address, or lost its interface.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use weal_dashboard::{Level, NodeState, RoundRecord, Snapshot};
use weal_testing::lab::{Home, Lab, Place, can_make_labs};
use weal_testing::require::skip;
use weal_testing::wait_for;
use weal_tests::net::{alone, program};

const MINUTE: Duration = Duration::from_secs(60);
/// Flags of every node; the port follows.
const FLAGS: [&str; 6] = ["--no-mdns", "--device", "cpu", "--threads", "1", "--port"];

/// A node in a home.
struct HomeNode {
    place: Place,
    folder: PathBuf,
    process: Option<Child>,
}

impl HomeNode {
    fn new(place: Place, folder: PathBuf) -> Self {
        Self {
            place,
            folder,
            process: None,
        }
    }

    fn weal(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = self.place.command(&program());
        command.args(["--log", "weal=info"]).args(arguments);
        command.arg("--dir").arg(&self.folder);
        command
    }

    fn start(&mut self, arguments: &[&str]) {
        let log = File::create(self.log_file()).unwrap();
        let mut command = self.weal(arguments);
        command.args(FLAGS).arg("7700");
        let started = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.process = Some(started.unwrap());
    }

    fn status(&self) -> Option<Snapshot> {
        let output = self.weal(&["status", "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Rounds that the node knows to be decided, oldest first.
    fn history(&self) -> Vec<RoundRecord> {
        self.status().map(|seen| seen.history).unwrap_or_default()
    }

    /// Sends its process a signal, such as `-STOP`. (`ip netns exec` becomes the program.)
    fn signal(&self, signal: &str) {
        let process = self.process.as_ref().unwrap().id().to_string();
        let sent = std::process::Command::new("kill")
            .args([signal, &process])
            .status();
        assert!(sent.unwrap().success());
    }

    fn log_file(&self) -> PathBuf {
        self.folder.with_extension("log")
    }

    fn log(&self) -> String {
        let text = std::fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let end = lines[lines.len().saturating_sub(25)..].join("\n");
        format!("--- {}\n{end}\n", self.folder.display())
    }
}

impl Drop for HomeNode {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A run with short rounds, of which every contribution carries every value: 630 kB.
const RUN: &str = "
[inner]
steps = 2
batch = 1
[data]
generator_bytes = 200000
[compression]
keep = 4096
[timing]
train_seconds = 8.0
fetch_seconds = 20.0
attest_seconds = 10.0
[membership]
probation_rounds = 2
vesting_rounds = 2
ticket_bits = 8
[trust]
probation = 1
";

/// A founder that everybody reaches, and the link of its run. It only votes: a founder that trains
/// alone is done with a round before a home has begun it.
fn public_node(lab: &mut Lab, root: &TempDir) -> (HomeNode, String) {
    let mut public = HomeNode::new(lab.home(Home::Open), root.path().join("public"));
    let made = public.weal(&["new"]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    std::fs::write(public.folder.join("run.toml"), RUN).unwrap();
    public.start(&["run", "--rounds", "0"]);
    let invited = || {
        public
            .status()
            .is_some_and(|seen| !seen.run.link.is_empty())
    };
    wait_for("the public node's link", MINUTE, invited, || public.log());
    let link = public.status().unwrap().run.link;
    (public, link)
}

#[test]
fn two_homes_join_by_one_link_and_send_more_than_a_megabyte() {
    let _alone = alone();
    if let Err(why) = can_make_labs() {
        return skip("homes behind routers", &why);
    }
    let root = tempfile::tempdir().unwrap();
    let mut lab = Lab::new("h");
    let (public, link) = public_node(&mut lab, &root);
    let mut homes: Vec<_> = ["first", "second"]
        .map(|name| HomeNode::new(lab.home(Home::PortRestricted), root.path().join(name)))
        .into();
    for home in &mut homes {
        home.start(&["join", &link]);
    }
    let logs = || [public.log(), homes[0].log(), homes[1].log()].concat();
    let statuses = || -> Option<Vec<Snapshot>> { homes.iter().map(HomeNode::status).collect() };
    let direct = || {
        let seen = statuses().unwrap_or_default();
        let [first, second] = &seen[..] else {
            return false;
        };
        let other = |seen: &Snapshot, id: &str| {
            let mut peers = seen.peers.iter();
            peers.any(|peer| peer.id == id && peer.connected && !peer.relayed)
        };
        other(first, &second.node.id) && other(second, &first.node.id)
    };
    wait_for(
        "a direct connection between the homes",
        3 * MINUTE,
        direct,
        logs,
    );
    let contribute = || {
        let Some(seen) = statuses() else {
            return false;
        };
        let history = public.status().map(|seen| seen.history).unwrap_or_default();
        let contributed = |id: &String| {
            history
                .iter()
                .any(|record| record.contributors.contains(id))
        };
        seen.iter().all(|seen| contributed(&seen.node.id))
    };
    wait_for(
        "a decided contribution of each home",
        5 * MINUTE,
        contribute,
        logs,
    );
    let sent = || {
        let seen = statuses().unwrap_or_default();
        let sent = |seen: &Snapshot| seen.traffic["blob"].bytes_sent > 1_000_000;
        seen.len() == 2 && seen.iter().all(sent)
    };
    wait_for("a megabyte sent from each home", 3 * MINUTE, sent, logs);
    for seen in statuses().unwrap() {
        assert!(
            seen.node.reachability.contains("cannot reach"),
            "{:?}",
            seen.node
        );
    }
}

#[test]
fn a_node_whose_line_is_down_says_why_it_waits_and_joins_once_the_line_is_up() {
    let _alone = alone();
    if let Err(why) = can_make_labs() {
        return skip("a home whose line is down", &why);
    }
    let root = tempfile::tempdir().unwrap();
    let mut lab = Lab::new("l");
    let (public, link) = public_node(&mut lab, &root);
    let mut home = HomeNode::new(lab.home(Home::Open), root.path().join("home"));
    home.place.unplug();
    home.start(&["join", &link]);
    let logs = || [public.log(), home.log()].concat();
    let warned = || {
        let lines = home.status().map(|seen| seen.events).unwrap_or_default();
        let mut lines = lines.iter();
        lines.any(|line| line.level == Level::Warn && line.text.contains("unreachable"))
    };
    wait_for("a warning with its reason", MINUTE, warned, logs);
    let state = home.status().unwrap().node.state;
    assert_eq!(state, NodeState::CatchingUp);
    home.place.plug_in();
    let joined = || {
        let seen = home.status();
        seen.is_some_and(|seen| {
            seen.node.state != NodeState::CatchingUp && !seen.history.is_empty()
        })
    };
    wait_for("the home takes part", 3 * MINUTE, joined, logs);
}

/// A public node, which only votes, and two homes behind routers, which train.
struct Trio {
    public: HomeNode,
    home: HomeNode,
    /// The home that is interrupted.
    victim: HomeNode,
    /// The public key of its node.
    key: String,
    lab: Lab,
    _root: TempDir,
}

impl Trio {
    /// Starts the nodes, and waits until the victim takes part.
    fn start(name: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut lab = Lab::new(name);
        let (public, link) = public_node(&mut lab, &root);
        let [home, victim] = ["home", "victim"].map(|name| {
            let place = lab.home(Home::PortRestricted);
            let mut home = HomeNode::new(place, root.path().join(name));
            home.start(&["join", &link]);
            home
        });
        let logs = || [public.log(), victim.log()].concat();
        wait_for(
            "the victim's page",
            MINUTE,
            || victim.status().is_some(),
            logs,
        );
        let key = victim.status().unwrap().node.id;
        let trio = Self {
            public,
            home,
            victim,
            key,
            lab,
            _root: root,
        };
        trio.victim_takes_part("at the start");
        trio
    }

    fn nodes(&self) -> [&HomeNode; 3] {
        [&self.public, &self.home, &self.victim]
    }

    fn logs(&self) -> String {
        self.nodes().map(HomeNode::log).concat()
    }

    /// Lets more time pass than a connection lasts without an answer.
    fn connections_end(&self) {
        let until = Instant::now() + Duration::from_secs(25);
        let have_ended = || Instant::now() >= until;
        wait_for("QUIC's timeout of 20 s", MINUTE, have_ended, || self.logs());
    }

    /// Waits until all three nodes have decided a round that begins after this call and has a
    /// contribution of the victim. Then no two of them may differ in any round.
    fn victim_takes_part(&self, when: &str) {
        let decided = self.public.history();
        let running = decided.last().map_or(0, |record| record.round + 1);
        let with_victim = |record: &RoundRecord| {
            record.round > running && record.contributors.contains(&self.key)
        };
        let takes_part = || {
            let mut nodes = self.nodes().into_iter();
            nodes.all(|node| node.history().iter().any(with_victim))
        };
        let what = format!("a decided contribution of the victim {when}");
        wait_for(&what, 5 * MINUTE, takes_part, || self.logs());
        let mut roots = BTreeMap::new();
        for record in self.nodes().into_iter().flat_map(HomeNode::history) {
            let root = roots.entry(record.round).or_insert(record.root.clone());
            assert_eq!(
                *root,
                record.root,
                "round {}\n{}",
                record.round,
                self.logs()
            );
        }
    }
}

#[test]
fn a_node_that_sleeps_changes_its_address_and_loses_its_interface_takes_part_again() {
    let _alone = alone();
    if let Err(why) = can_make_labs() {
        return skip("a home that is interrupted", &why);
    }
    let mut trio = Trio::start("t");

    trio.victim.signal("-STOP");
    trio.connections_end();
    trio.victim.signal("-CONT");
    trio.victim_takes_part("after its sleep");

    trio.lab.change_address(&mut trio.victim.place);
    trio.victim_takes_part("under another address");

    trio.victim.place.unplug();
    trio.connections_end();
    trio.victim.place.plug_in();
    trio.victim_takes_part("after its interface was down");
}
