//! Compares an exported model with the weights that its run decided.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use weal_kernels::state;
use weal_proto::RoundNumber;
use weal_trainer::{Checkpoint, Export, FloatFormat, GgufFormat, read_labels};

use crate::error::{Error, ErrorKind, Result};
use crate::loaded_model::LoadedModel;
use crate::provenance::{PREFIX, Provenance};

/// What the files of a model say of their origin, and their number format. `None` if they say
/// nothing.
///
/// # Errors
/// When they cannot be read, or what they say means nothing.
pub(crate) fn origin(model: &Path) -> Result<Option<(Provenance, String)>> {
    let labels = read_labels(model, PREFIX).map_err(|error| Error::of(ErrorKind::Data, error))?;
    Provenance::read(&labels)
}

/// As [`origin`].
///
/// # Errors
/// Also when the files say nothing.
pub(crate) fn expect_origin(model: &Path) -> Result<(Provenance, String)> {
    origin(model)?.ok_or_else(|| {
        let place = model.display();
        Error::data(format!(
            "{place}: the model does not say which run it comes from"
        ))
        .with_hint("export it again: `weal export` of this version writes its origin into it")
    })
}

/// Compares a model with its run's weights in f32, which `decided` holds if they are at hand.
///
/// # Errors
/// [`ErrorKind::Unproven`] when they differ; [`ErrorKind::Data`] when the model cannot be compared,
/// because its numbers are shorter than f32 and the weights are not at hand.
pub(crate) fn compare(
    model: &Path,
    (origin, format): (&Provenance, &str),
    decided: Option<&LoadedModel>,
) -> Result<()> {
    let same = match decided {
        Some(decided) => exported_alike(model, (origin, format), decided)?,
        None if format == "f32" && model.is_dir() => hashes_to_root(model, origin)?,
        None => return Err(needs_weights(origin.round, format)),
    };
    if same {
        return Ok(());
    }
    let what = format!(
        "{}: these are not the weights of round {}",
        model.display(),
        origin.round
    );
    Err(Error::new(ErrorKind::Unproven, what))
}

/// Whether a folder in f32 has the state root that it names.
fn hashes_to_root(model: &Path, origin: &Provenance) -> Result<bool> {
    let failed = |error: weal_trainer::Error| Error::of(ErrorKind::Data, error);
    let read = Checkpoint::read(model, None, &mut |_, _| {}).map_err(failed)?;
    let layout = read.model.layout().map_err(failed)?;
    Ok(state::root(&layout, &read.weights)? == *origin.root.as_bytes())
}

/// Whether exporting the weights again gives the same model.
fn exported_alike(
    model: &Path,
    (origin, format): (&Provenance, &str),
    decided: &LoadedModel,
) -> Result<bool> {
    let failed = |error: weal_trainer::Error| Error::of(ErrorKind::Data, error);
    let unknown = |why: String| Error::data(format!("{PREFIX}type is {format}; {why}"));
    let export = Export::new(&decided.model, &decided.weights, &decided.tokeniser);
    let export = export.map_err(failed)?.with_labels(origin.labels(format));
    let place = tempfile::tempdir().map_err(Error::storage(
        "cannot make a folder in",
        &std::env::temp_dir(),
    ))?;
    if model.is_dir() {
        let format: FloatFormat = format.parse().map_err(unknown)?;
        let again = place.path().join("model");
        export
            .write_folder(&again, format, &mut |_, _| {})
            .map_err(failed)?;
        let weights = |folder: &Path| Checkpoint::read(folder, None, &mut |_, _| {});
        let (theirs, ours) = (
            weights(model).map_err(failed)?,
            weights(&again).map_err(failed)?,
        );
        // Compared as bits: -0 is not 0.
        let bits = |weights: &[f32]| weights.iter().map(|w| w.to_bits()).collect::<Vec<_>>();
        return Ok(theirs.model == ours.model && bits(&theirs.weights) == bits(&ours.weights));
    }
    let format: GgufFormat = format.parse().map_err(unknown)?;
    let again = place.path().join("model.gguf");
    export
        .write_gguf(&again, &decided.name, format, &mut |_, _| {})
        .map_err(failed)?;
    same_bytes(model, &again)
}

fn same_bytes(left: &Path, right: &Path) -> Result<bool> {
    let open = |path: &Path| {
        File::open(path)
            .map(BufReader::new)
            .map_err(Error::storage("cannot read", path))
    };
    let (mut ours, mut theirs) = (open(left)?, open(right)?);
    let (mut a, mut b) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let read = |file: &mut BufReader<File>, into: &mut [u8], path: &Path| {
            let mut filled = 0;
            while filled < into.len() {
                match file.read(&mut into[filled..]) {
                    Ok(0) => break,
                    Ok(more) => filled += more,
                    Err(error) => return Err(Error::storage("cannot read", path)(error)),
                }
            }
            Ok(filled)
        };
        let counts = (
            read(&mut ours, &mut a, left)?,
            read(&mut theirs, &mut b, right)?,
        );
        if counts.0 != counts.1 || a[..counts.0] != b[..counts.1] {
            return Ok(false);
        }
        if counts.0 == 0 {
            return Ok(true);
        }
    }
}

fn needs_weights(round: RoundNumber, format: &str) -> Error {
    Error::data(format!(
        "a model in {format} can only be compared with the weights of round {round} in f32"
    ))
    .with_hint(format!(
        "name a data folder with --dir that keeps the weights of round {round}, or verify a folder \
         exported with --type f32"
    ))
}
