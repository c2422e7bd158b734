//! The history of runs.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension};

use crate::error::Result;
use crate::storage;
use crate::time::clock;

/// What a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Hot rows become cold.
    Archive,
    /// Old cold rows are dropped.
    Expire,
    /// Cold rows become hot.
    Restore,
    /// A call of `archive_run`, of which the others may be parts.
    Nightly,
    /// A lost catalog is made again.
    Recover,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Archive => "archive",
            Self::Expire => "expire",
            Self::Restore => "restore",
            Self::Nightly => "nightly",
            Self::Recover => "recover",
        }
    }
}

/// A run that is going on.
#[derive(Debug, Clone)]
pub struct Run {
    pub id: i64,
    /// Part of the names of the files it writes; no other run has it.
    pub token: String,
}

/// What a run is about.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub operation: Operation,
    /// In the catalog, if it has been archived.
    pub table: Option<i64>,
    pub name: Option<&'a str>,
    pub cutoff: Option<&'a str>,
}

/// What a run has moved.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moved {
    pub rows: u64,
    pub files: u64,
    pub bytes: u64,
}

/// Writes down that a run begins.
pub fn begin(connection: &Connection, subject: Subject<'_>) -> Result<Run> {
    connection.execute(
        "INSERT INTO main._archive_run
             (token, operation, table_id, table_name, started_at, cutoff, status)
         VALUES (lower(hex(randomblob(8))), ?1, ?2, ?3, ?4, ?5, 'running')",
        (
            subject.operation.name(),
            subject.table,
            subject.name,
            clock::stamp(),
            subject.cutoff,
        ),
    )?;
    let id = connection.last_insert_rowid();
    let sql = "SELECT token FROM main._archive_run WHERE id = ?1";
    let token = connection.query_row(sql, [id], |row| row.get(0))?;
    Ok(Run { id, token })
}

/// Writes down how many rows a run is about to move.
pub fn plan(connection: &Connection, run: &Run, rows: u64) -> Result<()> {
    let sql = "UPDATE main._archive_run SET planned_rows = ?2 WHERE id = ?1";
    connection.execute(sql, (run.id, rows))?;
    Ok(())
}

/// Writes down how far a run has got, in the transaction that moved the rows.
pub fn advance(connection: &Connection, run: i64, moved: Moved) -> Result<()> {
    let sql = "UPDATE main._archive_run SET rows = ?2, files = ?3, bytes = ?4 WHERE id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    statement.execute((run, moved.rows, moved.files, moved.bytes))?;
    Ok(())
}

/// Writes down how a run ended: with an error, or well.
pub fn end(connection: &Connection, run: &Run, moved: Moved, error: Option<&str>) -> Result<()> {
    advance(connection, run.id, moved)?;
    let status = if error.is_some() { "failed" } else { "done" };
    let sql =
        "UPDATE main._archive_run SET finished_at = ?2, status = ?3, error = ?4 WHERE id = ?1";
    connection.execute(sql, (run.id, clock::stamp(), status, error))?;
    Ok(())
}

/// The id of the newest run; 0 if there is none.
pub fn newest(connection: &Connection) -> Result<i64> {
    let sql = "SELECT coalesce(max(id), 0) FROM main._archive_run";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

/// What the names of files have in them of the runs whose files the catalog is sure to know: all since a lost
/// catalog was made again, if it ever was. Where it names no file at all, its table may have been emptied, and a
/// run that published some explains none.
pub fn tokens(connection: &Connection) -> Result<HashSet<String>> {
    let sql = "SELECT token FROM main._archive_run
               WHERE (files = 0 OR EXISTS (SELECT 1 FROM main._archive_file))
                   AND id > (SELECT coalesce(max(id), 0) FROM main._archive_run WHERE operation = 'recover')";
    let mut statement = connection.prepare(sql)?;
    let tokens = statement.query_map([], |row| row.get(0))?;
    Ok(tokens.collect::<Result<_, _>>()?)
}

/// The cutoff of the last run, if that has made a lost catalog again: what it was made from is of that time.
pub fn since_recovery(connection: &Connection) -> Result<Option<Option<String>>> {
    let sql = "SELECT cutoff FROM main._archive_run
               WHERE id = (SELECT max(id) FROM main._archive_run) AND operation = 'recover'";
    let mut statement = connection.prepare(sql)?;
    Ok(statement.query_row([], |row| row.get(0)).optional()?)
}

/// Whether the catalog names no file, although runs have published some: all have left it, or its table was emptied.
pub fn miss_files(connection: &Connection) -> Result<bool> {
    let sql = "SELECT NOT EXISTS (SELECT 1 FROM main._archive_file)
                  AND EXISTS (SELECT 1 FROM main._archive_run WHERE files > 0)";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

/// The tokens of runs that have published files.
pub fn published(connection: &Connection) -> Result<HashSet<String>> {
    let mut statement =
        connection.prepare("SELECT token FROM main._archive_run WHERE files > 0")?;
    let tokens = statement.query_map([], |row| row.get(0))?;
    Ok(tokens.collect::<Result<_, _>>()?)
}

/// Runs that never ended although no run is going on: their process died.
pub fn dead(connection: &Connection) -> Result<Vec<Run>> {
    let sql = "SELECT id, token FROM main._archive_run WHERE status = 'running'";
    let mut statement = connection.prepare(sql)?;
    let runs = statement.query_map([], |row| {
        Ok(Run {
            id: row.get(0)?,
            token: row.get(1)?,
        })
    })?;
    Ok(runs.collect::<Result<_, _>>()?)
}

/// Adds a run, of which only files of a table are left, with this id if it is given, unless there is one.
fn add_of_files(
    connection: &Connection,
    id: Option<i64>,
    token: &str,
    (table, name): (i64, &str),
) -> Result<()> {
    connection.execute(
        "INSERT OR IGNORE INTO main._archive_run
             (id, token, operation, table_id, table_name, started_at, finished_at, status, error)
         VALUES (?1, ?2, 'archive', ?3, ?4, ?5, ?5, 'interrupted', 'only its files were left')",
        (id, token, table, name, clock::stamp()),
    )?;
    Ok(())
}

/// The id of the run with this token, of which only files of a table are left: it is added if it is new.
pub fn of_files(connection: &Connection, token: &str, table: i64, name: &str) -> Result<i64> {
    add_of_files(connection, None, token, (table, name))?;
    let sql = "UPDATE main._archive_run SET table_id = ?2 WHERE token = ?1 AND table_id IS NULL";
    connection.execute(sql, (token, table))?;
    let sql = "SELECT id FROM main._archive_run WHERE token = ?1";
    Ok(connection.query_row(sql, [token], |row| row.get(0))?)
}

/// Makes the runs again that files refer to, from the names of the files.
pub fn restore_missing(connection: &Connection) -> Result<()> {
    let sql = "SELECT f.run_id, f.table_id, t.name, f.path
               FROM main._archive_file f JOIN main._archive_table t ON t.id = f.table_id
               WHERE f.run_id NOT IN (SELECT id FROM main._archive_run)";
    let mut statement = connection.prepare(sql)?;
    let files = statement.query_map([], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
    })?;
    let files: Vec<(i64, i64, String, String)> = files.collect::<Result<_, _>>()?;
    for (id, table, name, path) in files {
        let Some(token) = storage::run_of(&path) else {
            continue;
        };
        add_of_files(connection, Some(id), token, (table, &name))?;
        // Under another id there may be a run of that name.
        let sql = "UPDATE main._archive_file SET run_id = r.id FROM main._archive_run r
                   WHERE r.token = ?2 AND _archive_file.path = ?1";
        connection.execute(sql, (&path, token))?;
    }
    Ok(())
}

/// Writes down that a run was cut off; what it had published counts.
pub fn mark_interrupted(connection: &Connection, run: &Run) -> Result<()> {
    connection.execute(
        "UPDATE main._archive_run SET status = 'interrupted', finished_at = ?2,
             error = 'the process ended during the run'
         WHERE id = ?1",
        (run.id, clock::stamp()),
    )?;
    Ok(())
}
