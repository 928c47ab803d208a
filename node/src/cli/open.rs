//! Opening a model and a device, with progress on the terminal.

use std::path::PathBuf;

use clap::Args;
use weal_trainer::OpenDevice;

use super::args::{DeviceArgs, FolderArgs};
use super::progress::{ByteBar, with_spinner};
use crate::error::{Error, Result};
use crate::loaded_model::LoadedModel;
use crate::notes::tell_notes;
use crate::settings::Device;
use crate::terminal::say;

/// The longest windows to evaluate on unless `--context` says otherwise, in tokens.
const EVALUATION_CONTEXT: usize = 2048;

/// What a model is opened for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// To generate text.
    Text,
    /// To measure its losses.
    Evaluation,
}

/// A model, and the device to run it on.
#[derive(Debug, Args)]
pub(super) struct ModelArgs {
    /// Hugging Face folder of the model. By default the newest weights of the data folder.
    #[arg(long, value_name = "FOLDER")]
    model: Option<PathBuf>,
    /// Most tokens that the model sees at once, from 2 to its own context. By default `weal eval`
    /// takes up to 2048, and `weal generate` as many as fit the free memory.
    #[arg(long, value_name = "TOKENS")]
    context: Option<usize>,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    folder: FolderArgs,
}

impl ModelArgs {
    /// Loads the model and opens the device, and says on standard error which they are.
    pub(super) fn open(&self, purpose: Purpose) -> Result<(LoadedModel, OpenDevice)> {
        let bar = ByteBar::new("reading");
        let loaded = match &self.model {
            Some(checkpoint) => LoadedModel::checkpoint(checkpoint, &mut bar.callback()),
            None => LoadedModel::folder(&self.folder.folder()?, None),
        };
        bar.clear();
        let mut loaded = loaded?;
        if self.model.is_some() {
            tell_notes(&loaded.tokeniser);
        }
        let whole = loaded.model.context;
        // Before the device, which may take long to open.
        let asked = self.context.map(|asked| within(asked, whole)).transpose()?;
        let device = open_device(self.device.device)?;
        loaded.model.context = match (asked, purpose) {
            (Some(asked), _) => asked,
            (None, Purpose::Evaluation) => whole.min(EVALUATION_CONTEXT),
            (None, Purpose::Text) => device.longest_text(&loaded.model)?,
        };
        say!("{}, on {}", loaded.origin, device.name());
        if loaded.model.context < whole {
            let context = loaded.model.context;
            say!("the model sees {context} tokens at once, of the {whole} of its context");
        }
        Ok((loaded, device))
    }
}

/// The context that the user asks for, if the model has it.
fn within(asked: usize, whole: usize) -> Result<usize> {
    if (2..=whole).contains(&asked) {
        return Ok(asked);
    }
    Err(Error::usage(format!(
        "--context {asked}: the model's context is {whole} tokens"
    ))
    .with_hint(format!("choose a number from 2 to {whole}")))
}

/// Opens a device that shows a spinner during its kernel warm-up.
pub(super) fn open_device(device: Device) -> Result<OpenDevice> {
    Ok(with_spinner(OpenDevice::open(device)?))
}
