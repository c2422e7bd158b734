//! The database file as SQLite has it open. Opening it once more and closing it again would drop the locks
//! that SQLite holds on it, as POSIX would have it.

use std::marker::PhantomData;
use std::ptr;

use rusqlite::{Connection, MAIN_DB, ffi};

use crate::error::{Error, Result};

/// The file of `main`. What it has is the database only while a read transaction is open, and not in WAL
/// mode.
pub struct DatabaseFile<'c> {
    file: *mut ffi::sqlite3_file,
    _connection: PhantomData<&'c Connection>,
}

impl<'c> DatabaseFile<'c> {
    /// `None` if there is no file.
    pub fn of(connection: &'c Connection) -> Option<Self> {
        let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
        // SAFETY: the handle is valid while `connection` is. The pointer that is given out is SQLite's own
        // and stays as long as the database is open.
        let code = unsafe {
            ffi::sqlite3_file_control(
                connection.handle(),
                MAIN_DB.as_ptr(),
                ffi::SQLITE_FCNTL_FILE_POINTER,
                (&raw mut file).cast(),
            )
        };
        // SAFETY: it is NULL or a file. A file that is not open has no methods.
        let is_open = unsafe { file.as_ref() }.is_some_and(|file| !file.pMethods.is_null());
        (code == ffi::SQLITE_OK && is_open).then_some(Self {
            file,
            _connection: PhantomData,
        })
    }

    /// Reads what is at `offset`, as many bytes as the buffer has, as SQLite would.
    pub fn read(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let out_of_range = |_| Error::Internal("a part of the database is out of range".into());
        let length = i32::try_from(buffer.len()).map_err(out_of_range)?;
        let offset = i64::try_from(offset).map_err(out_of_range)?;
        // SAFETY: the file is open, so it has methods; `xRead` writes `length` bytes at most.
        let code = unsafe {
            match (*(*self.file).pMethods).xRead {
                Some(read) => read(self.file, buffer.as_mut_ptr().cast(), length, offset),
                None => ffi::SQLITE_IOERR_READ,
            }
        };
        match code {
            ffi::SQLITE_OK => Ok(()),
            code => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None).into()),
        }
    }
}
