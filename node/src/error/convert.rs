//! Errors of other crates: which kind each is, and what fixes it, decided once.

use std::borrow::Cow;
use std::error::Error as StdError;

use super::{Error, ErrorKind};

/// What fixes an error of another crate, if that crate or this one knows.
pub(super) fn hint_of(error: &(dyn StdError + Send + Sync + 'static)) -> Option<Cow<'static, str>> {
    if let Some(error) = error.downcast_ref::<weal_trainer::Error>() {
        return error.hint().map(|hint| hint.into_owned().into());
    }
    network_hint(error.downcast_ref()?).map(Cow::Borrowed)
}

fn network_hint(error: &weal_network::Error) -> Option<&'static str> {
    use weal_network::Error as Network;
    match error {
        Network::PortInUse { .. } => {
            Some("stop the program that uses the port, or choose another one with --port")
        }
        Network::Listen { .. } | Network::NothingToListenOn { .. } => {
            Some("correct network.listen in settings.toml, or use --port")
        }
        Network::Key => Some("restore the file `key` from a backup, or delete it to get a new key"),
        _ => None,
    }
}

impl From<weal_files::Error> for Error {
    fn from(error: weal_files::Error) -> Self {
        Self::of(ErrorKind::Storage, error)
    }
}

impl From<weal_trainer::Error> for Error {
    fn from(error: weal_trainer::Error) -> Self {
        let kind = trainer_kind(&error);
        Self::of(kind, error)
    }
}

fn trainer_kind(error: &weal_trainer::Error) -> ErrorKind {
    use weal_trainer::Error as Trainer;
    match error {
        Trainer::DeviceName(_) => ErrorKind::Usage,
        Trainer::Model { .. }
        | Trainer::UnknownPreset { .. }
        | Trainer::Inner { .. }
        | Trainer::Generation { .. } => ErrorKind::Configuration,
        Trainer::DataUnreadable { .. }
        | Trainer::DataEmpty { .. }
        | Trainer::NotText { .. }
        | Trainer::DataTooShort { .. }
        | Trainer::Shard { .. }
        | Trainer::Prepare { .. }
        | Trainer::Tokeniser { .. }
        | Trainer::Vocabulary { .. }
        | Trainer::Question { .. }
        | Trainer::ModelFile { .. }
        | Trainer::Read { .. } => ErrorKind::Data,
        Trainer::Device { .. } | Trainer::NoDevice { .. } | Trainer::Precision { .. } => {
            ErrorKind::Device
        }
        Trainer::Export { .. } | Trainer::Files(_) | Trainer::Write { .. } => ErrorKind::Storage,
        _ => ErrorKind::Internal,
    }
}

impl From<weal_network::Error> for Error {
    fn from(error: weal_network::Error) -> Self {
        let hint = error.hint();
        let error = Self::of(ErrorKind::Network, error);
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

impl From<weal_network::FetchError> for Error {
    fn from(error: weal_network::FetchError) -> Self {
        let kind = match error {
            weal_network::FetchError::Storage { .. } => ErrorKind::Storage,
            _ => ErrorKind::Network,
        };
        Self::of(kind, error)
    }
}

impl From<weal_network::RequestError> for Error {
    fn from(error: weal_network::RequestError) -> Self {
        Self::of(ErrorKind::Network, error)
    }
}

impl From<weal_kernels::Error> for Error {
    fn from(error: weal_kernels::Error) -> Self {
        Self::of(ErrorKind::Internal, error)
    }
}

impl From<weal_coordinator_free::Error> for Error {
    fn from(error: weal_coordinator_free::Error) -> Self {
        Self::of(ErrorKind::Internal, error)
    }
}
