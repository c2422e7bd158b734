//! The history of archive runs.

use rusqlite::Connection;

use crate::error::Result;

/// SQL for the present time as the history shows it.
const NOW: &str = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')";

/// A run that is going on.
#[derive(Debug, Clone)]
pub struct Run {
    pub id: i64,
    /// Part of the names of the files it writes; no other run has it.
    pub token: String,
}

/// What a run has moved.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moved {
    pub rows: u64,
    pub files: u64,
    pub bytes: u64,
}

/// Writes down that a run begins.
pub fn begin(connection: &Connection, table: i64, cutoff: &str) -> Result<Run> {
    let sql = format!(
        "INSERT INTO main._archive_run (token, table_id, started_at, cutoff, status)
         VALUES (lower(hex(randomblob(8))), ?1, {NOW}, ?2, 'running')"
    );
    connection.execute(&sql, (table, cutoff))?;
    let id = connection.last_insert_rowid();
    let sql = "SELECT token FROM main._archive_run WHERE id = ?1";
    let token = connection.query_row(sql, [id], |row| row.get(0))?;
    Ok(Run { id, token })
}

/// Writes down how a run ended: with an error, or well.
pub fn end(connection: &Connection, run: &Run, moved: Moved, error: Option<&str>) -> Result<()> {
    let sql = format!(
        "UPDATE main._archive_run SET finished_at = {NOW}, status = ?2, rows = ?3, files = ?4,
             bytes = ?5, error = ?6
         WHERE id = ?1"
    );
    let status = if error.is_some() { "failed" } else { "done" };
    connection.execute(
        &sql,
        (run.id, status, moved.rows, moved.files, moved.bytes, error),
    )?;
    Ok(())
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

/// Writes down that a run was cut off; what it had published counts.
pub fn mark_interrupted(connection: &Connection, run: &Run) -> Result<()> {
    let sql = format!(
        "UPDATE main._archive_run SET status = 'interrupted', finished_at = {NOW},
             error = 'the process ended during the run',
             files = (SELECT count(*) FROM main._archive_file WHERE run_id = ?1),
             bytes = (SELECT coalesce(sum(bytes), 0) FROM main._archive_file WHERE run_id = ?1),
             rows = (SELECT coalesce(sum(published), 0) FROM main._archive_file WHERE run_id = ?1)
         WHERE id = ?1"
    );
    connection.execute(&sql, [run.id])?;
    Ok(())
}
