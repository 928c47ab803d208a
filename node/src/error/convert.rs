//! Errors of other crates: which kind each is, decided once.

use super::{Error, ErrorKind};

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
        | Trainer::DataNotText { .. }
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
        Self::of(ErrorKind::Network, error)
    }
}

impl From<weal_network::FetchError> for Error {
    fn from(error: weal_network::FetchError) -> Self {
        Self::of(ErrorKind::Network, error)
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
