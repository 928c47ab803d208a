//! [`Corpus`]: a tokenised text with a training part and a held-out part.

use std::sync::Arc;

use super::floors::Floors;
use super::part::Part;
use super::shards::{Shards, TokenPart};
use super::source::{self, TextSource};
use super::window::Window;
use crate::data::{PreparedFolder, character_start};
use crate::error::{Error, Result};
use crate::tokeniser::Tokeniser;

/// For a text that stays on disk, floors are measured on this many tokens of the training part, and
/// on an eighth as many of the held-out part.
const FLOOR_TOKENS: u64 = 1 << 20;

/// A tokenised text in two parts: one to train on, one held out to measure on.
#[derive(Clone, Debug)]
pub struct Corpus {
    tokeniser: Tokeniser,
    training: Part,
    heldout: Part,
    floors: Floors,
    digest: [u8; 32],
}

impl Corpus {
    /// Reads, splits and tokenises `sources`.
    ///
    /// The last tenth of each source (of all files of a folder together) is held out, without
    /// splitting a character. Both parts keep the order of the sources. The whole text stays in
    /// memory; [prepare](crate::Prepare) data that is too large for that.
    ///
    /// # Errors
    /// If a source cannot be read or holds no text, or the tokeniser fails.
    pub fn new(sources: &[TextSource], tokeniser: Tokeniser) -> Result<Self> {
        let mut hasher = blake3::Hasher::new_derive_key("commonweal corpus v1");
        let (mut training, mut heldout) = (Vec::new(), Vec::new());
        let mut entropy = None;
        for source in sources {
            let (text, nats) = source::read(source, &tokeniser)?;
            hasher
                .update(&(text.len() as u64).to_le_bytes())
                .update(&text);
            let cut = cut(&text);
            training.extend_from_slice(&text[..cut]);
            heldout.extend_from_slice(&text[cut..]);
            entropy = nats.filter(|_| sources.len() == 1);
        }
        let floors = Floors::measure(&training, &heldout, entropy);
        Ok(Self {
            training: Part::new(training, &tokeniser)?,
            heldout: Part::new(heldout, &tokeniser)?,
            tokeniser,
            floors,
            digest: hasher.finalize().into(),
        })
    }

    /// Opens shards of tokens that `tokeniser` made. Checks every shard now; the tokens stay on
    /// disk.
    ///
    /// # Errors
    /// [`Error::Shard`] for the first shard that is damaged or is not the one listed.
    pub fn prepared(
        training: &TokenPart,
        heldout: &TokenPart,
        tokeniser: Tokeniser,
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
        let open = |part| Shards::open(part, vocabulary).map(Arc::new);
        let (training, heldout) = (open(training)?, open(heldout)?);
        let text = |part: &Shards, most: u64| -> Result<Vec<u8>> {
            let count = part.tokens().min(most) as usize;
            Ok(tokeniser.decode(&part.read(0, count)?)?.into_bytes())
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
        let tokeniser = match folder.tokeniser()? {
            Some(json) => Tokeniser::from_bytes(&json)?,
            None => Tokeniser::Bytes,
        };
        let (training, heldout) = TokenPart::of_folder(folder);
        Self::prepared(&training, &heldout, tokeniser)
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

    /// Windows of `context` predicted tokens in the training part: the index space of
    /// [`Assignment::sample`](crate::Assignment::sample). Window i begins at token i.
    pub fn training_windows(&self, context: usize) -> u64 {
        self.training.windows(context)
    }

    /// Windows of `context` predicted tokens in the held-out part.
    pub fn heldout_windows(&self, context: usize) -> u64 {
        self.heldout.windows(context)
    }

    /// Checks that both parts hold at least one window of `context` predicted tokens.
    pub(crate) fn check(&self, context: usize) -> Result<()> {
        for (part, tokens) in [
            ("training", self.training_tokens()),
            ("held-out", self.heldout_tokens()),
        ] {
            if tokens <= context {
                return Err(Error::DataTooShort {
                    part,
                    found: tokens,
                    context,
                    needed: context + 1,
                });
            }
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

/// Where the held-out part of `text` begins: at nine tenths, at the start of a character.
fn cut(text: &[u8]) -> usize {
    character_start(text, text.len() - text.len() / 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Prepare;

    fn bytes_corpus(text: &[u8]) -> Corpus {
        Corpus::new(&[TextSource::Text(text.to_vec())], Tokeniser::Bytes).unwrap()
    }

    #[test]
    fn the_last_tenth_of_each_source_is_held_out() {
        let sources = [
            TextSource::Text(vec![b'a'; 100]),
            TextSource::Text(vec![b'b'; 50]),
        ];
        let corpus = Corpus::new(&sources, Tokeniser::Bytes).unwrap();
        assert_eq!(
            (corpus.training_tokens(), corpus.heldout_tokens()),
            (135, 15)
        );
        let heldout = corpus.heldout_window(0, 14).unwrap().tokens;
        assert_eq!(heldout[..10], [u32::from(b'a'); 10]);
        assert_eq!(heldout[10..], [u32::from(b'b'); 5]);
    }

    #[test]
    fn a_character_is_never_split() {
        for length in 10..40 {
            let text: String = std::iter::repeat_n('世', length).collect();
            let (training, heldout) = text.as_bytes().split_at(cut(text.as_bytes()));
            assert!(std::str::from_utf8(training).is_ok() && std::str::from_utf8(heldout).is_ok());
        }
    }

    #[test]
    fn windows_cover_the_part_and_nothing_beyond_it() {
        let corpus = bytes_corpus(&(0..100).collect::<Vec<u8>>());
        assert_eq!(corpus.training_windows(8), 82);
        assert_eq!(
            corpus.training_window(81, 8).unwrap().tokens,
            (81..=89).collect::<Vec<u32>>()
        );
        assert!(corpus.training_window(82, 8).is_err());
        assert!(corpus.training_window(u64::MAX, 8).is_err());
    }

    #[test]
    fn a_text_shorter_than_a_window_is_refused_with_what_it_needs() {
        let message = bytes_corpus(&[b'x'; 100])
            .check(16)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("held-out part of the data has 10 tokens") && message.contains("17"),
            "{message}"
        );
        bytes_corpus(&[b'x'; 200]).check(16).unwrap();
    }

    /// Prepares documents, one per line, as shards that end at `shard_tokens` tokens.
    fn prepared(lines: &str, shard_tokens: u64) -> (tempfile::TempDir, Corpus) {
        let dir = tempfile::tempdir().unwrap();
        let (text, folder) = (dir.path().join("x.txt"), dir.path().join("tokens"));
        std::fs::write(&text, lines).unwrap();
        let usual = Prepare::new(vec![text.display().to_string()], Tokeniser::Bytes);
        let prepare = Prepare {
            separator: b"\n".to_vec(),
            heldout_ppm: 200_000,
            shard_tokens,
            ..usual
        };
        prepare
            .run(&folder, &mut |_| std::ops::ControlFlow::Continue(()))
            .unwrap();
        let (training, heldout) = TokenPart::of_folder(&PreparedFolder::open(&folder).unwrap());
        (
            dir,
            Corpus::prepared(&training, &heldout, Tokeniser::Bytes).unwrap(),
        )
    }

    fn all(part: &Part) -> Vec<u32> {
        part.window(0, part.len() - 1).unwrap().tokens
    }

    #[test]
    fn windows_do_not_depend_on_how_the_text_is_cut_into_shards() {
        let lines: String = (0..300)
            .map(|number| format!("document {number}\n"))
            .collect();
        let (_one_dir, one) = prepared(&lines, 1 << 20);
        let (_many_dir, many) = prepared(&lines, 50);
        assert_eq!(one.training_tokens() + one.heldout_tokens(), lines.len());
        assert_eq!(
            (all(&one.training), all(&one.heldout)),
            (all(&many.training), all(&many.heldout))
        );
        let tokens = all(&many.training);
        for start in 0..many.training_windows(120) {
            let window = many.training_window(start, 120).unwrap();
            assert_eq!(window.tokens, tokens[start as usize..start as usize + 121]);
        }
        assert!(
            many.training_window(many.training_windows(120), 120)
                .is_err()
        );
        assert!(many.training_window(u64::MAX, 120).is_err());
        assert_ne!(one.digest(), many.digest());
    }

    #[test]
    fn the_floors_of_prepared_tokens_match_their_text() {
        let lines: String = (0..3_000)
            .map(|number| format!("line {} of it\n", number * 7 % 911))
            .collect();
        let (_dir, corpus) = prepared(&lines, 1 << 20);
        let bytes = |part: &Part| {
            all(part)
                .iter()
                .map(|token| *token as u8)
                .collect::<Vec<u8>>()
        };
        let expected = Floors::measure(&bytes(&corpus.training), &bytes(&corpus.heldout), None);
        assert_eq!(*corpus.floors(), expected);
    }

    #[test]
    fn a_changed_shard_is_refused_by_name() {
        let lines: String = (0..300)
            .map(|number| format!("document {number}\n"))
            .collect();
        let (dir, _) = prepared(&lines, 1 << 20);
        let folder = PreparedFolder::open(&dir.path().join("tokens")).unwrap();
        let (training, heldout) = TokenPart::of_folder(&folder);
        let path = &heldout.shards[0].path;
        let mut bytes = std::fs::read(path).unwrap();
        bytes[40] ^= 1;
        std::fs::write(path, bytes).unwrap();
        let why = Corpus::prepared(&training, &heldout, Tokeniser::Bytes)
            .unwrap_err()
            .to_string();
        assert!(
            why.contains(&path.display().to_string()) && why.contains("hash"),
            "{why}"
        );
    }

    #[test]
    fn the_digest_follows_the_text_and_its_division_into_sources() {
        let one = Corpus::new(&[TextSource::Text(b"abcd".to_vec())], Tokeniser::Bytes).unwrap();
        let two = [
            TextSource::Text(b"ab".to_vec()),
            TextSource::Text(b"cd".to_vec()),
        ];
        assert_ne!(
            one.digest(),
            Corpus::new(&two, Tokeniser::Bytes).unwrap().digest()
        );
        assert_eq!(one.digest(), bytes_corpus(b"abcd").digest());
    }
}
