//! The two text formats of Prometheus, and which one a scraper wants.

use std::collections::BTreeSet;
use std::fmt::Write;

/// A format of `/metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Prometheus' own text format, which every tool reads.
    Prometheus,
    /// OpenMetrics, for those who ask for it.
    OpenMetrics,
}

impl Format {
    /// The format that an `Accept` header prefers.
    pub(crate) fn wanted(accept: &str) -> Self {
        let weight = |media_type: &str| {
            let ranges = accept
                .split(',')
                .filter_map(|range| weight_of(range, media_type));
            ranges.fold(0.0, f64::max)
        };
        let open = weight("application/openmetrics-text");
        if open > 0.0 && open >= weight("text/plain") {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// The media type.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Turns OpenMetrics text into this format.
    pub(crate) fn of_open_metrics(self, text: String) -> String {
        match self {
            Self::OpenMetrics => text,
            Self::Prometheus => plain(&text),
        }
    }
}

/// The weight of a media range of an `Accept` header, if it names this type.
fn weight_of(range: &str, media_type: &str) -> Option<f64> {
    let mut parts = range.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case(media_type) {
        return None;
    }
    let weight = parts.find_map(|part| part.strip_prefix("q="));
    Some(weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0)))
}

/// OpenMetrics names the family of a counter without `_total`, Prometheus' format with it; and it
/// has no units and no end.
fn plain(text: &str) -> String {
    let counters: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut plain = String::with_capacity(text.len());
    for line in text.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        let of_family = ["# HELP ", "# TYPE "].iter().find_map(|start| {
            let (name, rest) = line.strip_prefix(start)?.split_once(' ')?;
            counters.contains(name).then_some((start, name, rest))
        });
        // Writing to a string does not fail.
        let _ = match of_family {
            Some((start, name, rest)) => writeln!(plain, "{start}{name}_total {rest}"),
            None => writeln!(plain, "{line}"),
        };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scraper_gets_the_format_that_it_asks_for() {
        for (accept, format) in [
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/plain;version=0.0.4", Format::Prometheus),
            ("application/openmetrics-text", Format::OpenMetrics),
            (
                "text/html, application/openmetrics-text; version=1.0.0;q=0",
                Format::Prometheus,
            ),
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            (
                "text/plain;version=0.0.4;q=0.7,application/openmetrics-text;q=0.2",
                Format::Prometheus,
            ),
        ] {
            assert_eq!(Format::wanted(accept), format, "{accept}");
        }
    }

    #[test]
    fn counters_are_named_as_promtool_wants_them() {
        let open = "# HELP a_b Bytes.\n# TYPE a_b counter\n# UNIT a_b b\na_b_total{k=\"v\"} 3\n\
                    # HELP c C.\n# TYPE c gauge\nc 1\n# EOF\n";
        let expected = "# HELP a_b_total Bytes.\n# TYPE a_b_total counter\na_b_total{k=\"v\"} 3\n\
                        # HELP c C.\n# TYPE c gauge\nc 1\n";
        assert_eq!(Format::Prometheus.of_open_metrics(open.into()), expected);
    }
}
