//! Line charts as SVG.

use std::fmt::Write as _;

/// A line of a chart.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    /// What it shows.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// A chart.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Chart {
    /// What it shows.
    pub title: &'static str,
    /// What the vertical axis counts.
    pub unit: &'static str,
    /// Its lines.
    pub lines: Vec<Line>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
/// Space for the labels on the left, and on the other sides.
const LEFT: f64 = 64.0;
const MARGIN: f64 = 28.0;
/// Colours that people with colour blindness can tell apart (Okabe and Ito).
const COLOURS: [&str; 8] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8a8a00",
];

/// The range of some numbers, a little wider than they are.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values.filter(|value| value.is_finite()) {
        (least, most) = (least.min(value), most.max(value));
    }
    if least > most {
        return (0.0, 1.0);
    }
    let room = ((most - least) * 0.05).max(1e-9);
    (least - room, most + room)
}

impl Chart {
    /// The chart as an `<svg>` element.
    pub(crate) fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| line.points.iter());
        let across = range(points().map(|point| point.0));
        let up = range(points().map(|point| point.1));
        let x = |value: f64| LEFT + (value - across.0) / (across.1 - across.0) * plot_width();
        let y = |value: f64| HEIGHT - MARGIN - (value - up.0) / (up.1 - up.0) * plot_height();
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
            self.title
        );
        for step in 0..=4 {
            let part = f64::from(step) / 4.0;
            let value = up.0 + part * (up.1 - up.0);
            _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{2:.1}\" y2=\"{2:.1}\" class=\"grid\"/>\
                 <text x=\"{3:.1}\" y=\"{4:.1}\" text-anchor=\"end\">{1}</text>",
                WIDTH - MARGIN,
                label(value),
                y(value),
                LEFT - 6.0,
                y(value) + 4.0,
            );
            let value = across.0 + part * (across.1 - across.0);
            _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{:.0}</text>",
                x(value),
                HEIGHT - 8.0,
                value
            );
        }
        for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let path: Vec<String> = line
                .points
                .iter()
                .filter(|point| point.1.is_finite())
                .map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1)))
                .collect();
            _ = writeln!(
                svg,
                "<polyline points=\"{}\" stroke=\"{colour}\"/>",
                path.join(" ")
            );
        }
        svg + "</svg>\n"
    }

    /// The names of its lines in their colours, as HTML.
    pub(crate) fn legend(&self) -> String {
        let lines = self.lines.iter().zip(COLOURS.iter().cycle());
        let entry = |(line, colour): (&Line, &&str)| {
            format!(
                "<span style=\"color:{colour}\">&#9632;</span> {}",
                line.name
            )
        };
        let entries: Vec<String> = lines.map(entry).collect();
        entries.join(" &nbsp; ")
    }
}

fn plot_width() -> f64 {
    WIDTH - LEFT - MARGIN
}

fn plot_height() -> f64 {
    HEIGHT - 2.0 * MARGIN
}

fn label(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_without_points_is_still_a_chart() {
        let empty = Chart {
            title: "nothing",
            unit: "",
            lines: Vec::new(),
        };
        assert!(empty.svg().ends_with("</svg>\n"));
    }

    #[test]
    fn larger_values_stand_higher() {
        let line = Line {
            name: "rising".into(),
            points: vec![(0.0, 1.0), (1.0, 2.0), (2.0, f64::NAN)],
        };
        let chart = Chart {
            title: "one",
            unit: "",
            lines: vec![line],
        };
        let svg = chart.svg();
        let (_, rest) = svg.split_once("polyline points=\"").unwrap();
        let (points, _) = rest.split_once('"').unwrap();
        let heights: Vec<f64> = points
            .split(' ')
            .map(|point| point.split_once(',').unwrap().1.parse().unwrap())
            .collect();
        assert_eq!(heights.len(), 2, "what is not finite is left out");
        assert!(heights[0] > heights[1], "SVG counts from the top");
    }
}
