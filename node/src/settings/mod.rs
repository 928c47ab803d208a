//! How this machine takes part in a run: `settings.toml`, written with its defaults on the first
//! run. The settings are local: peers neither see nor agree on them. Flags and environment
//! variables override the file.

mod addresses;
mod bytes;
mod file;
mod sections;
mod values;

pub(crate) use addresses::Addresses;
pub use bytes::{ByteCount, Bytes};
pub(crate) use file::flag_help;
pub use sections::{
    ComputeSettings, EvaluationSettings, KeepSettings, NetworkSettings, OnDeviceLoss, PageSettings,
    Settings,
};
pub use values::{Auto, ErrorFeedbackSetting, MomentsSetting, PrecisionSetting, StatesSetting};
pub use weal_trainer::DeviceChoice as Device;
