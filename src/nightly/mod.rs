//! What `archive_run` does in a night: backup, every policy, VACUUM, history, notification.
//!
//! - [`run`](mod@run): all of it, in order
//! - [`schedule`]: the thread that does it inside the application's process
//! - [`times`]: when that is
//! - [`slot`]: once among several processes
//! - [`notify`]: telling a web address

pub mod backup;
pub mod copy;
pub mod notify;
pub mod passes;
pub mod policy;
pub mod run;
pub mod schedule;
pub mod slot;
pub mod times;
pub mod turns;
pub mod vacuum;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::error::{Error, Result};
use crate::sqlite::filename;

/// How long a second connection waits for a lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The absolute path of the database file; `None` in memory, or wherever else there is no file.
fn database_file(connection: &Connection) -> Result<Option<PathBuf>> {
    let Some(path) = filename::database_path(connection) else {
        return Ok(None);
    };
    let absolute = std::path::absolute(&path).map_err(Error::io(&path))?;
    let real = absolute.canonicalize().ok();
    Ok(real.filter(|path| path.is_file()))
}

/// A connection of our own to a database file that is there; it can read the file, or this fails.
fn open(path: &Path, access: OpenFlags) -> Result<Connection> {
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(connection)
}

/// Whether an error means that the file is encrypted, or otherwise of a kind that only the
/// application's own connection can read.
fn is_unreadable(error: &Error) -> bool {
    matches!(
        error,
        Error::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase)
    )
}
