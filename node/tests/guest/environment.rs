//! What the environment holds: variables that stand for flags, colours, a home.

use std::process::{Command, Stdio};

use weal_testing::require;

use crate::program::{Place, code, stderr, weal};

/// A command that takes every flag of a node, and is quick.
const DOCTOR: [&str; 4] = ["doctor", "--no-measure", "--dir", "node"];

/// Every variable that stands for a flag, from the reference of the command line.
fn variables() -> Vec<String> {
    let page = include_str!("../../../docs/reference/cli.md");
    let words = page.split(|c: char| !(c.is_ascii_uppercase() || c == '_'));
    let mut found: Vec<_> = words
        .filter(|word| word.starts_with("WEAL_"))
        .map(str::to_owned)
        .collect();
    found.sort();
    found.dedup();
    assert!(found.len() >= 12, "{found:?}");
    found
}

#[test]
fn a_flag_s_variable_may_say_yes_and_no_in_any_usual_way() {
    let place = Place::new();
    for value in [
        "1", "0", "yes", "no", "on", "off", "true", "FALSE", "y", "n", "",
    ] {
        let output = place
            .weal(&DOCTOR)
            .env("WEAL_NO_MDNS", value)
            .output()
            .unwrap();
        assert_eq!(code(&output), 0, "{value}: {}", stderr(&output));
    }
    let output = place
        .weal(&DOCTOR)
        .env("WEAL_NO_MDNS", "perhaps")
        .output()
        .unwrap();
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("--no-mdns"), "{}", stderr(&output));
}

#[test]
fn a_variable_that_is_set_to_nothing_is_not_set() {
    let place = Place::new();
    for nothing in ["", " "] {
        for variable in variables() {
            let output = place
                .weal(&DOCTOR)
                .env(&variable, nothing)
                .output()
                .unwrap();
            assert_eq!(code(&output), 0, "{variable}: {}", stderr(&output));
        }
    }
    let output = place
        .weal(&DOCTOR)
        .env("WEAL_MEMORY", "lots")
        .output()
        .unwrap();
    assert_eq!(code(&output), 2);
}

#[test]
fn a_log_filter_that_is_set_to_nothing_logs_as_usual() {
    let place = Place::new();
    let join = || place.join_nobody("1");
    let output = join().env("WEAL_LOG", "weal=nonsense").output().unwrap();
    assert_eq!(code(&output), 2);
    let output = join().env("WEAL_LOG", "").output().unwrap();
    assert_eq!(code(&output), 6, "{}", stderr(&output));
}

#[test]
fn sizes_are_taken_as_people_write_them() {
    let place = Place::new();
    for (variable, values) in [
        ("WEAL_MEMORY", &["2g", "2GB", "2 GiB", "2000000000"][..]),
        ("WEAL_MAX_UPLOAD", &["0", "500000", "2 MB", "1m", "2MB/s"]),
        ("WEAL_MAX_DOWNLOAD", &["0", "10MiB"]),
    ] {
        for value in values {
            let output = place.weal(&DOCTOR).env(variable, value).output().unwrap();
            assert_eq!(code(&output), 0, "{variable}={value}: {}", stderr(&output));
        }
    }
}

#[test]
fn the_files_take_sizes_as_the_flags_do() {
    let place = Place::new();
    place.run(&["new", "--dir", "node"]);
    let run = std::fs::read_to_string(place.path("node/run.toml")).unwrap();
    let changed = run.replace("generator_bytes = 4000000", "generator_bytes = \"4 MB\"");
    assert_ne!(run, changed);
    std::fs::write(place.path("node/run.toml"), changed).unwrap();
    let settings = "[network]\nmax_upload = \"2 MB\"\n[compute]\nmemory = \"2g\"\n";
    std::fs::write(place.path("node/settings.toml"), settings).unwrap();
    // The files are sound: what it lacks is its page's port.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let page = taken.local_addr().unwrap().to_string();
    let output = place.output(&["run", "--dir", "node", "--port", "0", "--page", &page]);
    assert_eq!(code(&output), 5, "{}", stderr(&output));
}

#[test]
fn what_configures_a_testnet_does_not_configure_its_nodes() {
    let place = Place::new();
    let args = [
        "testnet",
        "--peers",
        "1",
        "--rounds",
        "1",
        "--steps",
        "1",
        "--train-seconds",
        "2",
    ];
    let output = place
        .weal(&args)
        .envs([
            ("WEAL_MEMORY", "1k"),
            ("WEAL_PAGE", "127.0.0.1:1"),
            ("WEAL_BOOTSTRAP", "/ip4/127.0.0.1/tcp/9"),
            ("WEAL_DIR", "/nowhere"),
        ])
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

#[test]
fn nobody_gets_as_many_threads_as_a_mistake_asks_for() {
    let place = Place::new();
    for args in [
        &["doctor", "--no-measure", "--threads", "100000"][..],
        &["bench", "codec", "--threads", "100000"],
        &[
            "data",
            "prepare",
            "texts.jsonl",
            "--threads",
            "100000",
            "--out",
            "t",
        ],
    ] {
        let output = place.output(args);
        assert_eq!(code(&output), 2, "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("100000"), "{}", stderr(&output));
    }
}

#[test]
fn a_user_without_a_home_is_told_what_to_set() {
    let place = Place::new();
    let output = Command::new(env!("CARGO_BIN_EXE_weal"))
        .arg("status")
        .env_clear()
        // Where it is not set, the system's list of users counts; this one leads nowhere.
        .env("HOME", "not/absolute")
        .current_dir(place.dir.path())
        .output()
        .unwrap();
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert!(stderr(&output).contains("WEAL_DIR"), "{}", stderr(&output));
}

#[test]
fn the_driver_s_complaints_stay_with_the_driver() {
    let place = Place::new();
    let mut command = weal();
    command
        .args(["doctor", "--no-measure", "--dir", "node"])
        .env_remove("WEAL_DEVICE");
    command
        .env_remove("XDG_RUNTIME_DIR")
        .current_dir(place.dir.path());
    let output = command.output().unwrap();
    assert!(
        !stderr(&output).contains("XDG_RUNTIME_DIR"),
        "{}",
        stderr(&output)
    );
}

/// Runs a command that logs, at a terminal.
fn at_a_terminal(variables: &[(&str, &str)]) -> Option<String> {
    let place = Place::new();
    let link = format!("weal:{}?peer=/ip4/127.0.0.1/tcp/9", "ab".repeat(32));
    let program = env!("CARGO_BIN_EXE_weal");
    let line = format!(
        "{program} --log weal=debug,libp2p_swarm=debug join '{link}' --dir node --patience 1 --no-mdns --page 127.0.0.1:0"
    );
    let output = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .current_dir(place.dir.path())
        .stdin(Stdio::null())
        .env_remove("NO_COLOR")
        .env("TERM", "xterm")
        .envs(variables.iter().copied())
        .output();
    Some(String::from_utf8_lossy(&output.ok()?.stdout).into_owned())
}

#[test]
fn colours_are_for_those_who_want_them() {
    let Some(plain) = at_a_terminal(&[]) else {
        return require::skip("colours", "no program `script`");
    };
    assert!(plain.contains("\u{1b}["), "the test tells nothing: {plain}");
    for unwanted in [
        &[("NO_COLOR", "1")][..],
        &[("TERM", "dumb")],
        &[("CLICOLOR", "0")],
        &[("NO_COLOR", "1"), ("TERM", "dumb")],
    ] {
        let text = at_a_terminal(unwanted).unwrap();
        assert!(!text.contains("\u{1b}["), "{unwanted:?}: {text}");
    }
}
