//! The pages of `docs/reference/` and the snapshots of errors in `node/tests/snapshots/` are
//! generated from the program. A test fails when a file differs; `WEAL_BLESS=1` rewrites it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cli;
mod generated;
mod keys;
mod markdown;
mod mistakes;

use std::fmt::Write;
use std::path::PathBuf;

use clap::CommandFactory;
use weal::cli::Cli;
use weal::new_run::RunFile;
use weal::settings::Settings;

use markdown::{escape, wrap};

/// The head of a page.
fn page(title: &str, intro: &str) -> String {
    let note =
        "<!-- Generated from the code by `WEAL_BLESS=1 cargo test -p weal --test reference`. -->";
    format!("# {title}\n\n{note}\n\n{}\n", wrap(intro, ""))
}

fn assert_page(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/reference");
    generated::assert_file(&path.join(name), text);
}

#[test]
fn the_page_about_the_command_line_matches_the_code() {
    let mut text = page(
        "Command line",
        "Flags override environment variables, and both override `settings.toml`. Every command \
         also takes the options of `weal` itself.",
    );
    text.push_str(&cli::commands(&Cli::command()));
    assert_page("cli.md", &text);
}

#[test]
fn the_page_about_settings_matches_the_code() {
    let mut text = page(
        "settings.toml",
        "How this machine takes part in a run. The node writes the file with its defaults on the \
         first run; the settings are local, and a restart of the node applies them.",
    );
    let command = Cli::command();
    let run = command.find_subcommand("run").unwrap();
    text.push_str(&keys::tables(&Settings::default(), &|key, _| {
        cli::flags_of_setting(run, key)
    }));
    assert_page("settings.md", &text);
}

#[test]
fn the_page_about_the_run_file_matches_the_code() {
    let mut text = page(
        "run.toml",
        "A run, as `weal new` and `weal import` write it. The first `weal run` in its folder turns \
         it into the manifest, whose hash is the run's id; from then on it cannot be changed.",
    );
    let command = Cli::command();
    text.push_str(&keys::tables(&RunFile::default(), &|_, doc| {
        cli::flags_with_help(&command, &["new", "import"], doc)
    }));
    assert_page("run.md", &text);
}

#[test]
fn the_page_about_exit_codes_matches_the_code() {
    let mut text = page(
        "Exit codes",
        "Every command ends with one of these codes. A supervisor can tell from them whether \
         starting the node again makes sense.",
    );
    text.push_str("\n| code | meaning |\n|---|---|\n");
    for (code, meaning) in weal::error::exit_codes() {
        writeln!(text, "| {code} | {} |", escape(meaning)).unwrap();
    }
    assert_page("exit-codes.md", &text);
}

#[test]
fn the_page_about_metrics_matches_the_code() {
    let mut text = page(
        "Metrics",
        "A node serves these metrics at `/metrics` of its page: in the text format of Prometheus, or in \
         that of OpenMetrics if the scraper asks for it.",
    );
    text.push_str("\n| metric | type | unit | labels | meaning |\n|---|---|---|---|---|\n");
    for metric in weal_dashboard::metrics_reference() {
        let labels: Vec<_> = metric
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        writeln!(
            text,
            "| `{}` | {} | {} | {} | {} |",
            metric.name,
            metric.kind,
            metric.unit.unwrap_or(""),
            labels.join(", "),
            escape(&metric.help)
        )
        .unwrap();
    }
    assert_page("metrics.md", &text);
}
