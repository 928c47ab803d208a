//! Opening a model and a device, with progress on the terminal.

use std::path::PathBuf;

use clap::Args;
use weal_trainer::OpenDevice;

use super::args::{DeviceArgs, FolderArgs};
use super::progress::{ByteBar, with_spinner};
use crate::error::Result;
use crate::loaded_model::LoadedModel;
use crate::settings::Device;

/// A model, and the device to run it on.
#[derive(Debug, Args)]
pub(super) struct ModelArgs {
    /// Hugging Face folder of the model. By default the newest weights of the data folder.
    #[arg(long, value_name = "FOLDER")]
    model: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    folder: FolderArgs,
}

impl ModelArgs {
    /// Loads the model and opens the device, and says on standard error which they are.
    pub(super) fn open(&self) -> Result<(LoadedModel, OpenDevice)> {
        let bar = ByteBar::new("reading");
        let loaded = LoadedModel::open(
            self.model.as_ref(),
            &self.folder.folder(),
            &mut bar.callback(),
        );
        bar.clear();
        let loaded = loaded?;
        let device = open_device(self.device.device)?;
        eprintln!("{}, on {}", loaded.origin, device.name());
        Ok((loaded, device))
    }
}

/// Opens a device that shows a spinner during its kernel warm-up.
pub(super) fn open_device(device: Device) -> Result<OpenDevice> {
    Ok(with_spinner(OpenDevice::open(device)?))
}
