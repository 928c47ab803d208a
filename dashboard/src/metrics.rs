//! `/metrics`: what Prometheus scrapes, in OpenMetrics text.
//!
//! Base units only, no rates, and a counter with its cause for everything that is dropped. The doc
//! line of each metric is also its help text. Counters that the node counts itself are set to the
//! node's figure.

use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::snapshot::{NodeState, Phase, PhaseSeconds, RoundRecord, Snapshot};

/// The media type of what [`Metrics::encode`] writes.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All names begin with it.
const PREFIX: &str = "commonweal";

type Count = Counter<u64>;
type Seconds = Counter<f64, AtomicU64>;
type Whole = Gauge<u64, AtomicU64>;
type Real = Gauge<f64, AtomicU64>;

/// Declares the metrics, their names and help texts, and a constructor that registers them all.
macro_rules! metrics {
    ($(#[doc = $help:literal] $field:ident: $kind:ty = $name:literal;)+) => {
        /// Every metric of a node.
        #[derive(Debug)]
        pub(crate) struct Metrics {
            registry: Registry,
            /// The labels that `node_info` has, so that they can be taken back.
            described: Mutex<Option<NodeLabels>>,
            $(#[doc = $help] $field: $kind,)+
        }

        impl Metrics {
            /// Registers every metric, all at zero.
            pub fn new() -> Self {
                let mut registry = Registry::with_prefix(PREFIX);
                $(let $field = <$kind>::default();
                registry.register($name, help_text($help), $field.clone());)+
                let metrics = Self { registry, described: Mutex::default(), $($field,)+ };
                // No loss is known yet, and 0 would be a very good one.
                metrics.heldout_loss.set(f64::NAN);
                metrics.train_loss.set(f64::NAN);
                metrics
            }
        }
    };
}

metrics! {
    /// Always 1; its labels say what runs here, and what it trains.
    node_info: Family<NodeLabels, Whole> = "node_info";
    /// When the node last published its state, in seconds since 1970.
    published: Real = "published_timestamp_seconds";
    /// Seconds since the node's start.
    uptime: Real = "uptime_seconds";
    /// 1 for the state that the node is in, 0 for the others.
    state: Family<StateLabels, Whole> = "node_state";
    /// Number of the round under way.
    round: Whole = "round";
    /// 1 for the phase that the round is in, 0 for the others.
    phase: Family<PhaseLabels, Whole> = "round_phase";
    /// Inner steps done in the round under way.
    steps_done: Whole = "round_steps_done";
    /// Inner steps that the round under way asks for.
    steps: Whole = "round_steps";
    /// 1 while the device that trains is lost, 0 while it works; `node_info` names the device.
    device_lost: Whole = "device_lost";
    /// Failures of the device that trains, in mid-run.
    devices_lost: Count = "devices_lost";
    /// Inner steps that were skipped, since loss or gradient was not finite.
    skipped_steps: Count = "skipped_steps";
    /// Returns to the agreed weights within a round, since training led to values that are not
    /// finite.
    restorations: Count = "weight_restorations";
    /// Rounds in which this node learnt nothing for that reason.
    diverged_rounds: Count = "diverged_rounds";
    /// Decided rounds that this process has seen.
    rounds: Count = "rounds";
    /// Seconds spent in decided rounds, by phase.
    phase_seconds: Family<PhaseLabels, Seconds> = "phase_seconds";
    /// Contributions applied in the rounds that this process has seen.
    contributions: Count = "contributions";
    /// Contributions applied in the last decided round.
    last_contributions: Whole = "last_round_contributions";
    /// Weight behind the last certificate, as a share of the roster's weight.
    last_certificate: Real = "last_round_certificate_weight_ratio";
    /// Held-out loss of the agreed weights, in nats per byte, when last measured.
    heldout_loss: Real = "heldout_loss_nats_per_byte";
    /// Mean training loss of this node in its last round, in nats per byte.
    train_loss: Real = "train_loss_nats_per_byte";
    /// Tokens that all applied contributions were trained on since the run's start.
    tokens: Whole = "run_tokens";
    /// Peers that the node is connected to, itself left out.
    peers_connected: Whole = "peers_connected";
    /// Peers that vote in this round.
    voters: Whole = "voters";
    /// Peers whose weights differ from ours; more than none means that somebody has to repair
    /// himself.
    peers_diverged: Whole = "peers_state_root_differs";
    /// Bytes sent, by kind of traffic.
    bytes_sent: Family<KindLabels, Count> = "sent_bytes";
    /// Bytes received, by kind of traffic.
    bytes_received: Family<KindLabels, Count> = "received_bytes";
    /// Messages, contributions and connections dropped, by cause.
    dropped: Family<CauseLabels, Count> = "dropped";
    /// Requests that the dashboard refused, by cause.
    refused: Family<RefusedLabels, Count> = "dashboard_refused_requests";
}

/// What is running, as labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NodeLabels {
    version: String,
    node: String,
    run: String,
    run_name: String,
    device: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: NodeState,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    phase: Phase,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabels {
    cause: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    cause: Refused,
}

/// Why the dashboard refused a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Refused {
    /// It was made under a name that is not this machine's.
    ForeignHost,
    /// Too many event streams are open.
    TooManyStreams,
}

impl EncodeLabelValue for Refused {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let cause = match self {
            Self::ForeignHost => "foreign_host",
            Self::TooManyStreams => "too_many_streams",
        };
        cause.encode(encoder)
    }
}

impl EncodeLabelValue for NodeState {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.name().encode(encoder)
    }
}

impl EncodeLabelValue for Phase {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.name().encode(encoder)
    }
}

impl Metrics {
    /// All metrics as OpenMetrics text.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// Counts a request that was not answered.
    pub fn refuse(&self, cause: Refused) {
        self.refused.get_or_create(&RefusedLabels { cause }).inc();
    }

    /// Counts a decided round; to be called once for each.
    pub fn round_decided(&self, record: &RoundRecord) {
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

    /// Sets what belongs to the newest record.
    pub fn newest_round(&self, record: &RoundRecord) {
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

    /// Sets everything that a snapshot says, its records left out.
    pub fn update(&self, snapshot: &Snapshot) {
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
        ] {
            counter.inner().fetch_max(figure, Ordering::Relaxed);
        }
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
        let diverged = snapshot
            .peers
            .iter()
            .filter(|peer| peer.state_root_agrees == Some(false));
        self.peers_diverged.set(diverged.count() as u64);
    }

    fn update_counters(&self, snapshot: &Snapshot) {
        for (kind, bytes) in &snapshot.traffic {
            let labels = KindLabels { kind: kind.clone() };
            raise(&self.bytes_sent, &labels, bytes.bytes_sent);
            raise(&self.bytes_received, &labels, bytes.bytes_received);
        }
        for (cause, count) in &snapshot.dropped {
            raise(
                &self.dropped,
                &CauseLabels {
                    cause: cause.clone(),
                },
                *count,
            );
        }
    }

    /// Keeps exactly one `node_info`, though the device is known later than the rest.
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

/// Sets a counter to the node's own figure; a smaller one would look like a restart, and is left
/// out.
fn raise<L>(family: &Family<L, Count>, labels: &L, figure: u64)
where
    L: Clone + Eq + Hash,
{
    family
        .get_or_create(labels)
        .inner()
        .fetch_max(figure, Ordering::Relaxed);
}

/// The registry ends every help text with a full stop of its own.
fn help_text(doc: &str) -> &str {
    doc.trim().trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Learner, Node, Peer};

    fn line<'a>(text: &'a str, start: &str) -> &'a str {
        text.lines()
            .find(|line| line.starts_with(start))
            .unwrap_or_else(|| panic!("no {start} in\n{text}"))
    }

    #[test]
    fn the_doc_line_is_the_help_text() {
        let text = Metrics::new().encode().unwrap();
        assert_eq!(
            line(&text, "# HELP commonweal_voters"),
            "# HELP commonweal_voters Peers that vote in this round."
        );
    }

    #[test]
    fn no_loss_is_told_before_one_is_measured() {
        let text = Metrics::new().encode().unwrap();
        assert_eq!(
            line(&text, "commonweal_heldout_loss"),
            "commonweal_heldout_loss_nats_per_byte NaN"
        );
    }

    #[test]
    fn what_was_dropped_is_counted_by_cause() {
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
    fn a_device_that_is_known_later_replaces_the_description() {
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
    fn a_lost_device_shows_while_it_is_away_and_counts_for_ever() {
        let metrics = Metrics::new();
        for device_lost in [true, false] {
            let learner = Learner {
                device_lost,
                devices_lost: 1,
                skipped_steps: 3,
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
        }
    }

    #[test]
    fn a_node_is_not_its_own_peer() {
        let metrics = Metrics::new();
        let peer = |id: &str| Peer {
            id: id.into(),
            connected: true,
            voter: true,
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
    }
}
