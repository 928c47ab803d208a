//! Output that nobody reads, or that no disk takes.

#[cfg(target_os = "linux")]
use std::fs::OpenOptions;
use std::process::Stdio;

use crate::program::{Place, code, stderr};

/// Commands that print something; each is run in a folder of [`place`].
const COMMANDS: &[&[&str]] = &[
    &["--help"],
    &["--version"],
    &["key", "--dir", "other"],
    &["new", "--dir", "NEW"],
    &["doctor", "--no-measure"],
    &["doctor", "--no-measure", "--json"],
    &[
        "data",
        "prepare",
        "texts.jsonl",
        "--heldout",
        "20%",
        "--out",
        "NEW",
    ],
    &[
        "data",
        "prepare",
        "texts.jsonl",
        "--heldout",
        "20%",
        "--json",
        "--out",
        "NEW",
    ],
    &["data", "check", "tokens"],
    &["bench", "codec", "--contributions", "1", "--preset", "nano"],
    &[
        "bench",
        "codec",
        "--contributions",
        "1",
        "--preset",
        "nano",
        "--json",
    ],
    &["export", "NEW", "--dir", "node"],
    &["generate", "a", "--tokens", "3", "--dir", "node"],
    &["eval", "text.txt", "--dir", "node"],
    &["eval", "text.txt", "--json", "--dir", "node"],
    &["import", "model", "--dir", "NEW"],
    &["testnet", "prepare", "NEW", "--peers", "1"],
];

fn place() -> Place {
    let place = Place::new();
    place.started_node();
    place.run(&["export", "model", "--dir", "node"]);
    place.run(&[
        "data",
        "prepare",
        "texts.jsonl",
        "--heldout",
        "20%",
        "--out",
        "tokens",
    ]);
    place
}

/// The command's arguments with a goal that does not exist yet.
fn with_goal<'a>(args: &[&'a str], goal: &'a str) -> Vec<&'a str> {
    let goal = |arg: &&'a str| if *arg == "NEW" { goal } else { arg };
    args.iter().map(goal).collect()
}

/// The writing end of a pipe that nobody reads.
pub(crate) fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn a_command_whose_reader_left_ends_quietly() {
    let place = place();
    for (number, args) in COMMANDS.iter().enumerate() {
        let goal = format!("a{number}");
        let args = with_goal(args, &goal);
        let output = place.weal(&args).stdout(closed_pipe()).output().unwrap();
        let errors = stderr(&output);
        assert!(
            [0, 141].contains(&code(&output)),
            "{args:?}: {}: {errors}",
            code(&output)
        );
        assert!(
            !errors.contains("panicked") && !errors.contains("error:"),
            "{args:?}: {errors}"
        );
        assert!(
            !args.contains(&&*goal) || place.path(&goal).exists(),
            "{args:?}: its work is lost"
        );
    }
}

#[test]
fn a_command_whose_log_s_reader_left_too_ends_quietly() {
    let place = place();
    for (number, args) in COMMANDS.iter().enumerate() {
        let goal = format!("b{number}");
        let args = with_goal(args, &goal);
        let mut command = place.weal(&args);
        let status = command
            .stdout(closed_pipe())
            .stderr(closed_pipe())
            .status()
            .unwrap();
        assert!(
            [Some(0), Some(141)].contains(&status.code()),
            "{args:?}: {status}"
        );
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_under_the_output_is_an_error_like_any_other() {
    let place = place();
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    for (number, args) in COMMANDS.iter().enumerate() {
        let goal = format!("c{number}");
        let args = with_goal(args, &goal);
        let output = place.weal(&args).stdout(full()).output().unwrap();
        let errors = stderr(&output);
        assert_eq!(code(&output), 8, "{args:?}: {errors}");
        assert!(
            errors.contains("standard output") && !errors.contains("panicked"),
            "{errors}"
        );
        let goal = format!("d{number}");
        let args = with_goal(&args, &goal);
        let both = place
            .weal(&args)
            .stdout(full())
            .stderr(full())
            .status()
            .unwrap();
        assert!(
            both.code().is_some_and(|code| code != 101),
            "{args:?}: {both}"
        );
    }
}

#[test]
#[cfg(target_os = "linux")]
fn an_error_that_cannot_be_printed_keeps_its_exit_code() {
    let place = Place::new();
    for (args, code) in [(&["fly"][..], 2), (&["eval", "/nowhere.txt"], 4)] {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        for stderr in [Stdio::from(full), closed_pipe()] {
            let status = place.weal(args).stderr(stderr).status().unwrap();
            assert_eq!(status.code(), Some(code), "{args:?}");
        }
    }
}
