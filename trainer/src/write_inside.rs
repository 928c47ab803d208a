//! Writing files into a folder that [`weal_files::create_folder`] is filling. It syncs the whole
//! folder before the folder appears, so single files need no sync of their own.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};

/// Writes one file.
pub(crate) fn write_inside(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).map_err(|error| Error::write(path, error))
}
