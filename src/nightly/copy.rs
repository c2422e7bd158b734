//! A copy of the database while it is in use, by SQLite's online backup API.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::open;
use crate::error::{Error, Result};
use crate::sql::{data_version, patiently, quote, read_transaction};

/// Pages that are copied between two looks at the clock.
const STEP_PAGES: i32 = 64;
/// For how long a database with a rollback journal is read at a time, at first: a writer waits for
/// that.
const FIRST_TURN: Duration = Duration::from_millis(4);
/// For how long it is left to writers then.
const PAUSE: Duration = Duration::from_millis(4);
/// For how long a lock that others hold is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Copies `main` to the empty file `target`. What comes out is one state of the database, and all of it
/// is in that one file.
///
/// Writers go on: in WAL mode a reader is not in their way. With a rollback journal the copy is made in
/// short turns. Whatever others commit between two turns makes it start again, with turns twice as
/// long, so that it ends even if they never stop.
pub fn copy(source: &Connection, target: &Path) -> Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut copy = Connection::open_with_flags(target, flags)?;
    // If anything fails, the file goes; if nothing does, it is synced in the end.
    copy.query_row("PRAGMA journal_mode = OFF", [], |_| Ok(()))?;
    copy.execute_batch("PRAGMA synchronous = OFF")?;
    let backup = Backup::new(source, &mut copy)?;
    let journal: String = patiently(|| {
        let sql = "PRAGMA main.journal_mode";
        Ok(source.query_row(sql, [], |row| row.get(0))?)
    })?;
    let mut turn = match journal.as_str() {
        "wal" | "memory" => Duration::MAX,
        _ => FIRST_TURN,
    };
    let mut version = None;
    let mut moved_on = Instant::now();
    loop {
        let step = read_transaction(source, || {
            Ok((data_version(source)?, take_turn(&backup, turn)?))
        });
        match step {
            Ok((_, StepResult::Done)) => break,
            Ok((now, StepResult::More)) => {
                if version.is_some_and(|before| before != now) {
                    turn = turn.saturating_mul(2);
                }
                version = Some(now);
                moved_on = Instant::now();
            }
            Ok(_) if moved_on.elapsed() < PATIENCE => {}
            Err(error) if error.is_busy() && moved_on.elapsed() < PATIENCE => {}
            Ok(_) => return Err(Error::refused("the database is locked")),
            Err(error) => return Err(error),
        }
        std::thread::sleep(PAUSE);
    }
    drop(backup);
    copy.close().map_err(|(_, error)| error.into())
}

/// Copies pages until the turn is over.
fn take_turn(backup: &Backup<'_, '_>, turn: Duration) -> Result<StepResult> {
    let start = Instant::now();
    loop {
        let step = backup.step(STEP_PAGES)?;
        if step != StepResult::More || start.elapsed() >= turn {
            return Ok(step);
        }
    }
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
