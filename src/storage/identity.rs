//! What tells a file from every other.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::path::Path;
use std::time::SystemTime;

use xxhash_rust::xxh3::xxh3_64;

/// Tells a file from every other, and from itself after a change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Identity {
    pub bytes: u64,
    /// Device, inode and time of the last change to either data or metadata, where the system tells.
    place: (u64, u64, i64, i64),
    modified: Option<SystemTime>,
}

impl Identity {
    pub fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let place = {
            use std::os::unix::fs::MetadataExt;
            let changed = (metadata.ctime(), metadata.ctime_nsec());
            (metadata.dev(), metadata.ino(), changed.0, changed.1)
        };
        #[cfg(not(unix))]
        let place = (0, 0, 0, 0);
        Self {
            bytes: metadata.len(),
            place,
            modified: metadata.modified().ok(),
        }
    }
}

/// What tells a database file from all others, whatever path leads to it: the file itself where the
/// system tells, else its real path. In memory, the process.
pub fn file_identity(database: Option<&Path>) -> String {
    let identity = match database {
        Some(path) => place(path).map_or_else(
            || path.canonicalize().unwrap_or(path.to_owned()).into(),
            OsString::from,
        ),
        None => format!("memory of {}", std::process::id()).into(),
    };
    format!("{:016x}", xxh3_64(identity.as_encoded_bytes()))
}

#[cfg(unix)]
fn place(path: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path).ok()?;
    Some(format!("{} {}", metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn place(_path: &Path) -> Option<String> {
    None
}
