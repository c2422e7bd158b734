//! A read transaction that lasts as long as a value.

use std::ptr;
use std::rc::Rc;

use rusqlite::{Connection, ffi};

use crate::error::Result;

/// Keeps a read transaction on `main` open, so that everything read through the connection until
/// it is dropped comes from one snapshot.
///
/// A cold cursor holds one from open to close. SQLite starts a transaction on `main` by itself only
/// for statements that name a table there; a query over `cold_t` alone names none, and two catalog
/// reads of one query could otherwise see two states of the archive.
pub struct ReadPin {
    statement: *mut ffi::sqlite3_stmt,
    _connection: Rc<Connection>,
}

impl ReadPin {
    /// Starts the read transaction, or joins the one that is open.
    pub fn new(connection: &Rc<Connection>) -> Result<Self> {
        let sql = c"SELECT 1 FROM main.sqlite_schema";
        let mut statement = ptr::null_mut();
        // SAFETY: the handle is valid while `connection` lives, which the pin shares; `sql` is
        // NUL-terminated; `statement` is finalized exactly once, in `drop`.
        unsafe {
            let db = connection.handle();
            let mut code =
                ffi::sqlite3_prepare_v2(db, sql.as_ptr(), -1, &raw mut statement, ptr::null_mut());
            if code == ffi::SQLITE_OK {
                code = ffi::sqlite3_step(statement);
            }
            let pin = Self {
                statement,
                _connection: Rc::clone(connection),
            };
            if code == ffi::SQLITE_ROW || code == ffi::SQLITE_DONE {
                Ok(pin)
            } else {
                let message = std::ffi::CStr::from_ptr(ffi::sqlite3_errmsg(db));
                let message = message.to_string_lossy().into_owned();
                Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some(message)).into())
            }
        }
    }
}

impl Drop for ReadPin {
    fn drop(&mut self) {
        // SAFETY: made by `new`, finalized only here; finalizing NULL does nothing.
        unsafe { ffi::sqlite3_finalize(self.statement) };
    }
}
