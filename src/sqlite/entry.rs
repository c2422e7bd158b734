//! The entry points that SQLite calls when it loads the library.
//!
//! They call what the library does not export: were it another of them, the dynamic linker could make that
//! the one of another copy of the library, or of another extension.

use std::ffi::{c_char, c_int};

use rusqlite::{Connection, ffi};
use sqlite_loadable::ext::faux_sqlite_extension_init2;

use super::{api as routines, fork, panic};
use crate::error::Error;
use crate::functions::{self, Surface};

/// The entry point that is derived from the file's name.
///
/// # Safety
/// Only SQLite calls it, with a valid connection and its table of API functions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sqlite3_cold_init(
    db: *mut ffi::sqlite3,
    message: *mut *mut c_char,
    api: *mut ffi::sqlite3_api_routines,
) -> c_int {
    // SAFETY: by contract.
    unsafe {
        initialize(db, message, api, |connection| {
            load(connection, Surface::All)
        })
    }
}

/// The entry point that SQLite, and some drivers without SQLite's help, look for if none is named; it is
/// there whatever the file is called.
///
/// # Safety
/// As for [`sqlite3_cold_init`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sqlite3_extension_init(
    db: *mut ffi::sqlite3,
    message: *mut *mut c_char,
    api: *mut ffi::sqlite3_api_routines,
) -> c_int {
    // SAFETY: by contract.
    unsafe {
        initialize(db, message, api, |connection| {
            load(connection, Surface::All)
        })
    }
}

/// The entry point for connections on which strangers write SELECTs.
///
/// # Safety
/// As for [`sqlite3_cold_init`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sqlite3_coldread_init(
    db: *mut ffi::sqlite3,
    message: *mut *mut c_char,
    api: *mut ffi::sqlite3_api_routines,
) -> c_int {
    // SAFETY: by contract.
    unsafe {
        initialize(db, message, api, |connection| {
            load(connection, Surface::Reading)
        })
    }
}

/// Adds the library to a connection. It stays loaded when the connection closes: threads and thread-local
/// values of the Rust runtime must not lose their code.
///
/// # Safety
/// As for [`sqlite3_cold_init`].
unsafe fn initialize(
    db: *mut ffi::sqlite3,
    message: *mut *mut c_char,
    api: *mut ffi::sqlite3_api_routines,
    load: fn(Connection) -> rusqlite::Result<bool>,
) -> c_int {
    panic::silence();
    routines::remember(api);
    // SAFETY: by contract. Both crates keep the table of functions for themselves.
    unsafe {
        faux_sqlite_extension_init2(api.cast());
        Connection::extension_init2(db, message, api, load)
    }
}

/// Adds functions and tables; `true` so that the library stays loaded.
#[expect(clippy::needless_pass_by_value, reason = "rusqlite gives it away")]
fn load(connection: Connection, surface: Surface) -> rusqlite::Result<bool> {
    let loaded = panic::guard(|| {
        fork::watch()
            .map_err(|error| Error::refused(format!("cannot prepare for forks: {error}")))?;
        functions::load(&connection, surface)
    });
    loaded.map(|()| true).map_err(|error| match error {
        Error::Sqlite(error) => error,
        other => {
            let message = Some(format!("sqlite-cold: {other}"));
            rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ERROR), message)
        }
    })
}
