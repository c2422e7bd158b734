//! A copy of the database while it is in use, by SQLite's online backup API.

use std::path::Path;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::open;
use super::passes;
use super::turns::{PAUSE, Patience};
use crate::error::{Error, Result};
use crate::sql::{journal_mode, patiently, quote, read_transaction};

/// Pages that are copied in a call.
const STEP_PAGES: i32 = 64;

/// Copies `main` to the empty file `target`. What comes out is one state of the database, and all of it
/// is in that one file.
///
/// Writers go on: in WAL mode a reader is not in their way, and SQLite makes the copy. With a rollback
/// journal it is made in short turns.
pub fn copy(source: &Connection, target: &Path) -> Result<()> {
    let journal = patiently(|| journal_mode(source))?;
    match journal != "wal" && passes::copy(source, target)? {
        true => Ok(()),
        false => copy_pages(source, target),
    }
}

/// Lets SQLite copy `main` page by page, under one read transaction.
fn copy_pages(source: &Connection, target: &Path) -> Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut copy = Connection::open_with_flags(target, flags)?;
    // If anything fails, the file goes; if nothing does, it is synced in the end.
    copy.query_row("PRAGMA journal_mode = OFF", [], |_| Ok(()))?;
    copy.execute_batch("PRAGMA synchronous = OFF")?;
    let backup = Backup::new(source, &mut copy)?;
    let patience = Patience::start();
    loop {
        match read_transaction(source, || all(&backup)) {
            Ok(StepResult::Done) => break,
            Ok(StepResult::More) => {}
            Ok(_) => patience.bear(locked())?,
            Err(error) => patience.bear(error)?,
        }
        std::thread::sleep(PAUSE);
    }
    drop(backup);
    copy.close().map_err(|(_, error)| error.into())
}

/// Copies pages to the last, or until it has to wait.
fn all(backup: &Backup<'_, '_>) -> Result<StepResult> {
    loop {
        let step = backup.step(STEP_PAGES)?;
        if step != StepResult::More {
            return Ok(step);
        }
    }
}

/// As SQLite would say it.
fn locked() -> Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
    let message = Some("the database is locked".to_owned());
    rusqlite::Error::SqliteFailure(code, message).into()
}

/// Opens a copy and checks all of it.
pub fn check(path: &Path) -> Result<()> {
    let copy = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    match problem(&copy, "PRAGMA integrity_check(1)") {
        // An index may need a collation, or a function, that only the application has: then SQLite
        // checks no table at all.
        Err(error) if needs_application(&error) => check_tables(&copy)?,
        Err(error) => return Err(error),
        Ok(None) => {}
        Ok(Some(problem)) => return Err(damaged(&problem)),
    }
    let pages: i64 = copy.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    let page_size: u64 = copy.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    // The last connection empties and removes the WAL.
    copy.close().map_err(|(_, error)| error)?;
    let bytes = std::fs::metadata(path).map_err(Error::io(path))?.len();
    match u64::try_from(pages)
        .ok()
        .and_then(|pages| pages.checked_mul(page_size))
    {
        Some(expected) if expected == bytes => Ok(()),
        _ => Err(damaged("it is not as long as it says")),
    }
}

fn damaged(problem: &str) -> Error {
    Error::refused(format!(
        "the copy does not pass PRAGMA integrity_check: {problem}; check the database itself"
    ))
}

/// Checks each table that can be checked without the application, and reads the others.
fn check_tables(copy: &Connection) -> Result<()> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0";
    let mut tables = copy.prepare(sql)?;
    let names = tables.query_map([], |row| row.get::<_, String>(0))?;
    for name in names {
        let table = quote(&name?);
        match problem(copy, &format!("PRAGMA integrity_check({table})")) {
            Err(error) if needs_application(&error) => {
                let sql = format!("SELECT count(*) FROM {table} NOT INDEXED");
                copy.query_row(&sql, [], |_| Ok(()))?;
            }
            Err(error) => return Err(error),
            Ok(None) => {}
            Ok(Some(problem)) => return Err(damaged(&problem)),
        }
    }
    Ok(())
}

/// The first problem that a check finds.
fn problem(copy: &Connection, check: &str) -> Result<Option<String>> {
    let first: String = copy.query_row(check, [], |row| row.get(0))?;
    Ok((first != "ok").then_some(first))
}

/// Whether a statement could not be compiled.
fn needs_application(error: &Error) -> bool {
    match error {
        Error::Sqlite(error) => error.sqlite_error_code() == Some(ErrorCode::Unknown),
        _ => false,
    }
}
