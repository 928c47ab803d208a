//! How this machine takes part: `settings.toml`, written with its defaults on the first run. None
//! of it is agreed on with anybody. Flags and `WEAL_…` variables come before the file.

mod values;

use std::fs;
use std::io;
use std::net::SocketAddr;

use libp2p::Multiaddr;
use serde::{Deserialize, Serialize};

pub use values::{Auto, Bits, Bytes, StatesIn};
use weal_files::Access;
pub use weal_trainer::DeviceChoice as Device;
use weal_trainer::{PlanRequest, Precision, StatePlacement};

use crate::error::{Error, Result};
use crate::folder::Folder;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Peers and addresses.
    pub network: NetworkSettings,
    /// The web page.
    pub page: PageSettings,
    /// The device that trains.
    pub compute: ComputeSettings,
    /// Measuring the held-out loss.
    pub evaluation: EvaluationSettings,
    /// What is kept on disk.
    pub keep: KeepSettings,
}

/// Peers and addresses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkSettings {
    /// Addresses to listen on.
    pub listen: Vec<Multiaddr>,
    /// Addresses under which others reach this machine, where it cannot find out itself.
    pub external: Vec<Multiaddr>,
    /// Peers to begin with, each with its identity.
    pub bootstrap: Vec<Multiaddr>,
    /// Whether to look for peers on the local network.
    pub mdns: bool,
    /// The most bytes of contributions and weights sent each second; 0 is as many as the line
    /// takes.
    pub max_upload: u64,
    /// The same for what is received.
    pub max_download: u64,
}

impl Default for NetworkSettings {
    fn default() -> Self {
        Self::on_port(7700)
    }
}

impl NetworkSettings {
    /// Listens on every interface, QUIC and TCP, on this port.
    pub fn on_port(port: u16) -> Self {
        let addresses = [
            format!("/ip4/0.0.0.0/udp/{port}/quic-v1"),
            format!("/ip4/0.0.0.0/tcp/{port}"),
        ];
        Self {
            listen: addresses
                .iter()
                .filter_map(|text| text.parse().ok())
                .collect(),
            external: Vec::new(),
            bootstrap: Vec::new(),
            mdns: true,
            max_upload: 0,
            max_download: 0,
        }
    }
}

/// The web page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PageSettings {
    /// Address of the page, of `/metrics` and of `/api`.
    pub listen: SocketAddr,
}

impl Default for PageSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7780)),
        }
    }
}

/// What a node does when its device fails in mid-run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDeviceLoss {
    /// Opens the device again, after longer and longer pauses, and sits out the rounds until it is
    /// back.
    #[default]
    Wait,
    /// Goes on on the processor, until it is started again.
    Fallback,
    /// Ends with exit code 11, for a supervisor to start it again.
    Restart,
}

/// The device that trains.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ComputeSettings {
    /// Which device.
    pub device: Device,
    /// What to do when it fails in mid-run.
    pub on_device_loss: OnDeviceLoss,
    /// Threads on the processor; 0 is one for each core.
    pub threads: usize,
    /// Sequences of a step that are computed at once; fewer take less memory and more time, 0 is
    /// all.
    pub micro_batch: Auto<usize>,
    /// Whether what a block needs for its gradient is computed again instead of kept: a third more
    /// time, much less memory.
    pub recompute: Auto<bool>,
    /// Where weights in f32, sums of gradients, moments and error feedback lie.
    pub states: Auto<StatesIn>,
    /// What matrices are multiplied in.
    pub precision: Auto<Bits>,
    /// The most memory that training may take: of the GPU's, or on the processor of the machine's.
    /// `auto` is what is free.
    pub memory: Auto<Bytes>,
}

impl ComputeSettings {
    /// What is settled of the way the device is used.
    pub fn wishes(&self) -> PlanRequest {
        PlanRequest {
            micro_batch: self.micro_batch.set(),
            recompute: self.recompute.set(),
            states: self.states.set().map(StatePlacement::from),
            precision: self.precision.set().map(Precision::from),
        }
    }

    /// The most memory that training may take, in bytes, where its owner says.
    pub fn memory_cap(&self) -> Option<u64> {
        self.memory.set().map(|Bytes(bytes)| bytes)
    }
}

/// Measuring the held-out loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluationSettings {
    /// Sequences measured each time, evenly spaced over the held-out text; 0 is all of them.
    pub sequences: usize,
    /// Rounds between two measurements; 0 never measures.
    pub every: u64,
}

impl Default for EvaluationSettings {
    fn default() -> Self {
        Self {
            sequences: 64,
            every: 1,
        }
    }
}

/// What is kept on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeepSettings {
    /// Rounds whose contributions are kept for others, and for an own restart.
    pub contributions: u64,
    /// Rounds at whose start the weights are kept.
    pub weights: u64,
}

impl Default for KeepSettings {
    fn default() -> Self {
        Self {
            contributions: 64,
            weights: 4,
        }
    }
}

const HEAD: &str = "\
# How this machine takes part. Nothing in here is agreed on with anybody: change it and restart.
# Flags and WEAL_... environment variables come before what stands here.
";

/// A comment for each key, put above it in the file that is written.
const COMMENTS: [(&str, &str); 23] = [
    ("[network]", "Peers and addresses."),
    (
        "listen = [",
        "Addresses to listen on, QUIC first. Choose another port with --port.",
    ),
    (
        "external",
        "Addresses under which others reach this machine, e.g. [\"/dns4/home.example.org/udp/7700/quic-v1\"].",
    ),
    (
        "bootstrap",
        "Peers to begin with, each with its identity: /ip4/.../udp/7700/quic-v1/p2p/12D3Koo...",
    ),
    ("mdns", "Whether to look for peers on the local network."),
    (
        "max_upload",
        "The most bytes of contributions and weights sent each second; 0 is as many as the line takes. Too few, and \
         others do not get your contribution before the round ends.",
    ),
    ("max_download", "The same for what is received."),
    (
        "[page]",
        "The page, /metrics and /api. They show everything and ask for no password: keep them on loopback.",
    ),
    ("[compute]", "The device that trains."),
    (
        "device",
        "auto (the best GPU there is, else the processor), cpu, gpu (no start without one), or gpu:1 (one of several, as `weal doctor` counts them).",
    ),
    (
        "on_device_loss",
        "When the device fails in mid-run: wait (open it again, and sit out the rounds until it is back), fallback (go on \
         on the processor), or restart (end with exit code 11, for a supervisor to start the node again).",
    ),
    (
        "threads",
        "Threads on the processor; 0 is one for each core.",
    ),
    (
        "micro_batch",
        "Sequences of a step computed at once; fewer take less memory and more time, 0 is all. \"auto\", here and below: \
         what is fastest in the memory there is, see `weal doctor`.",
    ),
    (
        "recompute",
        "Whether what gradients need is computed again instead of kept (true, false, \"auto\"): a third more time, much less \
         memory.",
    ),
    (
        "states",
        "Where weights in f32, sums of gradients, moments and error feedback lie: \"device\", \"host\" (the machine's memory), \
         \"auto\".",
    ),
    (
        "precision",
        "What matrices are multiplied in: \"f32\", \"bf16\" (GPUs that have it), \"auto\".",
    ),
    (
        "memory",
        "The most memory training may take, e.g. \"6 GB\": of the GPU's, or of the machine's; \"auto\" is what is free.",
    ),
    ("[evaluation]", "Measuring the held-out loss, for the page."),
    (
        "sequences",
        "Sequences measured each time, evenly spaced over the held-out text; 0 is all of them.",
    ),
    (
        "every",
        "Rounds between two measurements; 0 never measures.",
    ),
    ("[keep]", "What is kept on disk."),
    (
        "contributions",
        "Rounds whose contributions are kept, for others and for an own restart.",
    ),
    (
        "weights",
        "Rounds at whose start the weights are kept; newcomers fetch them from here. At least 2.",
    ),
];

impl Settings {
    /// Reads a folder's settings; writes these defaults where there are none.
    ///
    /// # Errors
    /// When the file cannot be read or written, or has a key or value that is not known.
    pub fn load_or_write(folder: &Folder, defaults: &Self) -> Result<Self> {
        let path = folder.settings();
        match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text)
                .map_err(|error| Error::configuration(path.display(), error.to_string().trim())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                weal_files::write(
                    &path,
                    Access::Owner,
                    defaults.to_commented_toml()?.as_bytes(),
                )?;
                Ok(defaults.clone())
            }
            Err(error) => Err(Error::storage("cannot read the settings", &path)(error)),
        }
    }

    /// Reads a folder's settings; the defaults where there are none. Writes nothing.
    ///
    /// # Errors
    /// When the file cannot be read, or has a key or value that is not known.
    pub fn read(folder: &Folder) -> Result<Self> {
        if folder.settings().exists() {
            Self::load_or_write(folder, &Self::default())
        } else {
            Ok(Self::default())
        }
    }

    /// The file's text, with a comment above every key.
    ///
    /// # Errors
    /// When a value cannot be written as TOML; no value of this type is such.
    pub fn to_commented_toml(&self) -> Result<String> {
        let plain = toml::to_string_pretty(self)
            .map_err(|error| Error::configuration("settings", error))?;
        let mut text = HEAD.to_owned();
        for line in plain.lines() {
            if let Some((_, comment)) = COMMENTS.iter().find(|(start, _)| line.starts_with(start)) {
                if line.starts_with('[') {
                    text.push('\n');
                }
                text.push_str(&format!("# {comment}\n"));
            }
            if !line.is_empty() {
                text.push_str(line);
                text.push('\n');
            }
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_written_file_reads_back_and_explains_every_key() {
        let text = Settings::default().to_commented_toml().unwrap();
        assert_eq!(
            toml::from_str::<Settings>(&text).unwrap(),
            Settings::default()
        );
        for (start, comment) in COMMENTS {
            assert!(
                text.contains(comment),
                "no line begins with {start}:\n{text}"
            );
        }
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        fs::write(folder.settings(), "[compute]\nthreds = 3\n").unwrap();
        let error = Settings::load_or_write(&folder, &Settings::default()).unwrap_err();
        assert_eq!(error.code(), 3);
        assert!(error.to_string().contains("threds"), "{error}");
    }

    #[test]
    fn a_device_is_named_as_on_the_command_line() {
        let settings = |device: &str| {
            toml::from_str::<Settings>(&format!("[compute]\ndevice = \"{device}\"\n"))
        };
        for (name, device) in [
            ("cpu", Device::Cpu),
            ("gpu", Device::Gpu),
            ("gpu:3", Device::GpuNumber(3)),
        ] {
            let read = settings(name).unwrap();
            assert_eq!(read.compute.device, device);
            assert!(
                read.to_commented_toml()
                    .unwrap()
                    .contains(&format!("device = \"{name}\""))
            );
        }
        assert!(
            settings("gpu:x")
                .unwrap_err()
                .to_string()
                .contains("gpu:<number>")
        );
    }
}
