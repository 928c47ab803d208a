//! `weal generate`: lets the newest weights of a data folder write text.

use std::io::Write;
use std::ops::ControlFlow;
use std::process::ExitCode;

use clap::Args;
use weal_trainer::{OpenDevice, Sampling, TextGenerator, Tokeniser};

use super::FolderArgs;
use super::node::set_threads;
use crate::error::{Error, Result};
use crate::model::{self, Plan};
use crate::settings::Device;
use crate::store::weights::WeightFiles;

#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// How the text begins.
    #[arg(default_value = "\n")]
    prompt: String,
    /// Tokens to write.
    #[arg(long, default_value_t = 256)]
    tokens: usize,
    /// 0 always takes the likeliest token; more is bolder.
    #[arg(long, default_value_t = 0.8)]
    temperature: f32,
    /// Draws only from the likeliest tokens that make up this share.
    #[arg(long, default_value_t = 0.95)]
    top_p: f32,
    /// Draws only from so many of the likeliest tokens; 0 from all.
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// The same seed gives the same text; by default a new one each time.
    #[arg(long)]
    seed: Option<u64>,
    /// The device.
    #[arg(long, env = "WEAL_DEVICE", default_value = "auto")]
    device: Device,
    #[command(flatten)]
    folder: FolderArgs,
}

impl GenerateArgs {
    pub fn run(self) -> Result<ExitCode> {
        set_threads(0)?;
        let folder = self.folder.folder();
        let place = folder.path().display().to_string();
        let missing = |what: &str| {
            Error::Folder(format!("{place}: no {what} in this data folder; give a node's folder with --dir"))
        };
        let manifest = folder.manifest()?.ok_or_else(|| missing("run"))?;
        let plan = Plan::new(&manifest)?;
        let files = WeightFiles::new(folder.weights());
        let round = files.rounds()?.pop().ok_or_else(|| missing("weights"))?;
        let weights = files.load(&plan.layout, round)?;
        let failed = |error: weal_trainer::Error| Error::Device(error.to_string());
        let device = OpenDevice::open(model::device_choice(self.device)).map_err(failed)?;
        let tokeniser = tokeniser(&folder, &manifest)?;
        let mut generator =
            TextGenerator::new(plan.model.clone(), tokeniser, &weights.values, &device).map_err(failed)?;
        let sampling = Sampling {
            max_tokens: self.tokens,
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            seed: self.seed.unwrap_or_else(rand::random),
        };
        eprintln!("weights at the start of round {round}, on {}", device.name());
        print!("{}", self.prompt);
        generator
            .generate(&self.prompt, &sampling, &mut |text| {
                print!("{text}");
                // A reader that went away ends the text.
                if std::io::stdout().flush().is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
            .map_err(|error| Error::Usage(error.to_string()))?;
        println!();
        Ok(ExitCode::SUCCESS)
    }
}

/// The run's tokeniser; read beside a running node, so without its database.
fn tokeniser(folder: &crate::folder::Folder, manifest: &weal_proto::Manifest) -> Result<Tokeniser> {
    match &manifest.tokeniser {
        weal_proto::manifest::Tokeniser::Bytes => Ok(Tokeniser::Bytes),
        weal_proto::manifest::Tokeniser::File { hash, .. } => {
            let path = crate::store::blobs::path(&folder.blobs(), hash);
            let json = std::fs::read(&path).map_err(Error::storage("cannot read the tokeniser", &path))?;
            Tokeniser::from_bytes(&json).map_err(|error| Error::corrupt(&path, error))
        }
    }
}
