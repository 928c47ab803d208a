//! A conversation with a model by its chat template.

use std::ops::ControlFlow;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use weal_trainer::{ChatTemplate, GeneratedText, Sampling, TextGenerator, Tokeniser, message};

use crate::error::{Error, ErrorKind, Result};

/// The messages so far, and how they become a prompt.
pub(super) struct Chat<'a> {
    template: ChatTemplate<'a>,
    messages: Vec<Value>,
}

impl<'a> Chat<'a> {
    /// Begins a conversation; `None` if the model has no chat template.
    pub(super) fn new(tokeniser: &'a Tokeniser, system: Option<&str>) -> Result<Option<Self>> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = since.map_or(0, |since| since.as_secs());
        let template = tokeniser.chat_template(seconds).map_err(unusable)?;
        Ok(template.map(|template| Self {
            template,
            messages: system
                .map(|text| message("system", text))
                .into_iter()
                .collect(),
        }))
    }

    /// Takes the user's next message, and prints the model's answer.
    pub(super) fn answer(
        &mut self,
        generator: &mut TextGenerator,
        text: &str,
        sampling: &Sampling,
        print: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<GeneratedText> {
        self.messages.push(message("user", text));
        let prompt = self.template.prompt(&self.messages).map_err(unusable)?;
        let mut has_begun = false;
        let written = generator
            .answer(&prompt, sampling, &mut |piece| {
                // Some models begin an answer with the space before its first word.
                let piece = if has_begun { piece } else { piece.trim_start() };
                has_begun |= !piece.is_empty();
                if piece.is_empty() {
                    return ControlFlow::Continue(());
                }
                print(piece)
            })
            .map_err(unusable)?;
        self.messages
            .push(message("assistant", written.text.trim_start()));
        Ok(written)
    }
}

pub(super) fn unusable(error: weal_trainer::Error) -> Error {
    Error::from(error).with_kind(ErrorKind::Usage)
}
