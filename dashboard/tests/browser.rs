//! Tests the page in headless Chromium: what it draws, how it reacts when the node stops, and that
//! the console stays empty.
//!
//! Skipped without Chromium, unless `WEAL_REQUIRE_ALL=1`. Screenshots are kept in the folder
//! `WEAL_PICTURES`, if set.

#![allow(clippy::print_stdout, clippy::print_stderr)] // a developer reads it
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use weal_dashboard::{
    Access, Dashboard, Error, Floor, Node, NodeState, Peer, PeerRound, Phase, PhaseSeconds, Round,
    RoundRecord, Run, Snapshot, serve,
};
use weal_testing::browser::{Browser, BrowserError, Tab, Visit, Window, visit};

const PATIENCE: Duration = Duration::from_secs(30);

/// A served dashboard.
struct Site {
    runtime: Runtime,
    dashboard: Dashboard,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<Result<(), Error>>>,
    pictures: TempDir,
}

impl Site {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let mut site = Self {
            runtime,
            dashboard: Dashboard::new(),
            address: ([127, 0, 0, 1], 0).into(),
            stop: None,
            server: None,
            pictures: tempfile::tempdir().unwrap(),
        };
        site.start();
        site
    }

    fn start(&mut self) {
        // A stopped server leaves its dashboard closed, as in a stopped node.
        self.dashboard = Dashboard::new();
        let listener = self
            .runtime
            .block_on(TcpListener::bind(self.address))
            .unwrap();
        self.address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        self.stop = Some(stop);
        self.server = Some(self.runtime.spawn(serve(
            listener,
            self.dashboard.clone(),
            Access::default(),
            async {
                let _ = stopped.await;
            },
        )));
    }

    fn stop(&mut self) {
        drop(self.stop.take());
        let server = self.server.take().unwrap();
        self.runtime.block_on(server).unwrap().unwrap();
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    fn picture(&self, name: &str) -> PathBuf {
        let folder = std::env::var_os("WEAL_PICTURES")
            .map_or(self.pictures.path().to_owned(), PathBuf::from);
        folder.join(name)
    }

    /// Opens the page; `None` if the test is skipped.
    fn open(&self) -> Option<Tab> {
        let browser = allow_missing(Browser::start())?;
        Some(browser.open(&self.url(), Window::default()).unwrap())
    }
}

fn allow_missing<T>(result: Result<T, BrowserError>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) if error.may_skip() => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn snapshot(rounds: u64) -> Snapshot {
    Snapshot {
        run: Run {
            id: "ab".repeat(32),
            name: "meadow".into(),
            link: "weal:abab?peer=/ip4/10.0.0.2/tcp/1".into(),
            ..Run::default()
        },
        node: Node {
            id: "01".repeat(32),
            state: NodeState::Training,
            version: "0.1.0".into(),
            ..Node::default()
        },
        round: Round {
            number: rounds,
            phase: Phase::Train,
            steps_done: 6,
            steps: 10,
            ..Round::default()
        },
        history: (0..rounds).map(record).collect(),
        peers: (1..=4).map(peer).collect(),
        floors: vec![Floor {
            name: "bigram <b>".into(),
            nats_per_byte: 2.46,
        }],
        ..Snapshot::default()
    }
}

fn record(round: u64) -> RoundRecord {
    RoundRecord {
        round,
        heldout_nats_per_byte: Some(1.5 + 4.0 / (round + 2) as f64),
        train_nats_per_byte: Some(1.4 + 4.0 / (round + 2) as f64),
        tokens: 10_000 * (round + 1),
        contributions: 4,
        contributors: (1..=4).map(|index| peer(index).id).collect(),
        root: format!("{round:02x}").repeat(32),
        certificate_voters: 4,
        certificate_weight: 4,
        roster_weight: 4,
        seconds: 5.0,
        phases: PhaseSeconds {
            train: 4.0,
            commit: 0.4,
            fetch: 0.2,
            attest: 0.2,
            decide: 0.1,
            apply: 0.1,
        },
        bytes_sent: 1000,
        bytes_received: 3000,
    }
}

fn peer(index: u64) -> Peer {
    Peer {
        id: format!("{index:02x}").repeat(32),
        voter: true,
        weight: 1,
        connected: true,
        this_round: PeerRound::Committed,
        state_root_agrees: Some(true),
        ..Peer::default()
    }
}

#[test]
fn the_page_shows_the_run_and_the_console_stays_empty() {
    let site = Site::new();
    site.dashboard.publish(snapshot(12));
    let wanted = Visit {
        loss_points: 12,
        peers: 4,
        ..Visit::new(site.url(), site.picture("page.png"))
    };
    let Some(seen) = allow_missing(visit(&wanted)) else {
        return;
    };
    assert_eq!((seen.loss_points, seen.peers), (12, 4));
    assert_eq!(seen.sentence, "Round 12: training, step 6 of 10");
    assert_eq!(seen.roots[0], "0b".repeat(32));
    assert_eq!(seen.console_errors, [""; 0]);
    assert!(std::fs::metadata(&seen.screenshot).unwrap().len() > 10_000);
}

#[test]
fn a_new_round_is_drawn_in_place_and_the_axis_can_be_changed() {
    let site = Site::new();
    site.dashboard.publish(snapshot(3));
    let Some(mut tab) = site.open() else { return };
    tab.wait_for(
        "document.querySelector('main').dataset.lossPoints === '3'",
        PATIENCE,
    )
    .unwrap();
    tab.evaluate("void (window.plot = document.querySelector('#chart .main-svg'))")
        .unwrap();
    site.dashboard.publish(snapshot(4));
    tab.wait_for(
        "document.querySelector('main').dataset.lossPoints === '4'",
        PATIENCE,
    )
    .unwrap();
    assert_eq!(tab.evaluate("window.plot.isConnected").unwrap(), true);

    tab.evaluate("document.querySelector('input[value=tokens]').click()")
        .unwrap();
    tab.wait_for(
        "document.querySelector('#chart .xtitle').textContent === 'tokens'",
        PATIENCE,
    )
    .unwrap();
    assert_eq!(
        tab.evaluate("document.getElementById('chart').data[1].x.at(-1)")
            .unwrap(),
        40_000
    );
    assert_eq!(tab.console_errors().unwrap(), [""; 0]);
}

#[test]
fn the_join_command_is_copied() {
    let site = Site::new();
    site.dashboard.publish(snapshot(1));
    let Some(mut tab) = site.open() else { return };
    tab.wait_for(
        "!document.getElementById('copy-command').disabled",
        PATIENCE,
    )
    .unwrap();
    tab.evaluate("document.getElementById('copy-command').click()")
        .unwrap();
    tab.wait_for(
        "document.getElementById('toast').textContent === 'Command copied'",
        PATIENCE,
    )
    .unwrap();
    let shown = tab
        .evaluate("document.getElementById('invite-command').textContent")
        .unwrap();
    assert_eq!(shown, "weal join 'weal:abab?peer=/ip4/10.0.0.2/tcp/1'");
}

#[test]
fn text_from_peers_is_never_markup() {
    let site = Site::new();
    let mut hostile = snapshot(2);
    let markup = "<img src=x onerror=alert(1)><script>document.title='owned'</script>";
    hostile.peers[1].name = markup.into();
    hostile.peers[1].address = markup.into();
    hostile.peers[2].this_round = PeerRound::Invalid {
        reason: markup.into(),
    };
    hostile.node.message = markup.into();
    hostile.floors[0].name = markup.into();
    hostile.history[0].root = markup.into();
    hostile.dropped.insert(markup.into(), 1);
    site.dashboard.publish(hostile);
    let Some(mut tab) = site.open() else { return };
    tab.wait_for(
        "document.querySelector('main').dataset.lossPoints === '2'",
        PATIENCE,
    )
    .unwrap();
    assert_eq!(
        tab.evaluate("document.querySelectorAll('img, body script').length")
            .unwrap(),
        0
    );
    assert_eq!(
        tab.evaluate("document.title").unwrap(),
        "meadow · Commonweal"
    );
    assert_eq!(
        tab.evaluate("document.getElementById('message').textContent")
            .unwrap(),
        markup
    );
    tab.screenshot(&site.picture("hostile.png")).unwrap();
    assert_eq!(tab.console_errors().unwrap(), [""; 0]);
}

#[test]
fn a_starting_node_is_shown_without_a_curve() {
    let site = Site::new();
    let Some(mut tab) = site.open() else { return };
    let node = Node {
        message: "opening the device".into(),
        ..Node::default()
    };
    site.dashboard.publish(Snapshot {
        node,
        ..Snapshot::default()
    });
    tab.wait_for(
        "document.getElementById('sentence').textContent === 'Starting'",
        PATIENCE,
    )
    .unwrap();
    assert_eq!(
        tab.evaluate("document.getElementById('chart-empty').hidden")
            .unwrap(),
        false
    );
    tab.screenshot(&site.picture("starting.png")).unwrap();
    assert_eq!(tab.console_errors().unwrap(), [""; 0]);
}

#[test]
fn the_page_shows_that_the_node_is_gone_and_reconnects() {
    let mut site = Site::new();
    site.dashboard.publish(snapshot(3));
    let Some(mut tab) = site.open() else { return };
    tab.wait_for(
        "document.querySelector('main').dataset.lossPoints === '3'",
        PATIENCE,
    )
    .unwrap();
    site.stop();
    tab.wait_for("!document.getElementById('banner').hidden", PATIENCE)
        .unwrap();
    tab.screenshot(&site.picture("gone.png")).unwrap();

    site.start();
    site.dashboard.publish(snapshot(5));
    tab.wait_for(
        "document.querySelector('main').dataset.lossPoints === '5'",
        PATIENCE,
    )
    .unwrap();
    tab.wait_for("document.getElementById('banner').hidden", PATIENCE)
        .unwrap();
}

#[test]
fn the_page_fits_every_window_width() {
    let site = Site::new();
    site.dashboard.publish(snapshot(70));
    let Some(mut tab) = site.open() else { return };
    tab.wait_for(
        "document.querySelector('main').dataset.lossPoints === '70'",
        PATIENCE,
    )
    .unwrap();
    for width in [320, 390, 760, 900, 1280, 1920] {
        tab.resize(Window {
            width,
            height: 800,
            dark: width % 20 == 0,
        })
        .unwrap();
        tab.wait_for(
            &format!("document.documentElement.clientWidth === {width}"),
            PATIENCE,
        )
        .unwrap();
        let cut = "[...document.querySelectorAll('html, main, .hero, .phases, .figures, .card')] \
                   .filter((part) => part.scrollWidth > part.clientWidth) \
                   .map((part) => `${part.tagName} ${part.className}: ` + \
                     `${part.scrollWidth} > ${part.clientWidth}`)";
        assert_eq!(
            tab.evaluate(cut).unwrap(),
            serde_json::json!([]),
            "too narrow at {width} pixels"
        );
    }
    assert_eq!(tab.console_errors().unwrap(), [""; 0]);
}
