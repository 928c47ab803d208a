//! Conformance vectors: the bytes that every implementation must produce. They are checked in under
//! `conformance/`; the README there says how they are made.
//!
//! Changing these files changes the protocol. To do so on purpose, run the tests once with
//! `WEAL_BLESS=1`, and give whatever changed a new version.

use std::fmt::Write as _;
use std::path::Path;

use weal_proto::Outline;

use crate::testing::{layout, settings, values};
use crate::{
    Compression, Contribution, Layout, OuterStep, Rule, TensorSpec, apply, compress, decode, state,
};

/// Compares `produced` with the file. With `WEAL_BLESS` set, rewrites the file first.
fn check(file: &str, produced: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("conformance")
        .join(file);
    if std::env::var_os("WEAL_BLESS").is_some() {
        std::fs::write(&path, produced).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    for (produced, expected) in produced.lines().zip(expected.lines()) {
        assert_eq!(
            produced,
            expected,
            "the protocol's bytes have changed: see {}",
            path.display()
        );
    }
    assert_eq!(produced.lines().count(), expected.lines().count());
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Short vectors in hex, long ones as the BLAKE3 hash of their little-endian bytes.
fn floats(values: &[f32]) -> String {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    if values.len() <= 64 {
        hex(&bytes)
    } else {
        format!("blake3:{}", blake3::hash(&bytes))
    }
}

#[test]
fn layout_hashes() {
    let scalar: &[usize] = &[];
    let layouts: [&[(&str, &[usize])]; 3] = [
        &[("a", &[1])],
        &[
            ("embedding", &[256, 128]),
            ("norm", &[128]),
            ("scale", scalar),
        ],
        &[("τένσωρ", &[1, 2, 3, 4]), ("", &[5])],
    ];
    let mut text = String::new();
    for tensors in layouts {
        let specs = tensors
            .iter()
            .map(|&(name, shape)| TensorSpec::new(name, shape))
            .collect();
        writeln!(text, "tensors = {tensors:?}").unwrap();
        writeln!(
            text,
            "hash = {}\n",
            hex(&Layout::new(specs).unwrap().hash())
        )
        .unwrap();
    }
    check("layout.txt", &text);
}

#[test]
fn blob_hashes() {
    let mut text = String::new();
    for bytes in [0, 1, 1023, 1 << 20, (1 << 20) + 1, 5 << 19] {
        let blob: Vec<u8> = (0..bytes).map(|i| (i % 251) as u8).collect();
        let outline = Outline::of(&blob);
        writeln!(text, "bytes = {bytes}").unwrap();
        outline
            .chunks
            .iter()
            .for_each(|chunk| writeln!(text, "chunk = {}", hex(chunk)).unwrap());
        writeln!(text, "hash = {}\n", hex(outline.hash().as_bytes())).unwrap();
    }
    check("blob.txt", &text);
}

#[test]
fn state_roots() {
    let mut text = String::new();
    for (seed, lengths) in [(1, &[1][..]), (2, &[3, 1, 4]), (3, &[262_144, 262_145, 7])] {
        let layout = layout(lengths);
        let root = state::root(&layout, &values(seed, layout.parameters())).unwrap();
        writeln!(
            text,
            "lengths = {lengths:?}, theta = values({seed})\nroot = {}\n",
            hex(&root)
        )
        .unwrap();
    }
    check("state.txt", &text);
}

/// Layouts and settings: full and short chunks, single values, everything kept, and 64 of 4096.
fn shapes() -> [(&'static [usize], Compression); 5] {
    [
        (&[8], settings(8, 2)),
        (&[40, 1, 17], settings(16, 3)),
        (&[5], settings(4, 4)),
        (&[300, 2], settings(32_768, 1)),
        (&[9000, 130, 64, 1], settings(4096, 64)),
    ]
}

#[test]
fn bodies() {
    let mut text = String::new();
    for (lengths, compression) in shapes() {
        let layout = layout(lengths);
        let [error, mut delta] = [1, 2].map(|seed| values(seed, layout.parameters()));
        let body = compress(&layout, &compression, &error, &mut delta).unwrap();
        writeln!(text, "lengths = {lengths:?}, {compression:?}").unwrap();
        writeln!(text, "error = values(1), delta = values(2)").unwrap();
        writeln!(
            text,
            "body = {}\nerror after = {}\n",
            hex(&body),
            floats(&delta)
        )
        .unwrap();
    }
    check("body.txt", &text);
}

#[test]
fn outer_steps() {
    const ONE: u32 = 1_000_000;
    let mut text = String::new();
    for (lengths, compression) in shapes() {
        for (coefficients_ppm, rule) in [
            (&[ONE; 1][..], Rule::MeanOfSenders),
            (&[ONE; 4], Rule::MeanOfSenders),
            (&[ONE; 5], Rule::MeanOfAll),
            (&[ONE; 3], Rule::RootOfSenders),
            (&[ONE, 0, 300_000, 123_457], Rule::RootOfSenders),
        ] {
            let peers = coefficients_ppm.len() as u64;
            let layout = layout(lengths);
            let mut theta = values(0, layout.parameters());
            let contribution = |peer: u64| -> Contribution {
                // Give each peer a different norm, so that some are clipped.
                let mut delta: Vec<f32> = values(peer, theta.len())
                    .iter()
                    .map(|value| value * peer as f32)
                    .collect();
                let body =
                    compress(&layout, &compression, &vec![0.0; theta.len()], &mut delta).unwrap();
                decode(&layout, &compression, &body, body.len()).unwrap()
            };
            let contributions: Vec<Contribution> = (1..=peers).map(contribution).collect();
            let step = OuterStep {
                contributions: &contributions,
                coefficients_ppm,
                alpha: 0.7,
                rule,
            };
            apply(&layout, &mut theta, &step).unwrap();
            writeln!(text, "lengths = {lengths:?}, {compression:?}").unwrap();
            if coefficients_ppm.iter().any(|ppm| *ppm < ONE) {
                writeln!(text, "coefficients = {coefficients_ppm:?} ppm").unwrap();
            }
            writeln!(
                text,
                "theta = values(0), peers = {peers}, alpha = 0.7, rule = {rule:?}"
            )
            .unwrap();
            writeln!(text, "theta after = {}\n", floats(&theta)).unwrap();
        }
    }
    check("apply.txt", &text);
}
