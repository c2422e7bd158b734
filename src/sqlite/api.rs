//! Which SQLite the library is bound to, and functions of it that neither rusqlite's bindings, which are
//! those of SQLite 3.34, nor sqlite-loadable offer.
//!
//! A process can have several SQLites: Python's `sqlite3` beside apsw. The functions that are called are
//! those of the one that loaded the library last, and given a connection of another one they crash.

use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use rusqlite::ffi;
use sqlite_loadable::ext::sqlite3_api_routines;

use super::fork::PerProcess;
use crate::error::{Error, Result};

static ROUTINES: AtomicPtr<sqlite3_api_routines> = AtomicPtr::new(ptr::null_mut());

static BOUND: PerProcess<Bound> = PerProcess::empty();

#[derive(Default)]
struct Bound {
    /// The address of one of SQLite's functions; of the table of them a host may pass a copy.
    sqlite: usize,
    users: usize,
}

/// Keeps the library bound to the SQLite that it is bound to: something of one of its connections.
pub struct User(());

impl User {
    pub fn one_more() -> Self {
        BOUND.lock().users += 1;
        Self(())
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let mut bound = BOUND.lock();
        // A child that was forked did not count its parent's.
        bound.users = bound.users.saturating_sub(1);
    }
}

/// Keeps the table of functions that SQLite passes to the entry point. Refused while another SQLite has
/// connections with the library.
///
/// # Safety
/// It must be such a table.
pub unsafe fn bind(routines: *mut ffi::sqlite3_api_routines) -> Result<User> {
    // SAFETY: by contract.
    let function = unsafe { (*routines).libversion_number };
    let sqlite = function.map_or(0, |function| function as usize);
    let mut bound = BOUND.lock();
    if bound.users > 0 && bound.sqlite != sqlite {
        return Err(Error::refused(
            "another SQLite of this process has loaded this file, and has connections open; load a copy \
             of the file into this one",
        ));
    }
    bound.sqlite = sqlite;
    bound.users += 1;
    ROUTINES.store(routines.cast(), Ordering::Release);
    Ok(User(()))
}

/// `sqlite3_vtab_rhs_value`: the right-hand side of a term, if SQLite is new enough and knows it.
///
/// # Safety
/// Only within xBestIndex, with what that was given and the number of a term.
pub unsafe fn vtab_rhs_value(
    info: *mut ffi::sqlite3_index_info,
    term: c_int,
) -> Option<*mut ffi::sqlite3_value> {
    const SINCE: i32 = 3_038_000;
    let routines = ROUTINES.load(Ordering::Acquire);
    if routines.is_null() || rusqlite::version_number() < SINCE {
        return None;
    }
    let mut found = ptr::null_mut();
    // SAFETY: SQLite's table of functions lives as long as SQLite, and has this one since 3.38.
    let code = unsafe { ((*routines).vtab_rhs_value?)(info.cast(), term, &raw mut found) };
    (code == ffi::SQLITE_OK && !found.is_null()).then(|| found.cast())
}
