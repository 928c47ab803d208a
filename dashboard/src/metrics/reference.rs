//! A list of all metrics, for the reference pages.

use std::fmt;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::labels::LabelSet;
use super::set::Metrics;

/// All metric names start with this and an underscore.
pub(super) const PREFIX: &str = "commonweal";

/// One metric of `/metrics`, described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricDoc {
    /// The name to query, such as `commonweal_sent_bytes_total`.
    pub name: String,
    /// Whether the value only rises.
    pub kind: MetricKind,
    /// The base unit, such as `seconds`; none for plain counts, numbers and flags.
    pub unit: Option<&'static str>,
    /// The names of the labels; empty if there is only one series.
    pub labels: &'static [&'static str],
    /// The help text: whole sentences.
    pub help: String,
}

/// How a metric's value moves. Displays as Prometheus writes it: `counter` or `gauge`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only rises, and starts at 0 with the process.
    Counter,
    /// Rises and falls.
    Gauge,
}

impl fmt::Display for MetricKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        })
    }
}

/// Every metric that a node exposes at `/metrics`, in the order in which it is written there.
pub fn metrics_reference() -> Vec<MetricDoc> {
    Metrics::reference()
}

/// A type of metric that can be described without a value of it.
pub(super) trait Described {
    const KIND: MetricKind;
    const LABELS: &'static [&'static str] = &[];
}

impl<N, A> Described for Counter<N, A> {
    const KIND: MetricKind = MetricKind::Counter;
}

impl<N, A> Described for Gauge<N, A> {
    const KIND: MetricKind = MetricKind::Gauge;
}

impl<L: LabelSet, M: Described, C> Described for Family<L, M, C> {
    const KIND: MetricKind = M::KIND;
    const LABELS: &'static [&'static str] = L::NAMES;
}

impl MetricDoc {
    /// Describes a metric of type `M` that is registered under `name`.
    pub(super) fn of<M: Described>(name: &str, help: &str) -> Self {
        // OpenMetrics appends this to the name of every counter.
        let suffix = match M::KIND {
            MetricKind::Counter => "_total",
            MetricKind::Gauge => "",
        };
        Self {
            name: format!("{PREFIX}_{name}{suffix}"),
            kind: M::KIND,
            unit: unit_of(name),
            labels: M::LABELS,
            help: help.trim().to_owned(),
        }
    }
}

/// The unit at the end of a metric's name.
fn unit_of(name: &str) -> Option<&'static str> {
    const UNITS: [(&str, &str); 4] = [
        ("_seconds", "seconds"),
        ("_nats_per_byte", "nats per byte"),
        ("_bytes", "bytes"),
        ("_ratio", "fraction of 1"),
    ];
    UNITS
        .iter()
        .find_map(|(suffix, unit)| name.ends_with(suffix).then_some(*unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(name: &str) -> MetricDoc {
        metrics_reference()
            .into_iter()
            .find(|metric| metric.name == name)
            .unwrap()
    }

    #[test]
    fn the_reference_says_kind_unit_and_labels() {
        let sent = find("commonweal_sent_bytes_total");
        assert_eq!(
            (sent.kind, sent.unit, sent.labels),
            (MetricKind::Counter, Some("bytes"), &["kind"][..])
        );
        let uptime = find("commonweal_uptime_seconds");
        assert_eq!(
            (uptime.kind, uptime.unit, uptime.labels),
            (MetricKind::Gauge, Some("seconds"), &[][..])
        );
    }

    #[test]
    fn every_help_text_is_a_sentence() {
        for MetricDoc { name, help, .. } in metrics_reference() {
            assert!(
                help.ends_with('.') && !help.contains("  "),
                "{name}: {help}"
            );
        }
    }
}
