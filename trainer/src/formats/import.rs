//! Reads a Hugging Face folder: `config.json`, `tokenizer.json`, and the weights in one safetensors
//! file or in shards.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use super::architecture::Family;
use super::config::{self, Described};
use super::progress::FileProgress;
use super::stored::{StoredTensor, reads_images, stored_tensors, usual_name};
use super::tensor_files::{Place, locate, refused, unreadable};
use crate::error::{Error, Result};
use crate::initial::check_weights;
use crate::spec::ModelSpec;
use crate::tokeniser::Tokeniser;

/// The most bytes of a tensor that are read at once.
const PIECE_BYTES: usize = 1 << 24;

/// An imported model.
#[derive(Debug)]
pub struct Checkpoint {
    /// The model's sizes.
    pub model: ModelSpec,
    /// The weights, flat, in the layout's order.
    pub weights: Vec<f32>,
    /// Its tokeniser, if it has a `tokenizer.json`.
    pub tokeniser: Option<Tokeniser>,
    /// What was read otherwise than `config.json` says, or left out; for people.
    pub notes: Vec<String>,
}

impl Checkpoint {
    /// Reads a folder. `context` shortens the model's context.
    ///
    /// The file decides whether the output projection is the embedding: a projection with other
    /// values is used, whatever `config.json` says.
    ///
    /// # Errors
    /// [`Error::ModelFile`] names the file, the tensor, and what is wrong: an unsupported
    /// architecture or number format, a shape that contradicts `config.json`, a missing or
    /// truncated shard, a value that is not finite. [`Error::Vocabulary`] if the tokeniser has more
    /// tokens than the embedding.
    pub fn read(folder: &Path, context: Option<usize>, progress: FileProgress) -> Result<Self> {
        let (checkpoint, stored) = Self::open(folder, context)?;
        Ok(Self {
            weights: stored.read_weights(&checkpoint.model, progress)?,
            ..checkpoint
        })
    }

    /// Reads everything but the weights, which stay empty, and checks that they are all there.
    ///
    /// # Errors
    /// As for [`Self::read`], but for values that are not finite.
    pub fn preview(folder: &Path, context: Option<usize>) -> Result<Self> {
        let (checkpoint, stored) = Self::open(folder, context)?;
        let layout = checkpoint.model.layout()?;
        let wanted = stored_tensors(stored.family, &checkpoint.model, &layout);
        stored.find(&checkpoint.model, &wanted)?;
        Ok(checkpoint)
    }

    fn open(folder: &Path, context: Option<usize>) -> Result<(Self, Stored<'_>)> {
        let described = read_config(folder, context)?;
        let tokeniser = folder.join("tokenizer.json");
        let tokeniser = tokeniser
            .try_exists()
            .map_err(|error| unreadable(&tokeniser, error))?
            .then(|| Tokeniser::from_file(&tokeniser))
            .transpose()?;
        if let Some(tokeniser) = &tokeniser {
            tokeniser.check_fits(&described.model)?;
        }
        let mut stored = Stored {
            folder,
            family: described.family,
            places: HashMap::new(),
        };
        let mut notes = stored.locate()?;
        let model = stored.decide_tied(&described, &mut notes)?;
        let checkpoint = Self {
            model,
            weights: Vec::new(),
            tokeniser,
            notes,
        };
        Ok((checkpoint, stored))
    }
}

fn read_config(folder: &Path, context: Option<usize>) -> Result<Described> {
    check_is_model(folder)?;
    let path = folder.join("config.json");
    let json = fs::read(&path).map_err(|error| unreadable(&path, error))?;
    config::read(&json, context).map_err(|why| refused(&path, why))
}

/// Says what a path is that is no folder with a model in it.
fn check_is_model(folder: &Path) -> Result<()> {
    let refuse = |reason: &str, hint| {
        Err(Error::ModelFile {
            path: folder.to_owned(),
            reason: reason.to_owned(),
            hint: Some(hint),
        })
    };
    if folder.is_file() {
        return if folder
            .extension()
            .is_some_and(|extension| extension == "gguf")
        {
            refuse(
                "it is a GGUF file, which is only written",
                "give the Hugging Face folder that it was made from",
            )
        } else {
            refuse(
                "it is a file",
                "give the folder that holds config.json and the safetensors files",
            )
        };
    }
    if !folder.exists() {
        return refuse(
            "there is no such folder",
            "download the model first, for example with `hf download NAME --local-dir FOLDER`",
        );
    }
    // The cache of huggingface_hub: models--owner--name/snapshots/<commit>/config.json.
    if !folder.join("config.json").exists() && folder.join("snapshots").is_dir() {
        return refuse(
            "it is a Hugging Face cache folder without a config.json of its own",
            "give one of the folders in its snapshots",
        );
    }
    Ok(())
}

/// The tensors of a folder.
struct Stored<'a> {
    folder: &'a Path,
    family: Family,
    /// By their usual names.
    places: HashMap<String, Place>,
}

impl Stored<'_> {
    /// Locates the tensors of the language model. Returns what is left out, for people.
    fn locate(&mut self) -> Result<Vec<String>> {
        let found = locate(self.folder)?;
        let all = found.len();
        for (name, place) in found {
            if reads_images(&name) {
                continue;
            }
            let usual = usual_name(&name);
            if let Some(other) = self.places.insert(usual.clone(), place) {
                let why = format!("it holds {usual} twice, under different names");
                return Err(refused(&other.file, why));
            }
        }
        let images = all - self.places.len();
        let note = || format!("{images} tensors that read images are left out: only text is read");
        Ok((images > 0).then(note).into_iter().collect())
    }

    /// The model, tied or not by what the folder holds.
    fn decide_tied(&self, described: &Described, notes: &mut Vec<String>) -> Result<ModelSpec> {
        let mut model = described.model.clone();
        let missing = |hint| Error::ModelFile {
            path: self.folder.to_owned(),
            reason: "lm_head.weight, the output projection, is missing, and config.json says that \
                     it is not the embedding"
                .to_owned(),
            hint: Some(hint),
        };
        if !self.places.contains_key(HEAD) {
            if described.says_tied == Some(false) {
                return Err(missing(
                    "download the model again, or set tie_word_embeddings to true if it is the \
                     embedding after all",
                ));
            }
            if !model.tied {
                notes.push(
                    "there is no lm_head.weight, and config.json does not say whether embeddings \
                     are tied: taken as tied"
                        .to_owned(),
                );
            }
            model.tied = true;
        } else if model.tied && self.head_differs(&model)? {
            notes.push(
                "config.json says that embeddings are tied, but lm_head.weight has values of its \
                 own: they are used"
                    .to_owned(),
            );
            model.tied = false;
        }
        Ok(model)
    }

    /// Whether the output projection has other values than the embedding.
    fn head_differs(&self, model: &ModelSpec) -> Result<bool> {
        let (Some(head), Some(embedding)) = (self.places.get(HEAD), self.places.get(EMBEDDING))
        else {
            return Ok(true);
        };
        if head.shape != embedding.shape || head.shape != [model.vocabulary, model.width] {
            return Ok(true);
        }
        let formats = (head.supported(HEAD)?, embedding.supported(EMBEDDING)?);
        let (mut head_file, mut embedding_file) = (head.open()?, embedding.open()?);
        let mut left = model.vocabulary * model.width;
        while left > 0 {
            let count = left.min(PIECE_BYTES / 4);
            let (mut of_head, mut of_embedding) = (vec![0.0; count], vec![0.0; count]);
            head.read(&mut head_file, formats.0, &mut of_head)?;
            embedding.read(&mut embedding_file, formats.1, &mut of_embedding)?;
            if of_head != of_embedding {
                return Ok(true);
            }
            left -= count;
        }
        Ok(false)
    }

    /// Where each of the tensors is. Refuses any others.
    fn find<'t>(
        &self,
        model: &ModelSpec,
        wanted: &'t [StoredTensor],
    ) -> Result<Vec<(&'t StoredTensor, &Place)>> {
        let found = wanted
            .iter()
            .map(|tensor| Ok((tensor, self.place(tensor)?)))
            .collect::<Result<Vec<_>>>()?;
        let names: HashSet<&str> = wanted.iter().map(|tensor| &*tensor.name).collect();
        let foreign = self
            .places
            .iter()
            .find(|(name, _)| !is_redundant(name, model) && !names.contains(&***name));
        match foreign {
            Some((name, place)) => Err(refused(
                &place.file,
                format!(
                    "{name} is not part of {}, as config.json describes it",
                    self.family.class()
                ),
            )),
            None => Ok(found),
        }
    }

    fn read_weights(&self, model: &ModelSpec, progress: FileProgress) -> Result<Vec<f32>> {
        let layout = model.layout()?;
        let wanted = stored_tensors(self.family, model, &layout);
        let found = self.find(model, &wanted)?;
        let total: u64 = found.iter().map(|(_, place)| place.bytes).sum();
        let mut done = 0;
        let mut weights = vec![0.0; layout.parameters()];
        for (tensor, place) in found {
            let format = place.supported(&tensor.name)?;
            let mut file = place.open()?;
            let values = &mut weights[tensor.values(&layout)];
            for piece in values.chunks_mut(PIECE_BYTES / format.bytes()) {
                place.read(&mut file, format, piece)?;
                if tensor.less_one {
                    piece.iter_mut().for_each(|gain| *gain += 1.0);
                }
                done += (piece.len() * format.bytes()) as u64;
                progress(done, total);
            }
        }
        check_weights(&layout, &weights)
            .map_err(|error| refused(self.folder, error.to_string()))?;
        Ok(weights)
    }

    /// Where a tensor of the model is.
    fn place(&self, tensor: &StoredTensor) -> Result<&Place> {
        let name = &tensor.name;
        let place = self
            .places
            .get(name)
            .ok_or_else(|| refused(self.folder, format!("{name} is missing")))?;
        if place.shape != tensor.shape {
            let why = format!(
                "{name} is {:?}, but config.json promises {:?}",
                place.shape, tensor.shape
            );
            return Err(refused(&place.file, why));
        }
        place.supported(name)?;
        Ok(place)
    }
}

/// The output projection and the embedding.
const HEAD: &str = "lm_head.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";

/// Whether a tensor repeats what other tensors or the config say.
fn is_redundant(name: &str, model: &ModelSpec) -> bool {
    name.ends_with("rotary_emb.inv_freq") || model.tied && name == HEAD
}
