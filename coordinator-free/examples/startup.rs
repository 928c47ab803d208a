//! How long a core takes to start from what is on disk: from all decided rounds, and from a
//! snapshot and the rounds since.
//!
//! ```text
//! cargo run -p weal-coordinator-free --features sim --example startup -- 16 2000 20000
//! ```
//!
//! The arguments are the number of voters, up to 255, and numbers of decided rounds, rising.
//! Reading the rounds from the disk is not included, decoding them is.

#![allow(clippy::print_stdout, clippy::print_stderr)] // a developer reads it

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weal_coordinator_free::host::retention;
use weal_coordinator_free::sim::MadeUp;
use weal_coordinator_free::{Chain, Config, Core, Error, Recovered};
use weal_proto::{ChainSnapshot, Decided, Manifest, Message, RoundNumber, SigningKey};

/// What a node has on disk, encoded.
#[derive(Default)]
struct Stored {
    decided: Vec<Vec<u8>>,
    snapshot: Option<Vec<u8>>,
}

impl Stored {
    /// Decides up to this many rounds.
    fn fill(&mut self, run: &mut MadeUp, rounds: usize) -> Result<(), Error> {
        while self.decided.len() < rounds {
            self.decided.push(run.decide()?.encode());
            // The newest one before the weights of a node that has to apply some rounds again.
            let rest = rounds - self.decided.len();
            if retention::has_snapshot(run.chain().round()) && rest >= 4 {
                self.snapshot = Some(run.chain().snapshot().encode());
            }
        }
        Ok(())
    }

    /// Starts a core from here. Returns it, and how long that took.
    fn start(&self, from: Chain) -> Result<(Core, Duration), Error> {
        let began = Instant::now();
        let weights = RoundNumber(self.decided.len() as u64);
        let rest = self.decided.iter().skip(from.round().0 as usize);
        let decided = rest.filter_map(|bytes| Decided::decode(bytes).ok());
        let recovered = Recovered::from_decided(from, decided, weights, Vec::new())?;
        let core = Core::new(Config::new(SigningKey::from_seed([1; 32])), recovered)?;
        Ok((core, began.elapsed()))
    }

    fn restore(&self, manifest: &Arc<Manifest>) -> Option<(Chain, Duration)> {
        let began = Instant::now();
        let bytes = self.snapshot.as_ref()?;
        // A node compares this with the hash that it stored.
        std::hint::black_box(ChainSnapshot::hash_of(bytes));
        let snapshot = ChainSnapshot::decode(bytes).ok()?;
        let chain = Chain::restore(manifest.clone(), &snapshot).ok()?;
        Some((chain, began.elapsed()))
    }
}

fn measure(stored: &Stored, manifest: &Arc<Manifest>) -> Result<(), Error> {
    let (whole, from_all) = stored.start(Chain::genesis(manifest.clone()))?;
    let rounds = stored.decided.len();
    let mib = stored.decided.iter().map(Vec::len).sum::<usize>() >> 20;
    println!("{rounds} rounds, {mib} MiB: {from_all:.2?} from all of them");
    if let Some((chain, restoring)) = stored.restore(manifest) {
        let from = chain.round();
        let (core, folding) = stored.start(chain)?;
        let kib = stored.snapshot.as_ref().map_or(0, Vec::len) >> 10;
        let took = restoring + folding;
        println!("  {took:.2?} from a snapshot of {kib} KiB and the rounds since {from}");
        let same = core.chain().snapshot() == whole.chain().snapshot();
        println!("  the same state: {same}");
    }
    Ok(())
}

fn main() -> ExitCode {
    let numbers: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|argument| argument.parse().ok())
        .collect();
    let Some((voters, rounds)) = numbers.split_first() else {
        eprintln!("usage: startup VOTERS ROUNDS…");
        return ExitCode::FAILURE;
    };
    let mut run = MadeUp::new(u8::try_from(*voters).unwrap_or(u8::MAX));
    let manifest = Arc::new(run.chain().manifest().clone());
    let mut stored = Stored::default();
    for rounds in rounds {
        let measured = stored
            .fill(&mut run, *rounds)
            .and_then(|()| measure(&stored, &manifest));
        if let Err(error) = measured {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
