//! The program prepares data, from HTTP and from files, and a network trains on it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use weal::status_client;
use weal::store::blobs;
use weal_proto::manifest::Data;
use weal_tests::net::{Net, StartedNode, program, quick_run};

const MINUTE: Duration = Duration::from_secs(60);

fn weal(args: &[&str]) -> Output {
    Command::new(program())
        .args(args)
        .output()
        .expect("a program that starts")
}

fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]]
        .concat()
        .iter()
        .map(|byte| char::from(*byte))
        .collect()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Three thousand documents, the same every time.
fn texts() -> String {
    let text = |number: u32| {
        format!(
            "tale {number}: {}",
            "the sea and the shore, ".repeat(number as usize % 40 + 1)
        )
    };
    (0..3_000)
        .map(|number| format!("{}\n", serde_json::json!({ "body": text(number) })))
        .collect()
}

/// Serves these bytes. The first two connections break off halfway.
fn unreliable_server(bytes: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for (number, connection) in listener.incoming().flatten().enumerate() {
            let mut start = 0;
            for line in BufReader::new(&connection)
                .lines()
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty())
            {
                if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
                    start = range.trim_end_matches('-').parse().expect("a number");
                }
            }
            let status = if start > 0 {
                "206 Partial Content"
            } else {
                "200 OK"
            };
            let range = format!(
                "Content-Range: bytes {start}-{}/{}\r\n",
                bytes.len() - 1,
                bytes.len()
            );
            let range = if start > 0 { range } else { String::new() };
            let rest = &bytes[start..];
            let head = format!(
                "HTTP/1.1 {status}\r\n{range}ETag: \"1\"\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                rest.len()
            );
            let length = if number < 2 {
                rest.len() / 2
            } else {
                rest.len()
            };
            let _ = (&connection)
                .write_all(head.as_bytes())
                .and_then(|()| (&connection).write_all(&rest[..length]));
        }
    });
    format!("http://{address}")
}

#[test]
fn a_network_trains_on_prepared_data_and_a_newcomer_fetches_it() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let url = format!("{}/texts.jsonl", unreliable_server(texts().into_bytes()));
    let tokens = dir.path().join("tokens");
    let args = [
        "data",
        "prepare",
        &url,
        "--out",
        path(&tokens),
        "--text-field",
        "body",
        "--shard-tokens",
        "100000",
    ];
    let prepared = weal(&[&args[..], &["--heldout", "10%", "--json"]].concat());
    assert!(prepared.status.success(), "{}", text(&prepared));
    let summary: serde_json::Value = serde_json::from_slice(&prepared.stdout).expect("JSON");
    assert_eq!(
        (&summary["documents"], &summary["bad"]),
        (&3_000.into(), &0.into()),
        "{summary}"
    );
    assert!(weal(&["data", "check", path(&tokens)]).status.success());

    let mut run = quick_run();
    run.data.files = vec![tokens.clone()];
    let mut net = Net::start(2, run);
    net.wait_for_rounds(2, 2 * MINUTE);
    let link = net.status(0).expect("a node that answers").run.link;
    let newcomer = net.join(&link);
    net.wait_for("the newcomer has caught up", 2 * MINUTE, |net| {
        net.rounds(newcomer) >= 2
    });
    assert!(net.assert_roots_agree() > 0);
    let Data::Prepared(data) = &net.manifest.data else {
        panic!("the run trains on other data")
    };
    assert!(data.training.shards.len() > 5);
    for shard in data.training.shards.iter().chain(&data.heldout.shards) {
        let fetched = fs::read(blobs::path(
            &net.nodes[newcomer].folder.blobs(),
            &shard.hash,
        ))
        .expect("a shard");
        let own = fs::read(tokens.join("shards").join(format!("{}.tokens", shard.hash)))
            .expect("the shard");
        assert!(fetched == own);
    }

    // At the next start the node refuses a damaged shard by name. It can be fetched again.
    let damaged = data.training.shards[1].hash;
    net.kill(newcomer);
    let folder = net.nodes[newcomer].folder.clone();
    fs::write(blobs::path(&folder.blobs(), &damaged), b"damaged")
        .expect("a file that can be written");
    let refused = weal(&["run", "--dir", path(folder.path())]);
    assert_eq!(refused.status.code(), Some(4), "{}", text(&refused));
    assert!(
        text(&refused).contains(&damaged.to_string()),
        "{}",
        text(&refused)
    );
    let joined = weal(&[
        "join",
        &link,
        "--dir",
        path(folder.path()),
        "--only-fetch",
        "--no-mdns",
        "--port",
        "0",
    ]);
    assert!(joined.status.success(), "{}", text(&joined));
    let again = StartedNode::run(folder.path());
    let continues = || {
        status_client::status(again.page).is_ok_and(|status| {
            status
                .history
                .last()
                .is_some_and(|record| record.round >= 2)
        })
    };
    again.wait_for("another round of the newcomer", 2 * MINUTE, continues);
}

#[test]
fn data_that_cannot_be_used_is_refused_with_its_file_and_a_remedy() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (source, out) = (dir.path().join("texts.jsonl"), dir.path().join("tokens"));
    fs::write(&source, texts()).expect("a file");
    let refused = weal(&["data", "prepare", path(&source), "--out", path(&out)]);
    assert_eq!(refused.status.code(), Some(4));
    for part in [
        "no text to learn from",
        "3000 bad records",
        "texts.jsonl, line 1",
        "--text-field",
    ] {
        assert!(text(&refused).contains(part), "{}", text(&refused));
    }
    assert!(!out.exists());
    let refused = weal(&["data", "prepare", "/nowhere.txt", "--out", path(&out)]);
    assert!(
        refused.status.code() == Some(4) && text(&refused).contains("/nowhere.txt"),
        "{}",
        text(&refused)
    );
}
