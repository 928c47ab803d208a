//! A node that lies, for tests of the network: never part of a default build.
//!
//! `weal-dishonest` is the shipped node with the behaviours that the environment variable
//! `WEAL_DISHONEST` names, separated by commas. It exists so that whole networks of real processes
//! can be watched while some of them lie (`tests/tests/dishonest.rs`).

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use weal_kernels::{compress, decode};
use weal_proto::{BlobHeader, RoundNumber, Score};
use weal_trainer::{Corpus, TextSource};

use crate::error::{Error, ErrorKind, Result};
use crate::plan::Plan;
use crate::store::blobs::Blobs;

/// The environment variable that names the behaviours.
const VARIABLE: &str = "WEAL_DISHONEST";
/// Magnitude of invented values: far above honest ones, so that the norm clip has work to do.
const NOISE: f32 = 1.0;

/// How a node lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behaviour {
    /// Sends the opposite of what it learnt.
    SignFlip,
    /// Sends random values at random places.
    Noise,
    /// Sends a contribution that changes nothing.
    Zeros,
    /// Sends its first contribution again and again.
    Replay,
    /// Sends what another peer sent in the round before.
    Copy,
    /// Trains on random text instead of its samples.
    WrongData,
    /// Praises whatever does harm, and damns whatever helps.
    FalseScores,
}

impl Behaviour {
    const ALL: [(&'static str, Self); 7] = [
        ("sign-flip", Self::SignFlip),
        ("noise", Self::Noise),
        ("zeros", Self::Zeros),
        ("replay", Self::Replay),
        ("copy", Self::Copy),
        ("wrong-data", Self::WrongData),
        ("false-scores", Self::FalseScores),
    ];
}

static BEHAVIOURS: LazyLock<Vec<Behaviour>> = LazyLock::new(|| {
    let named = std::env::var(VARIABLE).unwrap_or_default();
    let known = |name: &str| {
        let found = Behaviour::ALL.iter().find(|(known, _)| *known == name);
        if found.is_none() {
            tracing::error!("{VARIABLE}: there is no behaviour `{name}`");
        }
        found.map(|(_, behaviour)| *behaviour)
    };
    let names = named.split(',').filter(|name| !name.is_empty());
    names.filter_map(known).collect()
});

/// The first body that this node made, to send again.
static FIRST: Mutex<Option<Vec<u8>>> = Mutex::new(None);

fn is(behaviour: Behaviour) -> bool {
    BEHAVIOURS.contains(&behaviour)
}

/// What the node sends in a round instead of `honest`, the body that it should send.
pub(crate) fn body(
    plan: &Plan,
    blobs: &Blobs,
    round: RoundNumber,
    honest: Vec<u8>,
) -> Result<Vec<u8>> {
    if is(Behaviour::SignFlip) {
        let honest = decode(
            &plan.layout,
            &plan.compression,
            &honest,
            plan.max_blob_bytes,
        )?;
        let mut values = zeros(plan);
        honest.add_to(&plan.layout, &mut values, -1.0)?;
        encode(plan, values)
    } else if is(Behaviour::Noise) {
        let value = |_| NOISE * (2.0 * rand::random::<f32>() - 1.0);
        encode(plan, zeros(plan).into_iter().map(value).collect())
    } else if is(Behaviour::Zeros) {
        encode(plan, zeros(plan))
    } else if is(Behaviour::Replay) {
        let mut first = FIRST.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(first.get_or_insert(honest).clone())
    } else if is(Behaviour::Copy) {
        Ok(copied(blobs, round)?.unwrap_or(honest))
    } else {
        Ok(honest)
    }
}

/// What another peer sent in the round before.
fn copied(blobs: &Blobs, round: RoundNumber) -> Result<Option<Vec<u8>>> {
    let Some(before) = round.0.checked_sub(1).map(RoundNumber) else {
        return Ok(None);
    };
    for hash in blobs.shown_of_round(before) {
        if let Some(blob) = blobs.get(&hash)? {
            let (_, body) =
                BlobHeader::split(&blob).map_err(|error| Error::of(ErrorKind::Internal, error))?;
            return Ok(Some(body.to_vec()));
        }
    }
    Ok(None)
}

/// The text that the node trains on instead of the run's.
pub(crate) fn corpus(honest: Arc<Corpus>) -> Result<Arc<Corpus>> {
    if !is(Behaviour::WrongData) {
        return Ok(honest);
    }
    let text = (0..1 << 20).map(|_| rand::random_range(b' '..=b'~'));
    let text = TextSource::Text(text.collect());
    let corpus = Corpus::new(&[text], honest.tokeniser().clone())?;
    Ok(Arc::new(corpus))
}

/// The score that the node attests instead of the one that it measured.
pub(crate) fn score(honest: Score) -> Score {
    match is(Behaviour::FalseScores) {
        true => Score {
            own_ppm: -honest.own_ppm,
            held_ppm: -honest.held_ppm,
            ..honest
        },
        false => honest,
    }
}

/// How much a contribution agrees with the node's own work, as the node attests it.
pub(crate) fn work(ppm: i32) -> i32 {
    match is(Behaviour::FalseScores) {
        true => -ppm,
        false => ppm,
    }
}

fn zeros(plan: &Plan) -> Vec<f32> {
    vec![0.0; plan.layout.parameters()]
}

fn encode(plan: &Plan, mut values: Vec<f32>) -> Result<Vec<u8>> {
    Ok(compress(
        &plan.layout,
        &plan.compression,
        &zeros(plan),
        &mut values,
    )?)
}
