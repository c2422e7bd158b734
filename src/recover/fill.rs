//! The tables of a lost catalog, and what the newest copy of it says.

use std::collections::HashSet;

use rusqlite::Connection;

use super::copies::{Copy, open_newest};
use super::copy::copy_rows;
use super::found;
use super::origin;
use super::remains::Remains;
use crate::catalog;
use crate::catalog::files::{self, FileEntry};
use crate::catalog::identity;
use crate::catalog::runs;
use crate::catalog::tables;
use crate::catalog::tombstones;
use crate::error::{Error, Result};
use crate::schema::Table;
use crate::settings::{self, Config};

/// The tables that speak of files.
const OF_FILES: [&str; 3] = ["_archive_file", "_archive_range", "_archive_tombstone"];

/// What a catalog has after it was filled.
pub struct Filled {
    pub copy: Option<Copy>,
    /// The files of which the catalog says, or its copy, which of their rows count.
    pub known: HashSet<i64>,
    /// Whether what it says of their rows is of now: it has them from itself.
    pub is_current: bool,
    /// The tables that were taken for archived ones of their names.
    pub by_name: Vec<String>,
}

/// Makes the tables that are missing, and fills what is lost from the newest copy that is whole. What
/// is left of the catalog stays. What cannot be used is added to `problems`.
pub fn fill(
    connection: &Connection,
    remains: &Remains,
    problems: &mut Vec<String>,
) -> Result<Filled> {
    let mut missing = Vec::new();
    for table in catalog::TABLES {
        if !catalog::has_table(connection, table)? {
            missing.push(table);
        }
    }
    catalog::complete(connection, &remains.id)?;
    let emptied = is_empty(connection, "_archive_run")?;
    let misses_files = runs::miss_files(connection)? && !remains.unknown(connection)?.is_empty();
    let mut filled = Vec::new();
    for table in catalog::TABLES {
        let lost = emptied || missing.contains(&table) || misses_files && OF_FILES.contains(&table);
        if lost && is_empty(connection, table)? {
            filled.push(table);
        }
    }
    let used = open_newest(&remains.copies, problems)?;
    if let Some((copy, _)) = &used {
        copy_rows(copy, connection, "_archive_meta")?;
        let sql = "DELETE FROM main._archive_meta WHERE key IN ('copied_at', 'database', 'folder')";
        connection.execute(sql, [])?;
        for table in &filled {
            copy_rows(copy, connection, table)?;
        }
        // The files are here, whatever was set when the copy was made.
        let folder = settings::folder(connection, &Config::read(connection)?)?;
        if folder.root() != remains.archive.folder.root() {
            let sql = "DELETE FROM main._archive_config WHERE key = 'archive_dir'";
            connection.execute(sql, [])?;
        }
    }
    let is_filled = |table: &str| filled.contains(&table);
    if is_filled("_archive_file") && !is_filled("_archive_removed") {
        // They have left the catalog since.
        let sql = "DELETE FROM main._archive_file
                   WHERE path IN (SELECT path FROM main._archive_removed)";
        connection.execute(sql, [])?;
    }
    tidy(connection)?;
    let copy = used.as_ref().map(|(copy, _)| copy);
    complete_files(connection, remains, copy, problems)?;
    let known = match (
        &used,
        is_filled("_archive_file") || is_filled("_archive_tombstone"),
    ) {
        (_, false) => ids(connection)?,
        // Of those that the copy does not have, no tombstone is left.
        (Some((copy, _)), true) => &ids(connection)? & &ids(copy)?,
        (None, true) => HashSet::new(),
    };
    let by_name = match is_filled("_archive_table") || missing.contains(&"_archive_anchor") {
        true => stay(connection)?,
        false => Vec::new(),
    };
    Ok(Filled {
        copy: used.map(|(_, copy)| copy),
        known: known.into_iter().map(|(id, _)| id).collect(),
        is_current: !is_filled("_archive_file"),
        by_name,
    })
}

/// The ids and paths of all files.
fn ids(connection: &Connection) -> Result<HashSet<(i64, String)>> {
    let mut statement = connection.prepare("SELECT id, path FROM main._archive_file")?;
    let ids = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

fn is_empty(connection: &Connection, table: &str) -> Result<bool> {
    let sql = format!("SELECT NOT EXISTS (SELECT 1 FROM main.{table})");
    Ok(connection.query_row(&sql, [], |row| row.get(0))?)
}

/// Removes rows that refer to nothing. No run is going on: the lock is ours.
fn tidy(connection: &Connection) -> Result<()> {
    connection.execute_batch(
        "DELETE FROM main._archive_schema
             WHERE table_id NOT IN (SELECT id FROM main._archive_table);
         UPDATE main._archive_run SET table_id = NULL
             WHERE table_id NOT IN (SELECT id FROM main._archive_table);
         UPDATE main._archive_run SET status = 'interrupted' WHERE status = 'running';
         DELETE FROM main._archive_file
             WHERE table_id NOT IN (SELECT id FROM main._archive_table)
                OR schema_id NOT IN (SELECT id FROM main._archive_schema);",
    )?;
    runs::restore_missing(connection)?;
    connection.execute_batch(
        "DELETE FROM main._archive_file
             WHERE run_id NOT IN (SELECT id FROM main._archive_run);
         DELETE FROM main._archive_tombstone
             WHERE file_id NOT IN (SELECT id FROM main._archive_file);
         DELETE FROM main._archive_range
             WHERE file_id NOT IN (SELECT id FROM main._archive_file);",
    )?;
    Ok(())
}

/// Gives each file the ranges that it has none of, and as many dead rows as it has tombstones.
fn complete_files(
    connection: &Connection,
    remains: &Remains,
    copy: Option<&Connection>,
    problems: &mut Vec<String>,
) -> Result<()> {
    for table in tables::all(connection)? {
        for entry in files::all(connection, table.id)? {
            mend_tombstones(connection, copy, &entry, problems)?;
            if let Err(error) = found::complete_ranges(connection, &remains.archive.folder, &entry)
            {
                problems.push(origin::problem(error)?);
            }
        }
    }
    Ok(())
}

/// Takes tombstones of a file that cannot be read from the copy, as far as it has them, and says so.
fn mend_tombstones(
    connection: &Connection,
    copy: Option<&Connection>,
    file: &FileEntry,
    problems: &mut Vec<String>,
) -> Result<()> {
    let unreadable = tombstones::remove_unreadable(connection, file)?;
    if unreadable > 0 {
        let copied = match copy {
            Some(copy) => tombstones::copy(copy, connection, file)?,
            None => false,
        };
        let path = &file.record.path;
        problems.push(match copied {
            true => format!(
                "tombstones of {path} cannot be read; those of the copy took their place, and rows that came back \
                 or expired after it may be cold again"
            ),
            false => format!(
                "tombstones of {path} cannot be read, and no copy has them: rows of it that came back or expired \
                 may be cold again"
            ),
        });
    }
    tombstones::recount(connection, file)
}

/// Takes each table that has the name of an archived one for that, as it was before, if its columns can be
/// followed: the places of tables in the schema tell nothing any more. Returns the names.
fn stay(connection: &Connection) -> Result<Vec<String>> {
    let mut stayed = Vec::new();
    for mut table in tables::all(connection)? {
        let was_there = table.place.is_some();
        let stays = match Table::find(connection, &table.name)? {
            Some(_) if was_there => match identity::stay(connection, &mut table) {
                Ok(()) => true,
                Err(Error::Refused(_)) => false,
                Err(error) => return Err(error),
            },
            _ => false,
        };
        match stays {
            true => stayed.push(table.name),
            false => {
                table.place = None;
                tables::update(connection, &table)?;
            }
        }
    }
    Ok(stayed)
}
