//! Common mistakes: each ends with a clear error and its exit code, and loses nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

fn weal(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weal"))
        .args(args)
        .output()
        .expect("a program that starts")
}

/// Runs `weal`, and asserts its exit code and that its message says what is wrong and how to fix
/// it.
fn refuses(args: &[&str], code: i32, says: &[&str]) {
    let output = weal(args);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "weal {args:?}: {message}");
    for part in says {
        assert!(
            message.contains(part),
            "weal {args:?} does not say \"{part}\": {message}"
        );
    }
    assert!(!message.contains("panicked"), "{message}");
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// A folder with a new run on the text of the built-in generator.
fn new_run() -> TempDir {
    let dir = TempDir::new().expect("a temporary folder");
    let output = weal(&["new", "--dir", path(dir.path())]);
    assert!(output.status.success(), "{output:?}");
    dir
}

#[test]
fn wrong_flags_end_with_code_2() {
    refuses(&["testnet", "--peers", "0"], 2, &["--peers", "1 to 64"]);
    refuses(&["fly"], 2, &["fly"]);
}

/// Hides all drivers, so that the machine has no GPU, not even a software one.
#[test]
#[cfg(target_os = "linux")]
fn a_missing_gpu_ends_with_code_7() {
    let dir = new_run();
    let output = Command::new(env!("CARGO_BIN_EXE_weal"))
        .args([
            "run",
            "--device",
            "gpu",
            "--page",
            "127.0.0.1:0",
            "--dir",
            path(dir.path()),
        ])
        .envs(
            [
                "VK_DRIVER_FILES",
                "VK_ICD_FILENAMES",
                "__EGL_VENDOR_LIBRARY_DIRS",
            ]
            .map(|name| (name, "/nonexistent")),
        )
        .output()
        .expect("a program that starts");
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{message}");
    assert!(
        message.contains("GPU's driver") && message.contains("--device cpu"),
        "{message}"
    );
}

#[test]
fn a_model_that_cannot_be_read_or_written_is_named() {
    let dir = TempDir::new().unwrap();
    let folder = path(dir.path());
    let target = dir.path().join("out");
    let (target, file) = (path(&target), format!("{}.gguf", path(&target)));
    refuses(
        &["import", "/nonexistent", "--dir", folder],
        4,
        &["/nonexistent: there is no such folder"],
    );
    refuses(
        &["generate", "--model", "/nonexistent"],
        4,
        &["/nonexistent: there is no such folder"],
    );
    refuses(
        &["export", target, "--type", "q4_0", "--dir", folder],
        2,
        &["--type", "f32, f16 or bf16"],
    );
    refuses(
        &["export", &file, "--type", "f32", "--dir", folder],
        2,
        &["--type", "q4_k or q4_0"],
    );
    refuses(
        &["export", target, "--dir", folder],
        9,
        &["no run", "--dir"],
    );
    refuses(&["eval", "/nonexistent.txt"], 4, &["/nonexistent.txt"]);
    fs::write(dir.path().join("config.json"), r#"{"model_type":"gpt2"}"#).unwrap();
    refuses(&["import", folder, "--dir", folder], 4, &["config.json"]);
}

#[test]
fn an_unknown_preset_names_the_known_ones() {
    let dir = TempDir::new().unwrap();
    refuses(
        &["new", "--dir", path(dir.path()), "--preset", "huge"],
        3,
        &["huge", "nano"],
    );
}

#[test]
fn a_wrong_value_names_its_key_and_the_accepted_values() {
    let dir = new_run();
    let file = dir.path().join("run.toml");
    let sound = fs::read_to_string(&file).unwrap();
    let broken = sound.replace("keep = 32", "keep = 100000");
    assert_ne!(sound, broken);
    fs::write(&file, broken).unwrap();
    refuses(
        &["run", "--dir", path(dir.path())],
        3,
        &["compression.keep", "100000", "1 to 4096"],
    );
}

#[test]
fn an_unknown_setting_is_named() {
    let dir = new_run();
    fs::write(
        dir.path().join("settings.toml"),
        "[network]\nlisten_port = 3\n",
    )
    .unwrap();
    refuses(
        &["run", "--dir", path(dir.path())],
        3,
        &["listen_port", "settings.toml"],
    );
}

#[test]
fn unusable_data_is_named() {
    let dir = TempDir::new().unwrap();
    let empty = dir.path().join("empty.txt");
    fs::write(&empty, "").unwrap();
    let node = dir.path().join("node");
    refuses(
        &["new", "--dir", path(&node), "--data", path(&empty)],
        4,
        &["empty.txt", "empty"],
    );
    refuses(
        &["testnet", "--data", "/nowhere/at/all"],
        4,
        &["/nowhere/at/all", "--data"],
    );
    fs::write(&empty, "too short").unwrap();
    refuses(
        &["new", "--dir", path(&node), "--data", path(&empty)],
        4,
        &["at least 129", "--data"],
    );
}

#[test]
fn a_folder_without_a_run_says_how_to_get_one() {
    let dir = TempDir::new().unwrap();
    refuses(
        &["run", "--dir", path(dir.path())],
        9,
        &["weal new", "weal join"],
    );
}

#[test]
fn a_second_run_does_not_overwrite_the_first() {
    let dir = new_run();
    let before = fs::read(dir.path().join("run.toml")).unwrap();
    refuses(&["new", "--dir", path(dir.path())], 9, &["--dir"]);
    assert_eq!(fs::read(dir.path().join("run.toml")).unwrap(), before);
}

#[test]
fn a_page_port_in_use_names_the_flag() {
    let dir = new_run();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let page = taken.local_addr().unwrap().to_string();
    refuses(
        &[
            "run",
            "--dir",
            path(dir.path()),
            "--port",
            "0",
            "--page",
            &page,
        ],
        5,
        &[&page, "--page"],
    );
}

#[test]
fn a_peer_port_in_use_names_the_address_and_the_setting() {
    let dir = new_run();
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    refuses(
        &[
            "run",
            "--dir",
            path(dir.path()),
            "--port",
            &port,
            "--page",
            "127.0.0.1:0",
            "--no-mdns",
        ],
        5,
        &[&port, "in use"],
    );
}

#[test]
fn a_wrong_run_link_says_what_one_looks_like() {
    let dir = TempDir::new().unwrap();
    refuses(
        &["join", "http://example.org", "--dir", path(dir.path())],
        6,
        &["weal:<64 hexadecimal digits>"],
    );
}

#[test]
fn a_link_without_an_answering_peer_names_the_run() {
    let dir = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    drop(taken);
    let link = format!("weal:{}?peer=/ip4/127.0.0.1/tcp/{port}", "ab".repeat(32));
    refuses(
        &[
            "join",
            &link,
            "--dir",
            path(dir.path()),
            "--patience",
            "3",
            "--no-mdns",
            "--page",
            "127.0.0.1:0",
        ],
        6,
        &["no peer of run abababab", "check the link"],
    );
}

#[test]
fn a_folder_of_another_run_is_left_alone() {
    let dir = new_run();
    // The first `weal run` seals the run; the port that is taken ends it right after.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let page = taken.local_addr().unwrap().to_string();
    refuses(
        &[
            "run",
            "--dir",
            path(dir.path()),
            "--port",
            "0",
            "--page",
            &page,
        ],
        5,
        &["--page"],
    );
    let link = format!("weal:{}?peer=/ip4/127.0.0.1/tcp/1", "ab".repeat(32));
    refuses(
        &["join", &link, "--dir", path(dir.path())],
        9,
        &["abababab", "--dir"],
    );
}

#[test]
fn a_damaged_store_is_recognised() {
    let dir = new_run();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let page = taken.local_addr().unwrap().to_string();
    refuses(
        &[
            "run",
            "--dir",
            path(dir.path()),
            "--port",
            "0",
            "--page",
            &page,
        ],
        5,
        &["--page"],
    );
    let store = dir.path().join("store.redb");
    let mut bytes = fs::read(&store).unwrap();
    bytes.iter_mut().take(4096).for_each(|byte| *byte ^= 0x5a);
    fs::write(&store, bytes).unwrap();
    refuses(
        &[
            "run",
            "--dir",
            path(dir.path()),
            "--port",
            "0",
            "--page",
            "127.0.0.1:0",
        ],
        10,
        &["store.redb", "damaged"],
    );
}

#[test]
fn status_without_a_node_asks_whether_it_is_running() {
    let dir = TempDir::new().unwrap();
    refuses(
        &["status", "--dir", path(dir.path()), "--page", "127.0.0.1:9"],
        5,
        &["is it running"],
    );
}
