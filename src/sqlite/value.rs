//! `sqlite3_value` to [`Value`], and [`Value`] to a function's or a column's result.

use std::ffi::{c_char, c_int};
use std::{ptr, slice};

use rusqlite::ffi;
use sqlite_loadable::ext::{sqlite3ext_vtab_in_first, sqlite3ext_vtab_in_next};

use crate::error::{Error, Result};
use crate::value::{Encoding, OwnedKey, Value};

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

/// The values that a cursor is started with.
pub struct Arguments<'a>(&'a [*mut ffi::sqlite3_value]);

impl<'a> Arguments<'a> {
    /// # Safety
    /// The values must be valid for `'a`.
    pub unsafe fn new(values: &'a [*mut ffi::sqlite3_value]) -> Self {
        Self(values)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn argument(&self, position: usize) -> Result<*mut ffi::sqlite3_value> {
        let argument = self.0.get(position).copied();
        argument.ok_or_else(|| Error::Internal(format!("there is no argument {position}")))
    }

    /// A single value.
    pub fn value(&self, position: usize) -> Result<Value<'a>> {
        // SAFETY: valid by the contract of `new`, and nothing converts it meanwhile.
        unsafe { read(self.argument(position)?) }
    }

    /// The values of an IN for which [`Query::take_list`](super::query::Query::take_list) asked.
    pub fn list(&self, position: usize) -> Result<Vec<OwnedKey>> {
        let list = self.argument(position)?;
        let mut values = Vec::new();
        let mut value = ptr::null_mut();
        // SAFETY: `take_list` made sure that SQLite has both functions, and that the argument is a
        // list. Each value is copied before the next is asked for.
        unsafe {
            let mut code = sqlite3ext_vtab_in_first(list.cast(), &raw mut value);
            while code == ffi::SQLITE_OK && !value.is_null() {
                values.push(OwnedKey::from(read(value.cast())?));
                code = sqlite3ext_vtab_in_next(list.cast(), &raw mut value);
            }
            match code {
                ffi::SQLITE_OK | ffi::SQLITE_DONE => Ok(values),
                code => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None).into()),
            }
        }
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
    #[inline]
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
        // Most hosts read a message up to its first NUL.
        let message = message.replace('\0', "\\0");
        let length = i32::try_from(message.len()).unwrap_or(i32::MAX);
        // SAFETY: the context is valid; SQLite copies the message.
        unsafe { ffi::sqlite3_result_error(self.0, message.as_ptr().cast(), length) };
    }
    /// Lets a call that failed, with its message, count as one that was interrupted: a driver tells
    /// its own time-out from other errors by that.
    pub fn interrupted(&mut self) {
        // SAFETY: the context is valid; the message that is set stays.
        unsafe { ffi::sqlite3_result_error_code(self.0, ffi::SQLITE_INTERRUPT) };
    }
}

/// Copies `text` into memory of SQLite's allocator, up to its first NUL character.
pub fn sqlite_string(text: &str) -> Result<*mut c_char> {
    let bytes = text.split('\0').next().unwrap_or_default().as_bytes();
    let size = c_int::try_from(bytes.len() + 1)
        .map_err(|_| Error::Internal("a message is too long for SQLite".into()))?;
    // SAFETY: `size` bytes are allocated and written, the last of them the terminating NUL.
    unsafe {
        let copy = ffi::sqlite3_malloc(size).cast::<u8>();
        if copy.is_null() {
            return Err(
                rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_NOMEM), None).into(),
            );
        }
        ptr::copy_nonoverlapping(bytes.as_ptr(), copy, bytes.len());
        copy.add(bytes.len()).write(0);
        Ok(copy.cast())
    }
}
