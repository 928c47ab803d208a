//! `weal bench codec`, as a person and as a program calls it.

use std::process::Command;

fn weal(arguments: &[&str]) -> (bool, String) {
    let run = Command::new(env!("CARGO_BIN_EXE_weal")).args(arguments).output().unwrap();
    (run.status.success(), String::from_utf8_lossy(&run.stdout).into_owned())
}

#[test]
fn programs_are_told_bits_ratio_and_speeds() {
    let (done, json) =
        weal(&["bench", "codec", "--preset", "nano", "--contributions", "2", "--device", "cpu", "--json"]);
    assert!(done);
    let told: serde_json::Value = serde_json::from_str(&json).unwrap();
    let number = |name: &str| told[name].as_f64().unwrap_or_else(|| panic!("no {name} in {json}"));
    assert!((8.0..8.7).contains(&number("bits_per_value")), "{json}");
    assert!((238.0..260.0).contains(&number("ratio_f32")), "{json}");
    for speed in ["compress_bytes_per_second", "aggregate_values_per_second", "copy_bytes_per_second"] {
        assert!(number(speed) > 0.0, "{json}");
    }
}

#[test]
fn people_are_told_in_lines_and_what_makes_no_sense_is_refused() {
    let (done, text) = weal(&["bench", "codec", "--preset", "nano", "--contributions", "1", "--device", "cpu"]);
    assert!(done && text.contains("bits a value kept") && text.contains("of the copy"), "{text}");
    for wrong in [["--preset", "huge"], ["--keep", "0"], ["--chunk", "40000"], ["--contributions", "0"]] {
        assert!(!weal(&["bench", "codec", wrong[0], wrong[1], "--device", "cpu"]).0, "{wrong:?}");
    }
}
