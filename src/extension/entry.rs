//! The entry points that SQLite calls when it loads the library.
//!
//! They call what the library does not export: were it another of them, the dynamic linker could make that
//! the one of another copy of the library, or of another extension.

#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int};

use rusqlite::{Connection, ffi};
use sqlite_loadable::ext::faux_sqlite_extension_init2;

use super::functions::{self, Surface};
use crate::error::{Error, Result};
use crate::sqlite::{api as bindings, fork, panic};

/// What errors of loading begin with.
const NAME: &str = "sqlite-cold";

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
    // SAFETY: by contract.
    let Some(routines) = (unsafe { api.as_ref() }) else {
        return ffi::SQLITE_ERROR;
    };
    let bound = panic::guard(|| {
        check_version(routines)?;
        // SAFETY: by contract.
        unsafe { bindings::bind(api) }
    });
    // Until the connection itself has something of the library.
    let _bound = match bound {
        Ok(bound) => bound,
        Err(error) => {
            // SAFETY: by contract.
            unsafe { say(routines, message, &format!("{NAME}: {error}")) };
            return ffi::SQLITE_ERROR;
        }
    };
    // SAFETY: by contract. Both crates keep the table of functions for themselves.
    unsafe {
        faux_sqlite_extension_init2(api.cast());
        Connection::extension_init2(db, message, api, load)
    }
}

/// Refuses a SQLite that is older than what rusqlite is bound to. rusqlite would find out, too, but calls
/// functions before that which it has not got: the host process would end.
fn check_version(routines: &ffi::sqlite3_api_routines) -> Result<()> {
    const OLDEST: c_int = ffi::SQLITE_VERSION_NUMBER;
    // SAFETY: SQLite's own function.
    let version = routines
        .libversion_number
        .map_or(0, |version| unsafe { version() });
    let name = |number| {
        let (major, minor, patch) = (number / 1_000_000, number / 1_000 % 1_000, number % 1_000);
        format!("{major}.{minor}.{patch}")
    };
    match version >= OLDEST {
        true => Ok(()),
        false => Err(Error::refused(format!(
            "SQLite {} or newer is needed; this is {}",
            name(OLDEST),
            name(version)
        ))),
    }
}

/// Hands out a message where nothing is bound to this SQLite.
///
/// # Safety
/// `message` must be NULL, or a place for one.
unsafe fn say(routines: &ffi::sqlite3_api_routines, message: *mut *mut c_char, text: &str) {
    let text = CString::new(text).unwrap_or_default();
    let text = text.as_bytes_with_nul();
    let (Some(malloc), Ok(length)) = (routines.malloc, c_int::try_from(text.len())) else {
        return;
    };
    if message.is_null() {
        return;
    }
    // SAFETY: the copy is as long as the text, and SQLite frees it with its own allocator.
    unsafe {
        let copy = malloc(length).cast::<u8>();
        if !copy.is_null() {
            copy.copy_from_nonoverlapping(text.as_ptr(), text.len());
        }
        *message = copy.cast();
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
            let message = Some(format!("{NAME}: {other}"));
            rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ERROR), message)
        }
    })
}

#[cfg(test)]
mod tests {
    use std::alloc::Layout;
    use std::ffi::{CStr, c_void};
    use std::{mem, ptr};

    use super::*;

    extern "C" fn version() -> c_int {
        3_031_001
    }

    unsafe extern "C" fn malloc(bytes: c_int) -> *mut c_void {
        let layout = Layout::array::<u8>(bytes.try_into().unwrap()).unwrap();
        // SAFETY: the test asks for some bytes, and lets them leak.
        unsafe { std::alloc::alloc(layout).cast() }
    }

    #[test]
    fn an_older_sqlite_is_told_what_is_needed() {
        // SAFETY: none of its functions is there.
        let mut api: ffi::sqlite3_api_routines = unsafe { mem::zeroed() };
        api.libversion_number = Some(version);
        api.malloc = Some(malloc);
        let mut message = ptr::null_mut();
        // SAFETY: an older SQLite's table; the connection is not used.
        let message = unsafe {
            let code = sqlite3_cold_init(ptr::null_mut(), &raw mut message, &raw mut api);
            assert_eq!(code, ffi::SQLITE_ERROR);
            CStr::from_ptr(message).to_str().unwrap()
        };
        assert_eq!(
            message,
            "sqlite-cold: SQLite 3.34.1 or newer is needed; this is 3.31.1"
        );
    }
}
