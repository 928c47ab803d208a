//! What the page shows of the run itself.

use weal_dashboard::{Floor, Run};
use weal_proto::manifest::{Data, Manifest};
use weal_trainer::Corpus;

/// The run's facts; the link follows with each snapshot.
pub(super) fn describe(manifest: &Manifest) -> Run {
    let model = &manifest.model;
    Run {
        id: manifest.run().to_string(),
        name: manifest.name.clone(),
        link: String::new(),
        model: format!(
            "{} layers, width {}, context {}",
            model.layers, model.width, model.context
        ),
        parameters: model.parameters(),
        data: describe_data(&manifest.data),
        inner_steps: u64::from(manifest.inner.steps),
        batch: u64::from(manifest.inner.batch),
        keep: u64::from(manifest.compression.keep),
        chunk: u64::from(manifest.compression.chunk),
    }
}

fn describe_data(data: &Data) -> String {
    match data {
        Data::Generator { bytes, .. } => format!("built-in generator, {bytes} bytes"),
        Data::Prepared(tokens) => {
            let shards = tokens.training.shards.iter();
            let tokens: u64 = shards.map(|shard| shard.tokens).sum();
            format!("{tokens} prepared tokens")
        }
        Data::Sources(sources) => match sources.as_slice() {
            [one] => format!("{}, {} bytes", one.name, one.bytes),
            many => {
                let bytes: u64 = many.iter().map(|source| source.bytes).sum();
                format!("{} files, {bytes} bytes", many.len())
            }
        },
    }
}

/// The losses that simple models of the text reach, to compare with.
pub(in crate::daemon) fn floors(corpus: &Corpus) -> Vec<Floor> {
    let floors = corpus.floors();
    let named = [
        ("unigram", Some(floors.unigram)),
        ("bigram", Some(floors.bigram)),
        ("trigram", Some(floors.trigram)),
        ("entropy", floors.entropy),
    ];
    named
        .into_iter()
        .filter_map(|(name, nats)| {
            Some(Floor {
                name: name.to_owned(),
                nats_per_byte: nats?,
            })
        })
        .collect()
}
