//! Splits and tokenises a batch of texts; every core works on a batch of its own.

use super::read::{BadRecord, Batch, Document, Messages, Text, documents_of};
use super::shard_format::Width;
use super::split::{Piece, Section, Side, Split};
use crate::error::Result;
use crate::tokeniser::{ChatTemplate, LostLetters, Place, TIME_IN_DATA, Tokeniser};

/// The settings of tokenising.
#[derive(Clone, Debug)]
pub(super) struct BatchTokeniser {
    pub tokeniser: Tokeniser,
    pub width: Width,
    pub split: Split,
    /// Only deal pieces to the parts, without tokens.
    pub survey: bool,
    pub field: String,
    /// Whether only answers of conversations are learnt.
    pub loss_on_answers: bool,
}

/// The tokens and counts of one batch.
#[derive(Debug, Default)]
pub(super) struct TokenisedBatch {
    pub training: Tokens,
    pub heldout: Tokens,
    pub documents: u64,
    pub empty: u64,
    pub bad: Vec<BadRecord>,
    /// Letters that the tokeniser could not read.
    pub lost: LostLetters,
    /// The pieces of text that were dealt.
    pub pieces: Vec<Piece>,
    /// Texts in which halves of surrogate pairs became U+FFFD.
    pub repaired: u64,
}

/// The tokens of consecutive documents.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    pub bytes: Vec<u8>,
    /// Number of tokens of each document.
    pub documents: Vec<u32>,
    /// Whether each token is learnt; empty if all are.
    pub learnt: Vec<bool>,
    pub text_bytes: u64,
}

impl BatchTokeniser {
    /// Tokenises a batch.
    ///
    /// # Errors
    /// If the tokeniser fails.
    pub(super) fn batch(&self, batch: Batch) -> Result<TokenisedBatch> {
        let mut done = TokenisedBatch::default();
        match batch {
            Batch::Texts(texts) => texts
                .into_iter()
                .try_for_each(|text| self.text(text, &mut done))?,
            Batch::Lines(lines) => {
                let chat = self.tokeniser.chat_template(TIME_IN_DATA)?;
                for document in documents_of(&lines, &self.field) {
                    match document {
                        Ok(Document::Text(text)) => self.text(text, &mut done)?,
                        Ok(Document::Messages(messages)) => {
                            self.messages(&messages, chat.as_ref(), &mut done);
                        }
                        Err(bad) => done.bad.push(bad),
                    }
                }
            }
        }
        Ok(done)
    }

    fn text(&self, text: Text, done: &mut TokenisedBatch) -> Result<()> {
        if let Some(reason) = text.fault() {
            done.bad.push(BadRecord {
                number: text.number,
                reason,
            });
            return Ok(());
        }
        done.repaired += u64::from(text.replaced > 0);
        if text.bytes.trim_ascii().is_empty() {
            // White space at the end of a long document is not another document.
            done.empty += u64::from(!text.part);
            done.documents += u64::from(text.part && text.ends);
            return Ok(());
        }
        let (sections, pieces) = self.split.apply(&text.bytes);
        done.pieces.extend(pieces);
        done.documents += u64::from(text.ends);
        if self.survey {
            return Ok(());
        }
        sections
            .into_iter()
            .try_for_each(|section| self.section(&text, section, done))
    }

    /// Tokenises a section. Around it in its part stand other texts, or the same one beyond a hole,
    /// so it begins and ends like a document.
    fn section(&self, text: &Text, section: Section, done: &mut TokenisedBatch) -> Result<()> {
        let bytes = &text.bytes[section.range];
        let special = self.tokeniser.special();
        let mut tokens: Vec<u32> = special.first().into_iter().collect();
        tokens.extend(
            self.tokeniser
                .encode_part(bytes, Place::Start, &mut done.lost)?,
        );
        match special.end_of_text() {
            Some(end) => tokens.push(end),
            // All 256 byte tokens are in use, so a newline ends the document.
            None if matches!(self.tokeniser, Tokeniser::Bytes) && !bytes.ends_with(b"\n") => {
                tokens.push(u32::from(b'\n'));
            }
            None => {}
        }
        let part = done.part(section.side);
        part.text_bytes += bytes.len() as u64;
        part.push(self.width, &tokens, None);
        Ok(())
    }

    /// Tokenises a conversation as the chat template writes it.
    fn messages(
        &self,
        messages: &Messages,
        chat: Option<&ChatTemplate<'_>>,
        done: &mut TokenisedBatch,
    ) {
        let conversation = match chat {
            Some(chat) => chat
                .conversation(&messages.list)
                .map_err(|error| error.to_string()),
            None => Err("it holds messages, but the tokeniser has no chat template".to_owned()),
        };
        let mut tokens = match conversation {
            Ok(tokens) => tokens,
            Err(reason) => {
                let number = messages.number;
                done.bad.push(BadRecord { number, reason });
                return;
            }
        };
        let text = messages.text();
        let (side, piece) = self.split.whole(text.as_bytes());
        done.pieces.push(piece);
        done.documents += 1;
        if self.survey {
            return;
        }
        let end = self.tokeniser.special().end_of_text();
        if let Some(end) = end.filter(|end| tokens.ids.last() != Some(end)) {
            tokens.ids.push(end);
            tokens.answers.push(false);
        }
        let learnt = self.loss_on_answers.then_some(tokens.answers);
        let part = done.part(side);
        part.text_bytes += text.len() as u64;
        part.push(self.width, &tokens.ids, learnt);
    }
}

impl TokenisedBatch {
    fn part(&mut self, side: Side) -> &mut Tokens {
        match side {
            Side::Training => &mut self.training,
            Side::Heldout => &mut self.heldout,
        }
    }
}

impl Tokens {
    /// Appends a document. `learnt` says which of its tokens are learnt; without it, all are.
    fn push(&mut self, width: Width, tokens: &[u32], learnt: Option<Vec<bool>>) {
        let before = self.bytes.len() / width.bytes() as usize;
        if let Some(learnt) = learnt {
            self.learnt.resize(before, true);
            self.learnt.extend(learnt);
        } else if !self.learnt.is_empty() {
            self.learnt.resize(before + tokens.len(), true);
        }
        width.push(tokens, &mut self.bytes);
        self.documents.push(tokens.len() as u32);
    }
}
