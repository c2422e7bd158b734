//! Where the database file is.

use std::ffi::CStr;
use std::path::PathBuf;

use rusqlite::{Connection, ffi};

/// The file of `main`, by its whole path, which may be of any bytes that the system allows; `None` if it
/// is in memory or temporary.
pub fn database_path(connection: &Connection) -> Option<PathBuf> {
    // SAFETY: the handle is valid while `connection` is; the name ends with NUL, and so does what comes
    // back, which stays while the database is open and is copied at once.
    let name = unsafe {
        let name = ffi::sqlite3_db_filename(connection.handle(), c"main".as_ptr());
        (!name.is_null()).then(|| CStr::from_ptr(name))?
    };
    (!name.is_empty()).then(|| path(name.to_bytes()))?
}

#[cfg(unix)]
fn path(name: &[u8]) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(name)))
}

/// SQLite has translated the name into UTF-8.
#[cfg(not(unix))]
fn path(name: &[u8]) -> Option<PathBuf> {
    std::str::from_utf8(name).ok().map(PathBuf::from)
}
