//! Splits and tokenises a batch of texts; every core works on a batch of its own.

use super::read::{BadRecord, Batch, Text, texts_of};
use super::shard::Width;
use super::split::{Section, Side, split};
use crate::error::Result;
use crate::tokeniser::Tokeniser;

/// The settings of tokenising.
#[derive(Clone, Debug)]
pub(super) struct BatchTokeniser {
    pub tokeniser: Tokeniser,
    pub width: Width,
    pub end_of_text: Option<u32>,
    pub heldout_ppm: u32,
    pub field: String,
}

/// The tokens and counts of one batch.
#[derive(Debug, Default)]
pub(super) struct TokenisedBatch {
    pub training: Tokens,
    pub heldout: Tokens,
    pub documents: u64,
    pub empty: u64,
    pub bad: Vec<BadRecord>,
}

/// The tokens of consecutive documents.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    pub bytes: Vec<u8>,
    /// Number of tokens of each document.
    pub documents: Vec<u32>,
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
                for text in texts_of(lines, &self.field) {
                    match text {
                        Ok(text) => self.text(text, &mut done)?,
                        Err(bad) => done.bad.push(bad),
                    }
                }
            }
        }
        Ok(done)
    }

    fn text(&self, text: Text, done: &mut TokenisedBatch) -> Result<()> {
        if let (Tokeniser::File(_), Err(error)) =
            (&self.tokeniser, std::str::from_utf8(&text.bytes))
        {
            let reason = format!("not UTF-8 from its byte {} on", error.valid_up_to());
            done.bad.push(BadRecord {
                number: text.number,
                reason,
            });
            return Ok(());
        }
        if text.bytes.trim_ascii().is_empty() {
            // White space at the end of a long document is not another document.
            done.empty += u64::from(!text.part);
            done.documents += u64::from(text.part && text.ends);
            return Ok(());
        }
        let sections = split(&text.bytes, text.part, self.heldout_ppm);
        let last = sections.len().saturating_sub(1);
        for (index, section) in sections.into_iter().enumerate() {
            self.section(&text, section, text.ends && index == last, done)?;
        }
        done.documents += u64::from(text.ends);
        Ok(())
    }

    fn section(
        &self,
        text: &Text,
        section: Section,
        ends: bool,
        done: &mut TokenisedBatch,
    ) -> Result<()> {
        let bytes = &text.bytes[section.range];
        let mut tokens = self.tokeniser.encode(bytes)?;
        match self.end_of_text {
            Some(end) if ends => tokens.push(end),
            // All 256 byte tokens are in use, so a newline ends the document.
            None if ends
                && matches!(self.tokeniser, Tokeniser::Bytes)
                && !bytes.ends_with(b"\n") =>
            {
                tokens.push(u32::from(b'\n'));
            }
            _ => {}
        }
        let side = match section.side {
            Side::Training => &mut done.training,
            Side::Heldout => &mut done.heldout,
        };
        self.width.push(&tokens, &mut side.bytes);
        side.documents.push(tokens.len() as u32);
        side.text_bytes += bytes.len() as u64;
        Ok(())
    }
}
