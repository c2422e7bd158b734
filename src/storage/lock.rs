//! Locks between processes.

use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::sync::Arc;

use super::access::Access;
use crate::error::{Error, Result};
use crate::sqlite::fork::LockedFile;

/// Keeps every other archive run away from the database while it, or a copy of it, lives.
pub type Lock = Arc<LockedFile>;

/// Locks the file `path`, which is made if it is not there, for as long as the result lives;
/// `busy` says what it means if another process has it.
pub fn lock(path: &Path, access: &Access, busy: &str) -> Result<Lock> {
    if fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(Error::refused(format!(
            "{} is not a regular file",
            path.display()
        )));
    }
    let file = access.open(path).or_else(|error| {
        // A lock needs no right to write the file: one that is there can be locked where nothing can be
        // made.
        File::open(path).map_err(|_| error)
    });
    let file = file.map_err(Error::io(path))?;
    match file.try_lock() {
        Ok(()) => Ok(Arc::new(LockedFile::new(file))),
        Err(TryLockError::WouldBlock) => Err(Error::refused(format!(
            "{busy}; try again when it has ended"
        ))),
        Err(TryLockError::Error(error)) => Err(Error::io(path)(error)),
    }
}
