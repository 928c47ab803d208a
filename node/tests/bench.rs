//! `weal bench`, for people and for programs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;

fn weal(arguments: &[&str]) -> (bool, String) {
    let run = Command::new(env!("CARGO_BIN_EXE_weal"))
        .args(arguments)
        .output()
        .unwrap();
    (
        run.status.success(),
        String::from_utf8_lossy(&run.stdout).into_owned(),
    )
}

#[test]
fn codec_json_has_bits_ratio_and_speeds() {
    let (done, json) = weal(&[
        "bench",
        "codec",
        "--preset",
        "nano",
        "--contributions",
        "2",
        "--device",
        "cpu",
        "--json",
    ]);
    assert!(done);
    let result: serde_json::Value = serde_json::from_str(&json).unwrap();
    let number = |name: &str| {
        result[name]
            .as_f64()
            .unwrap_or_else(|| panic!("no {name} in {json}"))
    };
    assert!((9.2..9.9).contains(&number("bits_per_value")), "{json}");
    assert!((415.0..450.0).contains(&number("ratio_f32")), "{json}");
    for speed in [
        "compress_bytes_per_second",
        "aggregate_values_per_second",
        "copy_bytes_per_second",
    ] {
        assert!(number(speed) > 0.0, "{json}");
    }
}

#[test]
fn codec_prints_lines_and_refuses_senseless_values() {
    let (done, text) = weal(&[
        "bench",
        "codec",
        "--preset",
        "nano",
        "--contributions",
        "1",
        "--device",
        "cpu",
    ]);
    assert!(
        done && text.contains("bits per value kept") && text.contains("of the copy"),
        "{text}"
    );
    for wrong in [
        ["--preset", "huge"],
        ["--keep", "0"],
        ["--chunk", "40000"],
        ["--contributions", "0"],
    ] {
        assert!(
            !weal(&["bench", "codec", wrong[0], wrong[1], "--device", "cpu"]).0,
            "{wrong:?}"
        );
    }
}

#[test]
fn training_prints_lines_and_json() {
    let run = [
        "bench", "train", "--batch", "1", "--steps", "2", "--device", "cpu",
    ];
    let (done, text) = weal(&run);
    assert!(
        done && text.contains("tokens/s") && text.contains("of what large matrix products reach"),
        "{text}"
    );
    let (done, json) = weal(&[&run[..], &["--recompute", "--json"]].concat());
    assert!(done);
    let result: serde_json::Value = serde_json::from_str(&json).unwrap();
    for name in ["tokens_per_second", "flops_utilisation"] {
        assert!(
            result[name].as_f64().is_some_and(|value| value > 0.0),
            "{json}"
        );
    }
    let megabytes = result["peak_memory_bytes"]
        .as_u64()
        .map(|bytes| bytes >> 20);
    if cfg!(target_os = "linux") {
        // Weights, two moments and a gradient of 0.84 M parameters alone are 13 MiB.
        assert!(
            megabytes.is_some_and(|megabytes| (13..2000).contains(&megabytes)),
            "{json}"
        );
    }
    for wrong in [["--preset", "huge"], ["--batch", "0"]] {
        assert!(
            !weal(&["bench", "train", wrong[0], wrong[1], "--device", "cpu"]).0,
            "{wrong:?}"
        );
    }
}
