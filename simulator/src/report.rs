//! A report of a run: one HTML page that needs nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::chart::{Chart, Line};
use crate::history::{After, Round};
use crate::simulation::Played;
use crate::summary::Summary;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:760px;margin:2rem auto;\
padding:0 1rem;color:#222;background:#fff}svg{width:100%;height:auto}polyline{fill:none;\
stroke-width:2}text{font-size:12px;fill:#555}.grid{stroke:#ddd}table{border-collapse:collapse;\
width:100%}td,th{text-align:right;padding:.2rem .5rem;border-bottom:1px solid #ddd}\
td:first-child,th:first-child{text-align:left}figure{margin:1.5rem 0}";

/// The report as HTML.
pub fn report(played: &Played, honest_only: &Played) -> String {
    let summary = Summary::of(played, honest_only);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>A simulated run</title>\n<style>{STYLE}</style>\n<h1>A simulated run</h1>\n"
    );
    page += &facts(&summary);
    for chart in charts(played, honest_only) {
        _ = writeln!(
            page,
            "<figure><figcaption><b>{}</b>, {}<br>{}</figcaption>\n{}</figure>",
            chart.title,
            chart.unit,
            chart.legend(),
            chart.svg()
        );
    }
    page += &behaviours(played, &summary);
    page += &separation(played);
    page + "</html>\n"
}

fn row(cells: &[String], tag: &str) -> String {
    let cells: String = cells
        .iter()
        .map(|cell| format!("<{tag}>{cell}</{tag}>"))
        .collect();
    format!("<tr>{cells}</tr>\n")
}

fn loss(value: Option<f64>) -> String {
    value.map_or("unknown".into(), |value| format!("{value:.4}"))
}

fn percent(value: f64) -> String {
    format!("{:.2} %", 100.0 * value)
}

fn facts(summary: &Summary) -> String {
    let wrong = match &summary.violation {
        Some(violation) => format!("<p><b>The run failed:</b> {violation}.</p>\n"),
        None => String::new(),
    };
    let excess = summary.excess().map_or("unknown".into(), percent);
    let facts = [
        ("peers", summary.peers.to_string()),
        ("seed", summary.seed.to_string()),
        ("rounds decided", summary.rounds_decided.to_string()),
        ("forks", summary.forks.to_string()),
        (
            "equivocations of honest peers",
            summary.equivocations.to_string(),
        ),
        ("final loss", loss(summary.final_loss)),
        (
            "final loss, honest peers alone",
            loss(summary.final_loss_honest_only),
        ),
        ("excess", excess),
        (
            "honest contributions rejected",
            percent(summary.honest_rejected_share),
        ),
        (
            "bytes a peer sent in a round",
            summary.bytes_per_peer_round.to_string(),
        ),
        ("virtual time", format!("{:.0} s", summary.virtual_s)),
    ];
    let rows: String = facts
        .into_iter()
        .map(|(name, value)| row(&[name.into(), value], "td"))
        .collect();
    format!("{wrong}<table>\n{rows}</table>\n")
}

fn behaviours(played: &Played, summary: &Summary) -> String {
    let head = [
        "behaviour",
        "peers",
        "credit of an honest peer's",
        "share of the votes",
    ];
    let mut table = row(&head.map(String::from), "th");
    let names: BTreeSet<_> = summary.credit.keys().chain(summary.weight.keys()).collect();
    for name in names {
        let peers = (0..played.options.peers).filter(|one| played.name(*one) == *name);
        let share =
            |of: &BTreeMap<&'static str, f64>| percent(of.get(name).copied().unwrap_or(0.0));
        let cells = [
            (*name).to_owned(),
            peers.count().to_string(),
            share(&summary.credit),
            share(&summary.weight),
        ];
        table += &row(&cells, "td");
    }
    format!("<h2>Behaviours</h2>\n<table>\n{table}</table>\n")
}

fn separation(played: &Played) -> String {
    let found = played.separation(0..played.options.rounds);
    if found.is_empty() {
        return String::new();
    }
    let head = [
        "behaviour",
        "net overlap",
        "own work",
        "own loss",
        "held-out loss",
        "combined",
    ];
    let mut table = row(&head.map(String::from), "th");
    for (name, one) in found {
        let values = [one.net, one.work, one.own, one.held, one.combined];
        let values = values.map(|value| format!("{value:.2}"));
        let mut cells = vec![name.to_owned()];
        cells.extend(values);
        table += &row(&cells, "td");
    }
    format!(
        "<h2>What tells them apart</h2>\n<p>The chance that an honest contribution measures more \
         than a dishonest one of the same round: 1 separates, 0.5 says nothing.</p>\n\
         <table>\n{table}</table>\n"
    )
}

fn charts(played: &Played, honest_only: &Played) -> [Chart; 3] {
    let losses = |name: &str, played: &Played| {
        let rounds = played.history.rounds().iter();
        let point = |(number, round): (&u64, &Round)| Some((*number as f64, round.loss?));
        Line {
            name: name.into(),
            points: rounds.filter_map(point).collect(),
        }
    };
    [
        Chart {
            title: "Held-out loss",
            unit: "nats, by round",
            lines: vec![
                losses("all peers", played),
                losses("honest peers alone", honest_only),
            ],
        },
        Chart {
            title: "Share of the votes",
            unit: "percent, by round",
            lines: by_behaviour(played, |after| after.vote as f64, true),
        },
        Chart {
            title: "Contributions chosen",
            unit: "by round",
            lines: by_behaviour(played, |after| f64::from(u8::from(after.chosen)), false),
        },
    ]
}

/// One line for each behaviour: the sum over its peers, or its percentage of all.
fn by_behaviour(played: &Played, of: fn(&After) -> f64, percent: bool) -> Vec<Line> {
    let mut lines: BTreeMap<&'static str, Vec<(f64, f64)>> = BTreeMap::new();
    for (number, round) in played.history.rounds() {
        if round.decided_ms.is_none() {
            continue;
        }
        let mut sums: BTreeMap<&'static str, f64> = BTreeMap::new();
        for (index, after) in &round.after {
            *sums.entry(played.name(*index)).or_default() += of(after);
        }
        let whole: f64 = sums.values().sum();
        let unit = if percent { 100.0 / whole.max(1.0) } else { 1.0 };
        for (name, sum) in sums {
            let points = lines.entry(name).or_default();
            points.push((*number as f64, unit * sum));
        }
    }
    let line = |(name, points): (&'static str, Vec<(f64, f64)>)| Line {
        name: name.into(),
        points,
    };
    lines.into_iter().map(line).collect()
}
