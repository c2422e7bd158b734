//! `sqlite3_value` to [`Value`], and [`Value`] to a function's or a column's result.

use std::slice;

use rusqlite::ffi;

use crate::error::{Error, Result};
use crate::value::{Encoding, Value};

/// Reads an argument that SQLite passed to a callback.
///
/// # Safety
/// `value` must be valid for `'a`, and nothing else may convert it meanwhile.
pub unsafe fn read<'a>(value: *mut ffi::sqlite3_value) -> Result<Value<'a>> {
    // SAFETY: by contract; text and blob pointers are valid until the value is converted or freed.
    unsafe {
        Ok(match ffi::sqlite3_value_type(value) {
            ffi::SQLITE_INTEGER => Value::Integer(ffi::sqlite3_value_int64(value)),
            ffi::SQLITE_FLOAT => Value::Real(ffi::sqlite3_value_double(value)),
            ffi::SQLITE_TEXT => {
                let text = ffi::sqlite3_value_text(value);
                let length = ffi::sqlite3_value_bytes(value);
                Value::from_utf8(bytes(text, length)?)
            }
            ffi::SQLITE_BLOB => {
                let blob = ffi::sqlite3_value_blob(value);
                let length = ffi::sqlite3_value_bytes(value);
                Value::Blob(bytes(blob.cast(), length)?)
            }
            _ => Value::Null,
        })
    }
}

/// # Safety
/// `start` must be NULL or point to `length` bytes that stay valid for `'a`.
unsafe fn bytes<'a>(start: *const u8, length: i32) -> Result<&'a [u8]> {
    match usize::try_from(length) {
        Ok(0) => Ok(&[]),
        // SAFETY: by contract.
        Ok(length) if !start.is_null() => Ok(unsafe { slice::from_raw_parts(start, length) }),
        _ => Err(Error::Sqlite(rusqlite::Error::SqliteFailure(
            ffi::Error::new(ffi::SQLITE_NOMEM),
            None,
        ))),
    }
}

/// Where a function or a column puts its result.
pub struct Output(*mut ffi::sqlite3_context);

impl Output {
    /// # Safety
    /// `context` must be valid for as long as the `Output` is used.
    pub unsafe fn new(context: *mut ffi::sqlite3_context) -> Self {
        Self(context)
    }

    /// Sets the result; SQLite copies text and blobs.
    pub fn set(&mut self, value: Value<'_>) {
        // SAFETY: the context is valid (see `new`); SQLITE_TRANSIENT makes SQLite copy the bytes
        // before the call returns, and the pointer of an empty slice is not NULL.
        unsafe {
            match value {
                Value::Null => ffi::sqlite3_result_null(self.0),
                Value::Integer(integer) => ffi::sqlite3_result_int64(self.0, integer),
                Value::Real(real) => ffi::sqlite3_result_double(self.0, real),
                Value::Text(text) => self.set_text(text.as_bytes(), Encoding::Utf8),
                Value::RawText(bytes, Encoding::Utf8) => self.set_text(bytes, Encoding::Utf8),
                Value::RawText(bytes, encoding) => {
                    // SQLite takes a byte order mark away; one too many keeps those that belong.
                    let mark = match encoding {
                        Encoding::Utf16be => [0xFE, 0xFF],
                        _ => [0xFF, 0xFE],
                    };
                    self.set_text(&[&mark, bytes].concat(), encoding);
                }
                Value::Blob(blob) => ffi::sqlite3_result_blob64(
                    self.0,
                    blob.as_ptr().cast(),
                    blob.len() as u64,
                    ffi::SQLITE_TRANSIENT(),
                ),
            }
        }
    }

    /// # Safety
    /// The context must be valid.
    unsafe fn set_text(&mut self, bytes: &[u8], encoding: Encoding) {
        let code = match encoding {
            Encoding::Utf8 => ffi::SQLITE_UTF8,
            Encoding::Utf16le => ffi::SQLITE_UTF16LE,
            Encoding::Utf16be => ffi::SQLITE_UTF16BE,
        };
        let (start, length) = (bytes.as_ptr().cast(), bytes.len() as u64);
        let code = code.to_le_bytes()[0];
        // SAFETY: as in `set`; the codes are 1, 2 and 3.
        unsafe {
            ffi::sqlite3_result_text64(self.0, start, length, ffi::SQLITE_TRANSIENT(), code);
        }
    }

    /// Makes the call fail with `message`.
    pub fn fail(&mut self, message: &str) {
        let length = i32::try_from(message.len()).unwrap_or(i32::MAX);
        // SAFETY: the context is valid; SQLite copies the message.
        unsafe { ffi::sqlite3_result_error(self.0, message.as_ptr().cast(), length) };
    }
}
