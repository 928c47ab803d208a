//! No folder is spent, begun anew or littered in silence.

use std::fs;
#[cfg(target_os = "linux")]
use std::process::Command;

#[cfg(target_os = "linux")]
use weal_testing::require;

use crate::program::{Place, code, names, stderr};

#[test]
fn a_mistake_leaves_nothing_behind() {
    let place = Place::new();
    let before = names(place.dir.path());
    for args in [
        &["run", "--dir", "nothing"][..],
        &["new", "--dir", "nothing", "--preset", "huge"],
        &["new", "--dir", "nothing", "--data", "/nowhere"],
        &["import", "/nowhere", "--dir", "nothing"],
        &["testnet", "prepare", "nothing", "--preset", "huge"],
        &["export", "nothing", "--dir", "nowhere"],
        &["data", "prepare", "/nowhere.txt", "--out", "nothing"],
    ] {
        let output = place.output(args);
        assert!(
            (2..=9).contains(&code(&output)),
            "{args:?}: {}",
            stderr(&output)
        );
        assert_eq!(names(place.dir.path()), before, "{args:?}");
    }
}

#[test]
fn an_export_takes_no_other_file_s_place() {
    let place = Place::new();
    place.started_node();
    let output = place.output(&["export", "q.bin", "--dir", "node"]);
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert!(stderr(&output).contains(".gguf") && !place.path("q.bin").exists());

    fs::write(place.path("z.gguf"), b"precious").unwrap();
    let output = place.output(&["export", "z.gguf", "--dir", "node"]);
    assert_eq!(code(&output), 8, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("--overwrite"),
        "{}",
        stderr(&output)
    );
    assert_eq!(fs::read(place.path("z.gguf")).unwrap(), b"precious");
    place.run(&["export", "z.gguf", "--overwrite", "--dir", "node"]);
    assert!(fs::read(place.path("z.gguf")).unwrap().starts_with(b"GGUF"));
}

#[test]
fn a_run_whose_key_is_gone_gets_no_new_one() {
    let place = Place::new();
    place.started_node();
    fs::remove_file(place.path("node/key")).unwrap();
    for args in [&["run", "--dir", "node"][..], &["key", "--dir", "node"]] {
        let output = place.output(args);
        assert_eq!(code(&output), 10, "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("node/key"), "{}", stderr(&output));
        assert!(!place.path("node/key").exists());
    }
}

#[test]
fn a_run_is_not_continued_under_another_key() {
    let place = Place::new();
    place.started_node();
    place.run(&["key", "--dir", "other"]);
    fs::copy(place.path("other/key"), place.path("node/key")).unwrap();
    let output = place.output(&["run", "--dir", "node"]);
    assert_eq!(code(&output), 9, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("another key"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn an_empty_store_is_told_and_left_alone() {
    let place = Place::new();
    place.started_node();
    fs::write(place.path("node/store.redb"), b"").unwrap();
    let output = place.output(&["run", "--dir", "node"]);
    assert_eq!(code(&output), 10, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("store.redb"),
        "{}",
        stderr(&output)
    );
    assert_eq!(
        fs::metadata(place.path("node/store.redb")).unwrap().len(),
        0
    );
}

#[test]
fn an_empty_text_to_evaluate_on_is_named() {
    let place = Place::new();
    fs::write(place.path("empty.txt"), b"\n").unwrap();
    let output = place.output(&["eval", "empty.txt"]);
    assert_eq!(code(&output), 4, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("empty.txt: empty"),
        "{}",
        stderr(&output)
    );
}

/// Runs commands of a shell in a namespace of mounts; `None` if the system allows none.
#[cfg(target_os = "linux")]
fn with_mounts(place: &Place, commands: &str) -> Option<std::process::Output> {
    let run = |line: &str| {
        Command::new("unshare")
            .args(["-rm", "sh", "-ec", line])
            .env("weal", env!("CARGO_BIN_EXE_weal"))
            .env("WEAL_DEVICE", "cpu")
            .current_dir(place.dir.path())
            .output()
    };
    let works = run("mkdir -p probe; mount -t tmpfs none probe");
    works
        .is_ok_and(|output| output.status.success())
        .then(|| run(commands).unwrap())
}

#[test]
#[cfg(target_os = "linux")]
fn results_go_into_volumes_beside_which_nothing_can_be_written() {
    let place = Place::new();
    place.started_node();
    let commands = "
        mkdir -p root/tokens root/model root/usb
        mount --bind root root
        for volume in tokens model usb; do mount -t tmpfs none root/$volume; done
        touch root/usb/here.gguf
        mount -o remount,bind,ro root
        \"$weal\" data prepare texts.jsonl --heldout 20% --out root/tokens
        \"$weal\" data check root/tokens
        \"$weal\" export root/model --dir node
        \"$weal\" eval text.txt --model root/model
        \"$weal\" export root/usb/m.gguf --dir node
        ls -A root/tokens root/model root/usb
        if \"$weal\" export root/new --dir node; then exit 70; fi
        ";
    let Some(output) = with_mounts(&place, commands) else {
        return require::skip("volumes", "no namespaces for users and mounts");
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(code(&output), 0, "{said}{}", stderr(&output));
    assert!(
        said.contains("model.safetensors") && said.contains("m.gguf"),
        "{said}"
    );
    assert!(!said.contains(".weal-"), "{said}");
    assert!(stderr(&output).contains("root/new"), "{}", stderr(&output));
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_that_is_mounted_alone_is_written_in_place() {
    let place = Place::new();
    place.started_node();
    let commands = "
        mkdir -p root
        touch outside.gguf root/m.gguf
        mount --bind outside.gguf root/m.gguf
        \"$weal\" export root/m.gguf --dir node
        umount root/m.gguf
        ";
    let Some(output) = with_mounts(&place, commands) else {
        return require::skip("a mounted file", "no namespaces for users and mounts");
    };
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(
        fs::read(place.path("outside.gguf"))
            .unwrap()
            .starts_with(b"GGUF")
    );
    assert_eq!(names(&place.path("root")), ["m.gguf"]);
}
