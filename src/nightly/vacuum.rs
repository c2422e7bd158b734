//! VACUUM after an archive run: the pages of rows that moved go back to the disk.
//!
//! A function cannot VACUUM the connection it is called on, so a second one does it. Nothing that was
//! archived depends on it: whatever is in its way is a reason to skip it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use serde_json::{Value as Json, json};

use super::{database_file, is_unreadable, open};
use crate::catalog;
use crate::error::{Error, Result};
use crate::schema::Table;
use crate::settings::{Config, VACUUM_FREE_PERCENT};
use crate::sqlite::statement::is_in_snapshot;

/// How long the checkpoint after it may keep writers waiting.
const CHECKPOINT_TIMEOUT: Duration = Duration::from_millis(50);

/// What became of a VACUUM.
#[derive(Debug)]
pub enum Vacuum {
    /// It was not run, or not to its end; the database is as it was.
    Skipped { reason: String },
    Done {
        /// The length of the database file.
        bytes_before: u64,
        bytes_after: u64,
        elapsed_ms: u64,
    },
}

impl Vacuum {
    /// As `archive_run` shows it: `bytes_before`, `bytes_after` and `elapsed_ms`, or why it was `skipped`.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Skipped { reason } => json!({"skipped": reason}),
            Self::Done {
                bytes_before,
                bytes_after,
                elapsed_ms,
            } => json!({
                "bytes_before": bytes_before,
                "bytes_after": bytes_after,
                "elapsed_ms": elapsed_ms,
            }),
        }
    }

    fn skipped(reason: impl Into<String>) -> Self {
        Self::Skipped {
            reason: reason.into(),
        }
    }
}

/// Runs VACUUM on the database if enough of its file is free.
pub fn vacuum(connection: &Connection, config: &Config) -> Result<Vacuum> {
    let Some(path) = database_file(connection)? else {
        return Ok(Vacuum::skipped("the database is in memory"));
    };
    if !connection.is_autocommit() {
        return Ok(Vacuum::skipped("it cannot run inside a transaction"));
    }
    if is_in_snapshot(connection) {
        // The second connection would wait for it, or, in WAL mode, keep this one from writing.
        return Ok(Vacuum::skipped(
            "a query of this connection is not finished",
        ));
    }
    if let Some(table) = renumbered(connection)? {
        return Ok(Vacuum::skipped(format!(
            "it would change the rowids of {table}, by which its cold rows are known: the table has \
             neither an INTEGER PRIMARY KEY nor an index; give it either"
        )));
    }
    let percent = VACUUM_FREE_PERCENT.count(config)?;
    match run(&path, percent) {
        Err(error) => reason(&error).map(Vacuum::skipped).ok_or(error),
        done => done,
    }
}

fn run(path: &Path, percent: usize) -> Result<Vacuum> {
    let start = Instant::now();
    let second = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let number = |pragma: &str| -> Result<u128> {
        let sql = format!("PRAGMA {pragma}");
        let number: i64 = second.query_row(&sql, [], |row| row.get(0))?;
        Ok(u128::try_from(number).unwrap_or(0))
    };
    let (free, pages) = (number("freelist_count")?, number("page_count")?);
    if free * 100 < pages * percent as u128 {
        return Ok(Vacuum::skipped(format!(
            "{free} of {pages} pages are free, less than {percent} percent (vacuum_free_percent)"
        )));
    }
    let length = || match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) => Err(Error::io(path)(error)),
    };
    let bytes_before = length()?;
    second.execute_batch("VACUUM")?;
    // In WAL mode the file only shrinks once the WAL is in it. While it waits for readers, writers wait
    // for it: if they are in the way, the application's own checkpoints do it later.
    second.busy_timeout(CHECKPOINT_TIMEOUT)?;
    let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
    second.query_row(sql, [], |_| Ok(()))?;
    Ok(Vacuum::Done {
        bytes_before,
        bytes_after: length()?,
        elapsed_ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// Why a VACUUM that failed with `error` is only put off; `None` if something is really wrong.
fn reason(error: &Error) -> Option<String> {
    if error.is_busy() {
        return Some("the database is busy".to_owned());
    }
    if is_unreadable(error) {
        return Some("only the application's own connection can read the database".to_owned());
    }
    let Error::Sqlite(error) = error else {
        return None;
    };
    match error.sqlite_error_code()? {
        ErrorCode::DiskFull => Some("the disk has not enough room for a second copy".to_owned()),
        code @ (ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            Some(format!("the database cannot be opened to write: {code:?}"))
        }
        _ => None,
    }
}

/// An archived table whose rows VACUUM would number anew.
fn renumbered(connection: &Connection) -> Result<Option<String>> {
    if !catalog::exists(connection)? {
        return Ok(None);
    }
    let sql = "SELECT name FROM main._archive_table
               UNION SELECT table_name FROM main._archive_policy ORDER BY 1";
    let mut statement = connection.prepare(sql)?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?;
    for name in names {
        let name = name?;
        let indexes = "SELECT count(*) FROM pragma_index_list(?1, 'main')";
        if let Some(table) = Table::find(connection, &name)?
            && table.stores_rowid()
            && connection.query_row(indexes, [&name], |row| row.get::<_, i64>(0))? == 0
        {
            return Ok(Some(name));
        }
    }
    Ok(None)
}
