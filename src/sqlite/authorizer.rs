//! What a statement would do, as SQLite's parser says it while the statement is prepared.
//!
//! rusqlite's own `hooks` are no alternative: with them, closing a connection calls functions that a
//! host's SQLite may have been built without, and a missing one ends the process.

use std::ffi::{CStr, c_char, c_int, c_void};

use rusqlite::{Connection, ffi};

use super::panic::guard;
use crate::error::{Error, Result};

/// A part of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action<'a> {
    /// A query, or one inside it.
    Select,
    /// A column of a table is read.
    Read { table: &'a str },
    /// A function is called.
    Call { function: &'a str },
    /// Anything else.
    Other,
}

/// Whether a statement may have such a part.
type Judge = Box<dyn FnMut(Action<'_>) -> bool>;

/// A connection of our own, none of whose statements can be prepared that has a part which is refused.
pub struct Judged {
    connection: Connection,
    /// Of this connection alone.
    judge: *mut Judge,
}

impl Judged {
    pub fn new(
        connection: Connection,
        judge: impl FnMut(Action<'_>) -> bool + 'static,
    ) -> Result<Self> {
        let judged = Self {
            connection,
            judge: Box::into_raw(Box::new(Box::new(judge))),
        };
        // SAFETY: the handle is valid; the judge is there until `drop` takes it back from SQLite.
        let code = unsafe {
            let db = judged.connection.handle();
            ffi::sqlite3_set_authorizer(db, Some(authorize), judged.judge.cast())
        };
        match code {
            ffi::SQLITE_OK => Ok(judged),
            code => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None).into()),
        }
    }

    pub fn connection(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for Judged {
    fn drop(&mut self) {
        // SAFETY: the handle is valid; once SQLite no longer knows the judge, `new` was the last to have it.
        unsafe {
            let db = self.connection.handle();
            ffi::sqlite3_set_authorizer(db, None, std::ptr::null_mut());
            drop(Box::from_raw(self.judge));
        }
    }
}

unsafe extern "C" fn authorize(
    judge: *mut c_void,
    action: c_int,
    first: *const c_char,
    second: *const c_char,
    _schema: *const c_char,
    _trigger: *const c_char,
) -> c_int {
    let allowed = guard(|| {
        // SAFETY: SQLite passes what `Judged::new` gave it, one call at a time, and names that end with
        // NUL and live as long as the call.
        let (judge, first, second) =
            unsafe { (&mut *judge.cast::<Judge>(), name(&first)?, name(&second)?) };
        Ok(judge(match action {
            ffi::SQLITE_SELECT => Action::Select,
            ffi::SQLITE_READ => Action::Read { table: first },
            ffi::SQLITE_FUNCTION => Action::Call { function: second },
            _ => Action::Other,
        }))
    });
    match allowed {
        Ok(true) => ffi::SQLITE_OK,
        _ => ffi::SQLITE_DENY,
    }
}

/// # Safety
/// `text` must be NULL, or end with NUL and stay valid as long as the result.
unsafe fn name(text: &*const c_char) -> Result<&str> {
    if text.is_null() {
        return Ok("");
    }
    // SAFETY: by contract.
    let text = unsafe { CStr::from_ptr(*text) };
    text.to_str()
        .map_err(|_| Error::refused("a name is not valid UTF-8"))
}
