//! A statement that is read while its owner does other things: it shares the connection it runs on.

use std::ffi::{CStr, CString};
use std::rc::Rc;
use std::{ptr, slice};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ffi};

use crate::error::{Error, Result};

/// Whether a statement of the connection that writes has begun and not ended.
pub fn is_writing(connection: &Connection) -> bool {
    any_running(connection, |statement| {
        // SAFETY: it is a statement that has not been finalized.
        let reads = unsafe { ffi::sqlite3_stmt_readonly(statement) != 0 };
        !reads
    })
}

/// The SQL of each statement of the connection that has begun and not ended, the one that calls us
/// included; of none that is EXPLAIN, which reads nothing.
pub fn running(connection: &Connection) -> Vec<String> {
    let mut texts = Vec::new();
    any_running(connection, |statement| {
        // SAFETY: it is a statement that has not been finalized, which keeps its text as long.
        let (text, explains) = unsafe {
            (
                ffi::sqlite3_sql(statement),
                ffi::sqlite3_stmt_isexplain(statement) != 0,
            )
        };
        // One of the oldest interface, `sqlite3_prepare`, keeps none.
        if !text.is_null() && !explains {
            // SAFETY: not null, so NUL-terminated; it is copied at once.
            let text = unsafe { CStr::from_ptr(text) };
            texts.push(text.to_string_lossy().into_owned());
        }
        false
    });
    texts
}

/// Whether `is_wanted` of any statement of the connection that has begun and not ended. It must
/// finalize none.
fn any_running(
    connection: &Connection,
    mut is_wanted: impl FnMut(*mut ffi::sqlite3_stmt) -> bool,
) -> bool {
    // SAFETY: the handle is valid while `connection` lives.
    let database = unsafe { connection.handle() };
    let mut statement = ptr::null_mut();
    loop {
        // SAFETY: as above; `statement` is null or one of the connection's own, and nobody finalizes one
        // meanwhile: a connection is used by one thread at a time.
        statement = unsafe { ffi::sqlite3_next_stmt(database, statement) };
        if statement.is_null() {
            return false;
        }
        // SAFETY: it is a statement that has not been finalized.
        let busy = unsafe { ffi::sqlite3_stmt_busy(statement) != 0 };
        if busy && is_wanted(statement) {
            return true;
        }
    }
}

/// Whether the last call failed because a statement of this connection, which has not ended, reads a
/// state of `main` that others have changed since: nothing can be written while it does.
pub fn is_held_back(connection: &Connection) -> bool {
    // SAFETY: the handle is valid while `connection` lives.
    let code = unsafe { ffi::sqlite3_extended_errcode(connection.handle()) };
    code == ffi::SQLITE_BUSY_SNAPSHOT && is_in_snapshot(connection)
}

/// Whether the connection reads a state of `main` that has not ended: in a transaction, or by a statement.
pub fn is_in_snapshot(connection: &Connection) -> bool {
    // SAFETY: the handle is valid while `connection` lives, and the name is NUL-terminated.
    let state = unsafe { ffi::sqlite3_txn_state(connection.handle(), c"main".as_ptr()) };
    state != ffi::SQLITE_TXN_NONE
}

/// Whether the last call failed because of a statement of this connection that has not ended, and not of
/// one that shares its cache.
pub fn is_locked_by_itself(connection: &Connection) -> bool {
    // SAFETY: the handle is valid while `connection` lives.
    unsafe { ffi::sqlite3_extended_errcode(connection.handle()) == ffi::SQLITE_LOCKED }
}

/// A query at one of its rows.
///
/// rusqlite's statements borrow their connection, so none can be kept between two calls of a cursor.
pub struct Reader {
    statement: *mut ffi::sqlite3_stmt,
    connection: Rc<Connection>,
}

impl Reader {
    /// Prepares `sql`, which is before its first row then.
    pub fn new(connection: &Rc<Connection>, sql: &str) -> Result<Self> {
        let text =
            CString::new(sql).map_err(|_| Error::refused("a name contains a NUL character"))?;
        let mut reader = Self {
            statement: ptr::null_mut(),
            connection: Rc::clone(connection),
        };
        // SAFETY: the handle is valid while `connection` lives, which the reader shares; `text` is
        // NUL-terminated; the statement is finalized exactly once, in `drop`.
        let code = unsafe {
            let (db, statement) = (connection.handle(), &raw mut reader.statement);
            ffi::sqlite3_prepare_v2(db, text.as_ptr(), -1, statement, ptr::null_mut())
        };
        match code {
            ffi::SQLITE_OK => Ok(reader),
            code => Err(reader.failure(code)),
        }
    }

    /// Moves to the next row; `false` at the end.
    #[inline]
    pub fn step(&mut self) -> Result<bool> {
        // SAFETY: `statement` is a prepared statement.
        match unsafe { ffi::sqlite3_step(self.statement) } {
            ffi::SQLITE_ROW => Ok(true),
            ffi::SQLITE_DONE => Ok(false),
            code => Err(self.failure(code)),
        }
    }

    /// Goes back to before the first row.
    pub fn reset(&mut self) {
        // SAFETY: `statement` is a prepared statement. The code repeats the error of the last step.
        unsafe { ffi::sqlite3_reset(self.statement) };
    }

    /// A value of the current row; NULL where there is no such column.
    #[inline]
    pub fn value(&self, column: usize) -> ValueRef<'_> {
        let Ok(column) = i32::try_from(column) else {
            return ValueRef::Null;
        };
        // SAFETY: the statement is at a row, or every value is NULL; SQLite accepts any column number.
        // What the pointers lead to stays until the next step, which needs `&mut self`, and is not
        // converted, as the type is asked for first.
        unsafe {
            let (statement, bytes) = (self.statement, |start: *const u8| {
                let length = ffi::sqlite3_column_bytes(self.statement, column);
                match usize::try_from(length) {
                    Ok(length) if !start.is_null() => slice::from_raw_parts(start, length),
                    _ => &[],
                }
            });
            match ffi::sqlite3_column_type(statement, column) {
                ffi::SQLITE_INTEGER => {
                    ValueRef::Integer(ffi::sqlite3_column_int64(statement, column))
                }
                ffi::SQLITE_FLOAT => ValueRef::Real(ffi::sqlite3_column_double(statement, column)),
                ffi::SQLITE_TEXT => {
                    ValueRef::Text(bytes(ffi::sqlite3_column_text(statement, column)))
                }
                ffi::SQLITE_BLOB => {
                    ValueRef::Blob(bytes(ffi::sqlite3_column_blob(statement, column).cast()))
                }
                _ => ValueRef::Null,
            }
        }
    }

    fn failure(&self, code: i32) -> Error {
        // SAFETY: the handle is valid; the text is copied before anything else uses the connection.
        let message = unsafe { CStr::from_ptr(ffi::sqlite3_errmsg(self.connection.handle())) };
        let message = message.to_string_lossy().into_owned();
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some(message)).into()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // SAFETY: made by `new`, finalized only here; finalizing NULL does nothing.
        unsafe { ffi::sqlite3_finalize(self.statement) };
    }
}
