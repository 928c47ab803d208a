//! [`Corpus`]: a tokenised text with a training part and a held-out part.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::floors::Floors;
use super::holdout::heldout_from;
use super::part::Part;
use super::shards::{Shards, TokenPart};
use super::source::{self, TextSource};
use super::window::Window;
use crate::data::{PreparedFolder, VerifiedShards};
use crate::error::{Error, Result};
use crate::sampling::Windows;
use crate::tokeniser::Tokeniser;

/// For a text that stays on disk, floors are measured on this many tokens of the training part, and
/// on an eighth as many of the held-out part.
const FLOOR_TOKENS: u64 = 1 << 20;

/// A tokenised text in two parts: one to train on, one held out to measure on.
#[derive(Clone, Debug)]
pub struct Corpus {
    tokeniser: Tokeniser,
    pub(super) training: Part,
    pub(super) heldout: Part,
    floors: Floors,
    digest: [u8; 32],
}

impl Corpus {
    /// Reads, splits and tokenises `sources`.
    ///
    /// About a tenth is held out: whole texts if there are enough, else the last tenth of each.
    /// Both parts keep the order of the sources, and each text ends as a document does. The whole
    /// text stays in memory; [prepare](crate::Prepare) data that is too large for that.
    ///
    /// # Errors
    /// If a source cannot be read or holds no text, or the tokeniser fails.
    pub fn new(sources: &[TextSource], tokeniser: Tokeniser) -> Result<Self> {
        let mut hasher = blake3::Hasher::new_derive_key("commonweal corpus v1");
        let (mut texts, mut entropy) = (Vec::new(), None);
        for source in sources {
            let (of_source, nats) = source::read(source)?;
            texts.extend(of_source);
            entropy = nats.filter(|_| sources.len() == 1);
        }
        for text in &texts {
            hasher
                .update(&(text.len() as u64).to_le_bytes())
                .update(text);
        }
        let from = heldout_from(&texts);
        let pieces = texts.iter().zip(from);
        let (training, heldout): (Vec<&[u8]>, Vec<&[u8]>) =
            pieces.map(|(text, from)| text.split_at(from)).unzip();
        let floors = Floors::measure(&training.concat(), &heldout.concat(), entropy);
        Ok(Self {
            training: Part::new(&training, &tokeniser)?,
            heldout: Part::new(&heldout, &tokeniser)?,
            tokeniser,
            floors,
            digest: hasher.finalize().into(),
        })
    }

    /// Opens shards of tokens that `tokeniser` made. Verifies every shard now; the tokens stay on
    /// disk, and no file stays open.
    ///
    /// # Errors
    /// [`Error::Shard`] for the first shard that is damaged or is not the one listed.
    pub fn prepared(
        training: &TokenPart,
        heldout: &TokenPart,
        tokeniser: Tokeniser,
    ) -> Result<Self> {
        Self::open(training, heldout, tokeniser, None)
    }

    /// As [`Self::prepared`], but verifies only shards whose files have changed since an earlier
    /// call with the same file `verified`, which lists them.
    ///
    /// # Errors
    /// As for [`Self::prepared`].
    pub fn prepared_before(
        training: &TokenPart,
        heldout: &TokenPart,
        tokeniser: Tokeniser,
        verified: &Path,
    ) -> Result<Self> {
        let known = Some((verified, SystemTime::now()));
        Self::open(training, heldout, tokeniser, known)
    }

    pub(super) fn open(
        training: &TokenPart,
        heldout: &TokenPart,
        tokeniser: Tokeniser,
        known: Option<(&Path, SystemTime)>,
    ) -> Result<Self> {
        let mut hasher = blake3::Hasher::new_derive_key("commonweal prepared corpus v1");
        for part in [training, heldout] {
            hasher
                .update(&part.text_bytes.to_le_bytes())
                .update(&(part.shards.len() as u64).to_le_bytes());
            for shard in &part.shards {
                hasher.update(&shard.hash);
            }
        }
        let vocabulary = tokeniser.vocabulary();
        let known = known.map(|(file, now)| (VerifiedShards::read(file), now));
        let listed = known.as_ref().map(|(listed, _)| listed);
        let open = |part| Shards::open(part, vocabulary, listed).map(Arc::new);
        let (training, heldout) = (open(training)?, open(heldout)?);
        if let Some((known, now)) = known {
            known.write(training.iter().chain(heldout.iter()), now);
        }
        let text = |part: &Shards, most: u64| -> Result<Vec<u8>> {
            let count = part.tokens().min(most) as usize;
            Ok(tokeniser.decode(&part.read(0, count)?.tokens)?.into_bytes())
        };
        let floors = Floors::measure(
            &text(&training, FLOOR_TOKENS)?,
            &text(&heldout, FLOOR_TOKENS / 8)?,
            None,
        );
        Ok(Self {
            training: Part::Shards(training),
            heldout: Part::Shards(heldout),
            tokeniser,
            floors,
            digest: hasher.finalize().into(),
        })
    }

    /// Opens a folder of prepared data.
    ///
    /// # Errors
    /// As for [`Self::prepared`], and if the folder's tokeniser cannot be read.
    pub fn of_folder(folder: &PreparedFolder) -> Result<Self> {
        let tokeniser = folder.tokeniser()?;
        let (training, heldout) = TokenPart::of_folder(folder);
        Self::prepared(&training, &heldout, tokeniser)
    }

    /// Checks that [`Self::new`] would make two parts of at least one window of `context` predicted
    /// tokens each. Of each part only as much is tokenised as that takes.
    ///
    /// # Errors
    /// [`Error::DataTooShort`], or as for [`Self::new`].
    pub fn check_length(
        sources: &[TextSource],
        tokeniser: &Tokeniser,
        context: usize,
    ) -> Result<()> {
        let mut texts = Vec::new();
        for source in sources {
            texts.extend(source::read(source)?.0);
        }
        let pieces = texts.iter().zip(heldout_from(&texts));
        let (training, heldout): (Vec<&[u8]>, Vec<&[u8]>) =
            pieces.map(|(text, from)| text.split_at(from)).unzip();
        for (part, texts) in [("training", training), ("held-out", heldout)] {
            let found = Part::tokens_up_to(&texts, tokeniser, context + 1)?;
            check_window(part, found, context)?;
        }
        Ok(())
    }

    /// The tokeniser of this corpus.
    pub fn tokeniser(&self) -> &Tokeniser {
        &self.tokeniser
    }

    /// Tokens of the training part.
    pub fn training_tokens(&self) -> usize {
        self.training.len()
    }

    /// Tokens of the held-out part.
    pub fn heldout_tokens(&self) -> usize {
        self.heldout.len()
    }

    /// Losses to compare a model with: n-gram cross-entropies on the held-out part, and the
    /// generator's entropy.
    pub fn floors(&self) -> &Floors {
        &self.floors
    }

    /// A BLAKE3 digest of the text and its order: over each source's length and bytes
    /// (`commonweal corpus v1`), or over the hashes of all shards
    /// (`commonweal prepared corpus v1`). Peers with the same digest have the same data.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The windows of `context` predicted tokens that the training part is cut into.
    pub fn training_windows(&self, context: usize) -> Windows {
        Windows::new(self.training.len() as u64, context as u64)
    }

    /// Tokens of the held-out part at which a window of `context` predicted tokens may begin.
    pub fn heldout_windows(&self, context: usize) -> u64 {
        self.heldout.windows(context)
    }

    /// Checks that both parts hold at least one window of `context` predicted tokens.
    pub(crate) fn check(&self, context: usize) -> Result<()> {
        for (part, tokens) in [
            ("training", self.training_tokens()),
            ("held-out", self.heldout_tokens()),
        ] {
            check_window(part, tokens, context)?;
        }
        Ok(())
    }

    pub(crate) fn training_window(&self, start: u64, context: usize) -> Result<Window> {
        self.training.window(start, context)
    }

    pub(crate) fn heldout_window(&self, start: u64, context: usize) -> Result<Window> {
        self.heldout.window(start, context)
    }
}

fn check_window(part: &'static str, found: usize, context: usize) -> Result<()> {
    if found <= context {
        return Err(Error::DataTooShort {
            part,
            found,
            context,
            needed: context + 1,
        });
    }
    Ok(())
}
