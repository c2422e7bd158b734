//! Where the database file is.

use std::ffi::{CStr, c_char};
use std::path::PathBuf;
use std::ptr;

use rusqlite::{Connection, MAIN_DB, ffi};

/// The file of `main`, by its whole path, which may be of any bytes that the system allows; `None` if it
/// is in memory or temporary.
pub fn database_path(connection: &Connection) -> Option<PathBuf> {
    // SAFETY: the handle is valid while `connection` is; the name ends with NUL, and so does what comes
    // back, which stays while the database is open and is copied at once.
    let name = unsafe {
        let name = ffi::sqlite3_db_filename(connection.handle(), MAIN_DB.as_ptr());
        (!name.is_null()).then(|| CStr::from_ptr(name))?
    };
    if name.is_empty() || is_memdb(connection) {
        return None;
    }
    path(name.to_bytes())
}

/// Whether `main` is in memory under a name that looks like a path, as `file:/name?vfs=memdb` is, and
/// what `sqlite3_deserialize` makes.
fn is_memdb(connection: &Connection) -> bool {
    let mut name: *mut c_char = ptr::null_mut();
    // SAFETY: the handle is valid while `connection` is. The VFS makes a text that ends with NUL and is
    // ours to free, or leaves the pointer as it is.
    unsafe {
        ffi::sqlite3_file_control(
            connection.handle(),
            MAIN_DB.as_ptr(),
            ffi::SQLITE_FCNTL_VFSNAME,
            (&raw mut name).cast(),
        );
        let is_memdb = !name.is_null() && CStr::from_ptr(name).to_bytes().starts_with(b"memdb");
        ffi::sqlite3_free(name.cast());
        is_memdb
    }
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
