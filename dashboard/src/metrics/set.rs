//! All metrics of a node, and how a snapshot becomes their values.

use std::fmt;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::{
    DropLabels, NodeLabels, PhaseLabels, RefusalLabels, Refused, StateLabels, TrafficLabels,
};
use super::reference::{MetricDoc, PREFIX};
use crate::snapshot::{NodeState, Phase, PhaseSeconds, RoundRecord, Snapshot};

type Count = Counter<u64>;
type Seconds = Counter<f64, AtomicU64>;
type Whole = Gauge<u64, AtomicU64>;
type Real = Gauge<f64, AtomicU64>;

/// Declares the metrics with their names and help texts, a constructor that registers them, and
/// the list of them for the reference.
macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $field:ident: $kind:ty = $name:literal;)+) => {
        /// Every metric of a node.
        #[derive(Debug)]
        pub(crate) struct Metrics {
            registry: Registry,
            /// The labels of the current `node_info` series, to remove it when they change.
            described: Mutex<Option<NodeLabels>>,
            $($(#[doc = $help])+ $field: $kind,)+
        }

        impl Metrics {
            /// Registers every metric: losses as NaN, all others as 0.
            pub(crate) fn new() -> Self {
                let mut registry = Registry::with_prefix(PREFIX);
                $(let $field = <$kind>::default();
                registry.register($name, help_text(concat!($($help),+)), $field.clone());)+
                let metrics = Self { registry, described: Mutex::default(), $($field,)+ };
                // No loss is known yet, and 0 would look like a perfect one.
                metrics.heldout_loss.set(f64::NAN);
                metrics.train_loss.set(f64::NAN);
                metrics
            }

            /// Describes every metric, in the order of registration.
            pub(super) fn reference() -> Vec<MetricDoc> {
                vec![$(MetricDoc::of::<$kind>($name, concat!($($help),+)),)+]
            }
        }
    };
}

metrics! {
    /// Always 1; the labels name the version, node, run and device.
    node_info: Family<NodeLabels, Whole> = "node_info";
    /// Time of the last published snapshot, in seconds since the Unix epoch.
    published: Real = "published_timestamp_seconds";
    /// Seconds since the node started.
    uptime: Real = "uptime_seconds";
    /// 1 for the node's current state, 0 for every other state.
    state: Family<StateLabels, Whole> = "node_state";
    /// Bytes that are here of what this node fetches before it can take part; 0 if it fetches
    /// nothing.
    fetch_done: Whole = "fetch_done_bytes";
    /// Bytes in all of what this node fetches before it can take part; 0 if it fetches nothing.
    fetch_all: Whole = "fetch_bytes";
    /// Number of the current round.
    round: Whole = "round";
    /// 1 for the phase of the current round, 0 for every other phase.
    phase: Family<PhaseLabels, Whole> = "round_phase";
    /// Inner steps this node has done in the current round.
    steps_done: Whole = "round_steps_done";
    /// Inner steps planned for the current round.
    steps: Whole = "round_steps";
    /// 1 while the training device is lost, 0 while it works.
    device_lost: Whole = "device_lost";
    /// Times the training device was lost since the node started.
    devices_lost: Count = "devices_lost";
    /// Inner steps skipped because the loss or a gradient was not finite.
    skipped_steps: Count = "skipped_steps";
    /// Times training produced non-finite values and restarted from the round's weights.
    restorations: Count = "weight_restorations";
    /// Rounds without a contribution from this node because its training diverged.
    diverged_rounds: Count = "diverged_rounds";
    /// Contributions of other peers whose effect on the loss this node measured.
    judged: Count = "judged_contributions";
    /// Seconds that this took.
    judging_seconds: Seconds = "judging_seconds";
    /// Decided rounds this process has seen.
    rounds: Count = "rounds";
    /// Seconds spent in each phase, summed over the decided rounds this process has seen.
    phase_seconds: Family<PhaseLabels, Seconds> = "phase_seconds";
    /// Contributions applied in the decided rounds this process has seen.
    contributions: Count = "contributions";
    /// Contributions applied in the last decided round.
    last_contributions: Whole = "last_round_contributions";
    /// Voting weight behind the last certificate, as a fraction of all voting weight.
    last_certificate: Real = "last_round_certificate_weight_ratio";
    /// Held-out loss of the agreed weights when last measured, in nats per byte.
    heldout_loss: Real = "heldout_loss_nats_per_byte";
    /// Mean training loss of this node in the last round it trained in, in nats per byte.
    train_loss: Real = "train_loss_nats_per_byte";
    /// Tokens that all applied contributions were trained on, since the start of the run.
    tokens: Whole = "run_tokens";
    /// Other peers this node is connected to.
    peers_connected: Whole = "peers_connected";
    /// Peers that vote in the current round.
    voters: Whole = "voters";
    /// Peers that may contribute in the current round.
    peers_placed: Whole = "peers_placed";
    /// How much this node's contribution counts in a step, as a fraction of 1; 0 on probation.
    coefficient: Real = "contribution_coefficient_ratio";
    /// Contributions of this node whose effect voters measured.
    measured: Whole = "contributions_measured";
    /// Peers that report a different state root; always 0 today, because nodes do not report roots.
    peers_diverged: Whole = "peers_state_root_differs";
    /// Bytes sent, by kind of traffic.
    bytes_sent: Family<TrafficLabels, Count> = "sent_bytes";
    /// Bytes received, by kind of traffic.
    bytes_received: Family<TrafficLabels, Count> = "received_bytes";
    /// Messages, contributions and connections dropped, by cause.
    dropped: Family<DropLabels, Count> = "dropped";
    /// Requests the dashboard refused, by cause.
    refused: Family<RefusalLabels, Count> = "dashboard_refused_requests";
}

impl Metrics {
    /// Writes all metrics as OpenMetrics text.
    pub(crate) fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// Counts a refused request.
    pub(crate) fn refuse(&self, cause: Refused) {
        self.refused.get_or_create(&RefusalLabels { cause }).inc();
    }

    /// Counts a decided round. Call it once per round.
    pub(crate) fn round_decided(&self, record: &RoundRecord) {
        self.rounds.inc();
        self.contributions.inc_by(record.contributions);
        self.count_phases(&record.phases);
    }

    fn count_phases(&self, seconds: &PhaseSeconds) {
        for phase in Phase::ALL {
            self.phase_seconds
                .get_or_create(&PhaseLabels { phase })
                .inc_by(seconds.get(phase).max(0.0));
        }
    }

    /// Sets the gauges of the newest decided round.
    pub(crate) fn newest_round(&self, record: &RoundRecord) {
        self.last_contributions.set(record.contributions);
        self.last_certificate
            .set(record.certificate_weight as f64 / record.roster_weight.max(1) as f64);
        self.tokens.set(record.tokens);
        if let Some(loss) = record.heldout_nats_per_byte {
            self.heldout_loss.set(loss);
        }
        if let Some(loss) = record.train_nats_per_byte {
            self.train_loss.set(loss);
        }
    }

    /// Sets everything a snapshot says, except its records.
    pub(crate) fn update(&self, snapshot: &Snapshot) {
        self.describe(snapshot);
        self.published.set(snapshot.unix_ms as f64 / 1000.0);
        self.uptime.set(snapshot.node.uptime_seconds);
        for state in NodeState::ALL {
            self.state
                .get_or_create(&StateLabels { state })
                .set(u64::from(state == snapshot.node.state));
        }
        for phase in Phase::ALL {
            self.phase
                .get_or_create(&PhaseLabels { phase })
                .set(u64::from(phase == snapshot.round.phase));
        }
        let fetch = snapshot.fetch.as_ref();
        self.fetch_done
            .set(fetch.map_or(0, |fetch| fetch.bytes_done));
        self.fetch_all.set(fetch.map_or(0, |fetch| fetch.bytes));
        self.round.set(snapshot.round.number);
        self.steps_done.set(snapshot.round.steps_done);
        self.steps.set(snapshot.round.steps);
        self.update_learner(snapshot);
        self.update_peers(snapshot);
        self.update_counters(snapshot);
    }

    fn update_learner(&self, snapshot: &Snapshot) {
        let learner = &snapshot.learner;
        self.device_lost.set(learner.device_lost.into());
        for (counter, figure) in [
            (&self.devices_lost, learner.devices_lost),
            (&self.skipped_steps, learner.skipped_steps),
            (&self.restorations, learner.restorations),
            (&self.diverged_rounds, learner.diverged_rounds),
            (&self.judged, learner.judged),
        ] {
            counter.inner().fetch_max(figure, Ordering::Relaxed);
        }
        let more = learner.judging_seconds - self.judging_seconds.get();
        self.judging_seconds.inc_by(more.max(0.0));
    }

    fn update_peers(&self, snapshot: &Snapshot) {
        let others = snapshot
            .peers
            .iter()
            .filter(|peer| peer.id != snapshot.node.id);
        self.peers_connected
            .set(others.filter(|peer| peer.connected).count() as u64);
        self.voters
            .set(snapshot.peers.iter().filter(|peer| peer.voter).count() as u64);
        self.peers_placed
            .set(snapshot.peers.iter().filter(|peer| peer.placed).count() as u64);
        let own = snapshot
            .peers
            .iter()
            .find(|peer| peer.id == snapshot.node.id);
        self.coefficient
            .set(own.map_or(0.0, |peer| peer.coefficient));
        self.measured.set(own.map_or(0, |peer| peer.measured));
        let diverged = snapshot
            .peers
            .iter()
            .filter(|peer| peer.state_root_agrees == Some(false));
        self.peers_diverged.set(diverged.count() as u64);
    }

    fn update_counters(&self, snapshot: &Snapshot) {
        for (kind, bytes) in &snapshot.traffic {
            let labels = TrafficLabels { kind: kind.clone() };
            raise(&self.bytes_sent, &labels, bytes.bytes_sent);
            raise(&self.bytes_received, &labels, bytes.bytes_received);
        }
        for (cause, count) in &snapshot.dropped {
            raise(
                &self.dropped,
                &DropLabels {
                    cause: cause.clone(),
                },
                *count,
            );
        }
    }

    /// Keeps exactly one `node_info` series, although the device becomes known after the rest.
    fn describe(&self, snapshot: &Snapshot) {
        let labels = NodeLabels {
            version: snapshot.node.version.clone(),
            node: snapshot.node.id.clone(),
            run: snapshot.run.id.clone(),
            run_name: snapshot.run.name.clone(),
            device: snapshot.node.device.clone(),
        };
        let mut described = self
            .described
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if described.as_ref() == Some(&labels) {
            return;
        }
        if let Some(old) = described.take() {
            self.node_info.remove(&old);
        }
        self.node_info.get_or_create(&labels).set(1);
        *described = Some(labels);
    }
}

/// Raises a counter to the node's own count. A smaller count would look like a restart of the
/// process, so it is ignored.
fn raise<L>(family: &Family<L, Count>, labels: &L, figure: u64)
where
    L: Clone + Eq + Hash,
{
    family
        .get_or_create(labels)
        .inner()
        .fetch_max(figure, Ordering::Relaxed);
}

/// Strips the full stop, because the registry adds one to every help text.
fn help_text(doc: &str) -> &str {
    doc.trim().trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Fetch, Learner, Node, Peer, Traffic};

    fn line<'a>(text: &'a str, start: &str) -> &'a str {
        text.lines()
            .find(|line| line.starts_with(start))
            .unwrap_or_else(|| panic!("no {start} in\n{text}"))
    }

    #[test]
    fn the_doc_comment_is_the_help_text() {
        let text = Metrics::new().encode().unwrap();
        assert_eq!(
            line(&text, "# HELP commonweal_voters"),
            "# HELP commonweal_voters Peers that vote in the current round."
        );
    }

    #[test]
    fn a_loss_is_nan_before_it_is_measured() {
        let text = Metrics::new().encode().unwrap();
        assert_eq!(
            line(&text, "commonweal_heldout_loss"),
            "commonweal_heldout_loss_nats_per_byte NaN"
        );
    }

    #[test]
    fn drops_are_counted_by_cause() {
        let metrics = Metrics::new();
        let dropped = [("late commitment".to_owned(), 7)].into();
        metrics.update(&Snapshot {
            dropped,
            ..Snapshot::default()
        });
        let text = metrics.encode().unwrap();
        assert_eq!(
            line(&text, "commonweal_dropped_total"),
            "commonweal_dropped_total{cause=\"late commitment\"} 7"
        );
    }

    #[test]
    fn a_fetch_is_shown_in_bytes_while_it_lasts() {
        let metrics = Metrics::new();
        for (fetch, done, all) in [(Some((3, 8)), "3", "8"), (None, "0", "0")] {
            let fetch = fetch.map(|(bytes_done, bytes)| Fetch {
                bytes_done,
                bytes,
                ..Fetch::default()
            });
            metrics.update(&Snapshot {
                fetch,
                ..Snapshot::default()
            });
            let text = metrics.encode().unwrap();
            let figure = |name: &str| line(&text, &format!("commonweal_{name} ")).to_owned();
            assert_eq!(
                figure("fetch_done_bytes"),
                format!("commonweal_fetch_done_bytes {done}")
            );
            assert_eq!(
                figure("fetch_bytes"),
                format!("commonweal_fetch_bytes {all}")
            );
        }
    }

    #[test]
    fn a_device_that_becomes_known_replaces_the_node_info() {
        let metrics = Metrics::new();
        for device in ["", "CPU"] {
            let node = Node {
                device: device.into(),
                ..Node::default()
            };
            metrics.update(&Snapshot {
                node,
                ..Snapshot::default()
            });
        }
        let text = metrics.encode().unwrap();
        assert_eq!(
            text.lines()
                .filter(|line| line.starts_with("commonweal_node_info"))
                .count(),
            1
        );
        assert!(line(&text, "commonweal_node_info").contains("device=\"CPU\""));
    }

    #[test]
    fn a_lost_device_sets_a_gauge_and_stays_counted() {
        let metrics = Metrics::new();
        for device_lost in [true, false] {
            let learner = Learner {
                device_lost,
                devices_lost: 1,
                skipped_steps: 3,
                judged: 5,
                judging_seconds: 1.5,
                ..Learner::default()
            };
            metrics.update(&Snapshot {
                learner,
                ..Snapshot::default()
            });
            let text = metrics.encode().unwrap();
            let gauge = format!("commonweal_device_lost {}", u64::from(device_lost));
            assert_eq!(line(&text, "commonweal_device_lost"), gauge);
            assert_eq!(
                line(&text, "commonweal_devices_lost"),
                "commonweal_devices_lost_total 1"
            );
            assert_eq!(
                line(&text, "commonweal_skipped_steps"),
                "commonweal_skipped_steps_total 3"
            );
            assert_eq!(
                line(&text, "commonweal_judging_seconds"),
                "commonweal_judging_seconds_total 1.5"
            );
        }
    }

    #[test]
    fn a_node_is_not_counted_as_its_own_peer() {
        let metrics = Metrics::new();
        let peer = |id: &str| Peer {
            id: id.into(),
            connected: true,
            voter: true,
            placed: true,
            coefficient: 0.5,
            ..Peer::default()
        };
        let node = Node {
            id: "aa".into(),
            ..Node::default()
        };
        metrics.update(&Snapshot {
            node,
            peers: vec![peer("aa"), peer("bb")],
            ..Snapshot::default()
        });
        let text = metrics.encode().unwrap();
        assert_eq!(
            line(&text, "commonweal_peers_connected"),
            "commonweal_peers_connected 1"
        );
        assert_eq!(line(&text, "commonweal_voters"), "commonweal_voters 2");
        assert_eq!(
            line(&text, "commonweal_peers_placed"),
            "commonweal_peers_placed 2"
        );
        assert_eq!(
            line(&text, "commonweal_contribution_coefficient_ratio"),
            "commonweal_contribution_coefficient_ratio 0.5"
        );
    }

    #[test]
    fn the_reference_lists_exactly_what_is_encoded() {
        let metrics = Metrics::new();
        metrics.update(&Snapshot {
            traffic: [("gossip".to_owned(), Traffic::default())].into(),
            dropped: [("late commitment".to_owned(), 1)].into(),
            ..Snapshot::default()
        });
        metrics.round_decided(&RoundRecord::default());
        metrics.refuse(Refused::ForeignHost);
        let text = metrics.encode().unwrap();
        let documented = Metrics::reference();
        for sample in text.lines().filter(|line| !line.starts_with('#')) {
            let name = sample.split(['{', ' ']).next().unwrap();
            let metric = documented.iter().find(|metric| metric.name == name);
            let metric = metric.unwrap_or_else(|| panic!("{name} is not in the reference"));
            for label in metric.labels {
                assert!(sample.contains(&format!("{label}=")), "{label}: {sample}");
            }
        }
        for metric in documented {
            let start = [&metric.name, " "].concat();
            let labelled = [&metric.name, "{"].concat();
            assert!(
                text.lines()
                    .any(|line| line.starts_with(&start) || line.starts_with(&labelled)),
                "{} is not in\n{text}",
                metric.name
            );
        }
    }
}
