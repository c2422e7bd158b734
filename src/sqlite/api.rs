//! Functions of SQLite that neither rusqlite's bindings, which are those of SQLite 3.34, nor
//! sqlite-loadable offer.

use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use rusqlite::ffi;
use sqlite_loadable::ext::sqlite3_api_routines;

static ROUTINES: AtomicPtr<sqlite3_api_routines> = AtomicPtr::new(ptr::null_mut());

/// Keeps the table of functions that SQLite passes to the entry point.
pub fn remember(api: *mut ffi::sqlite3_api_routines) {
    ROUTINES.store(api.cast(), Ordering::Release);
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
