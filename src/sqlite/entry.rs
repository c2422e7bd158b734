//! The entry point that SQLite calls when it loads the library.

use std::ffi::{c_char, c_int};

use rusqlite::{Connection, ffi};
use sqlite_loadable::ext::faux_sqlite_extension_init2;

use super::{api as routines, fork, panic};
use crate::error::Error;
use crate::functions;

/// Called by `.load cold`, `load_extension('cold')` and `sqlite3_load_extension()`.
///
/// The library stays loaded when the connection closes: threads and thread-local values of the Rust
/// runtime must not lose their code.
///
/// # Safety
/// Only SQLite calls it, with a valid connection and its table of API functions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sqlite3_cold_init(
    db: *mut ffi::sqlite3,
    message: *mut *mut c_char,
    api: *mut ffi::sqlite3_api_routines,
) -> c_int {
    panic::silence();
    routines::remember(api);
    // SAFETY: by contract. Both crates keep the table of functions for themselves.
    unsafe {
        faux_sqlite_extension_init2(api.cast());
        Connection::extension_init2(db, message, api, |connection| {
            let loaded = panic::guard(|| {
                fork::watch().map_err(|error| {
                    Error::refused(format!("cannot prepare for forks: {error}"))
                })?;
                functions::load(&connection)
            });
            loaded.map(|()| true).map_err(|error| match error {
                Error::Sqlite(error) => error,
                other => {
                    let message = Some(format!("sqlite-cold: {other}"));
                    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ERROR), message)
                }
            })
        })
    }
}
