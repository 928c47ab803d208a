//! Parts of a file that were never written, and take no room on the disk.

use std::fs::File;
use std::io;

/// Whether nothing was ever written to this part of a file, as far as its system tells.
#[cfg(any(target_os = "linux", target_vendor = "apple"))]
pub(super) fn is_hole(file: &File, start: u64, length: u64) -> io::Result<bool> {
    use rustix::fs::{SeekFrom, seek};
    use rustix::io::Errno;

    match seek(file, SeekFrom::Data(start)) {
        Ok(data) => Ok(data >= start.saturating_add(length)),
        // There is no data after this place.
        Err(Errno::NXIO) => Ok(true),
        Err(Errno::INVAL | Errno::NOTSUP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
pub(super) fn is_hole(_: &File, _: u64, _: u64) -> io::Result<bool> {
    Ok(false)
}
