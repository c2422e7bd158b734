//! The one error type. Its text reaches the user as an SQL error, so every variant says what
//! failed and, where one exists, the way out. Context is added where it is known.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;
use rusqlite::ffi;

/// What every fallible function of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an archive function or a cold read failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The call cannot be carried out as it was made: wrong arguments, or a table that cannot be
    /// archived. Nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// SQLite refused or failed.
    #[error("{}", sqlite_message(.0))]
    Sqlite(#[from] rusqlite::Error),
    /// The operating system failed a file operation.
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    /// A cold file is not what the catalog says it is.
    #[error("cold file {} is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    /// A new cold file could not be encoded.
    #[error("cannot encode {}: {source}", path.display())]
    Encode { path: PathBuf, source: ParquetError },
    /// A defect of this library. The host process goes on; nothing was published.
    #[error("internal error (please report it): {0}")]
    Internal(String),
}

impl Error {
    /// A refusal with the given reason.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self::Refused(reason.into())
    }

    /// Wraps an I/O error with the path it happened at; for use in `map_err`.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    /// Says that the cold file at `path` cannot be trusted; for use in `map_err`.
    pub fn damaged<D: std::fmt::Display>(path: &Path) -> impl FnOnce(D) -> Self + '_ {
        |reason| Self::Damaged {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }

    /// What a Parquet error at `path` means: the system failed, or the file is damaged; for use in
    /// `map_err`.
    pub fn reading(path: &Path) -> impl FnOnce(ParquetError) -> Self + '_ {
        |error| match error {
            ParquetError::External(source) => match source.downcast::<std::io::Error>() {
                Ok(source) => Self::reading_bytes(path)(*source),
                Err(other) => Self::damaged(path)(other),
            },
            other => Self::damaged(path)(other),
        }
    }

    /// What an I/O error while reading the cold file at `path` means; for use in `map_err`.
    pub fn reading_bytes(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        |error| match error.kind() {
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof => Self::damaged(path)(error),
            _ => Self::io(path)(error),
        }
    }

    /// Another connection has changed the schema, and this one may not read the new one now: SQLite is
    /// preparing a statement.
    pub fn is_stale_schema(&self) -> bool {
        matches!(
            self,
            Self::Sqlite(error)
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::SchemaChanged)
        )
    }

    /// The application interrupted the call: a time-out, Ctrl-C, or a progress handler. Of a virtual table
    /// that was planning a query, only SQLite's message says so.
    pub fn is_interrupt(&self) -> bool {
        match self {
            Self::Sqlite(rusqlite::Error::SqliteFailure(failure, message)) => {
                failure.code == rusqlite::ErrorCode::OperationInterrupted
                    || failure.extended_code == ffi::SQLITE_ERROR
                        && message.as_deref() == Some("interrupted")
            }
            _ => false,
        }
    }

    /// Whether it is about what was asked, rather than an interrupt, lack of memory, or a failure of the
    /// database or the system.
    pub fn is_mistake(&self) -> bool {
        match self {
            Self::Refused(_) => true,
            Self::Sqlite(error) => {
                let failure = error.sqlite_error();
                failure.is_some_and(|failure| failure.extended_code == ffi::SQLITE_ERROR)
                    && !self.is_interrupt()
            }
            _ => false,
        }
    }

    /// Another connection holds a lock that this one needs; the same call may succeed later.
    pub fn is_busy(&self) -> bool {
        if let Self::Sqlite(rusqlite::Error::SqliteFailure(_, Some(message))) = self
            && message.contains("statements in progress")
        {
            // What is in the way is the caller's own statement, which waits for this one.
            return false;
        }
        matches!(
            self,
            Self::Sqlite(error) if matches!(
                error.sqlite_error_code(),
                Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked)
            )
        )
    }
}

/// SQLite's own words, without the code that rusqlite puts around them.
fn sqlite_message(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        other => other.to_string(),
    }
}
