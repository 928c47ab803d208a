//! A run proves itself: its history, its weights, and the models that come out of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::time::Duration;

use weal::new_run::{NewRun, RunFile};
use weal_tests::commands::{path, run, weal};
use weal_tests::net::{Net, quick_run};

const MINUTE: Duration = Duration::from_secs(60);
/// The exit code of `weal verify` for what is not proven.
const UNPROVEN: Option<i32> = Some(13);

#[test]
fn a_run_and_its_models_are_verified_and_changed_ones_are_not() {
    let mut net = Net::start(2, quick_run());
    net.wait_for_rounds(3, 2 * MINUTE);
    let link = net.status(0).expect("a node that answers").run.link;
    for by_link in [&["verify", &link][..], &["verify", "--link", &link]] {
        let told = weal(by_link);
        assert!(
            told.contains("signed by more than two thirds") && told.contains("2 voters"),
            "{told}"
        );
    }
    // The nodes are running, and the run goes on.
    for node in 0..2 {
        let folder = path(net.nodes[node].folder.path());
        let told = weal(&["verify", "--dir", folder, "--replay"]);
        assert!(
            told.contains("signed by more than two thirds")
                && told.contains(": the decided ones")
                && told.contains("replay: rounds 0 to "),
            "{told}"
        );
    }
    let round = net.rounds(0).min(net.rounds(1)) - 1;
    (0..2).for_each(|node| net.kill(node));

    let folders = [0, 1].map(|node| path(net.nodes[node].folder.path()).to_owned());
    for folder in &folders {
        let told = weal(&["verify", folder, "--replay"]);
        let decided = format!("weights of round {round}: the decided ones");
        assert!(
            told.contains(&decided) && told.contains("replay: rounds 0 to "),
            "{told}"
        );
    }

    let dir = tempfile::tempdir().unwrap();
    let round = round.to_string();
    let export = |name: &str, format: &str| {
        let to = dir.path().join(name);
        let from = ["--dir", &folders[0], "--round", &round, "--type", format];
        weal(&[&["export", path(&to)], &from[..]].concat());
        to
    };
    let models = [
        export("whole", "f32"),
        export("short", "bf16"),
        export("model.gguf", "q8_0"),
    ];
    // Who verifies them is another peer.
    let verify = |model: &str| run(&["verify", model, "--dir", &folders[1]]);
    for model in &models {
        let verified = verify(path(model));
        let errors = String::from_utf8_lossy(&verified.stderr).into_owned();
        assert!(verified.status.success(), "{}: {errors}", model.display());
    }

    // A run that continues from it names where it comes from.
    let fork = dir.path().join("fork");
    let source = format!("{}@{round}", folders[0]);
    weal(&["fork", &source, "--dir", path(&fork)]);
    let mut file = RunFile::default();
    file.model.checkpoint = Some(fork.join("ancestor"));
    let founder = [1; 32].into();
    let new = NewRun::from_file(&file, dir.path(), founder, &fork.join("run.toml")).unwrap();
    let ancestor = new.manifest.ancestor.expect("a run that it continues");
    assert_eq!(ancestor.run, net.manifest.run());
    assert_eq!(ancestor.round.to_string(), round);

    for file in [
        models[0].join("model.safetensors"),
        models[1].join("model.safetensors"),
        models[2].clone(),
    ] {
        let mut bytes = fs::read(&file).unwrap();
        let last = bytes.len() - 1;
        bytes[last - 40] ^= 1;
        fs::write(&file, bytes).unwrap();
    }
    for model in &models {
        let refused = verify(path(model));
        assert_eq!(refused.status.code(), UNPROVEN, "{}", model.display());
    }

    let file = format!("{:010}.f32", round.parse::<u64>().unwrap());
    let file = net.nodes[0].folder.weights().join(file);
    let mut bytes = fs::read(&file).unwrap();
    bytes[100] ^= 1;
    fs::write(&file, bytes).unwrap();
    let refused = run(&["verify", "--dir", &folders[0]]);
    assert_eq!(refused.status.code(), UNPROVEN);
}
