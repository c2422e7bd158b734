//! The tables of a lost catalog, and what the newest copy of it says. A copy is untrusted, as the
//! catalog is.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::copy::copy_rows;
use super::found;
use super::lost::Remains;
use crate::catalog::files::{self, FileEntry};
use crate::catalog::{self, identity, runs, tables, tombstones};
use crate::error::{Error, Result};
use crate::settings::{self, Config};
use crate::sqlite::filename::database_path;
use crate::storage::Folder;
use crate::storage::copies::Copies;
use crate::table::Table;

/// The copy that was used.
pub struct Copy {
    pub path: PathBuf,
    pub copied_at: String,
}

/// The tables that speak of files.
const OF_FILES: [&str; 3] = ["_archive_file", "_archive_range", "_archive_tombstone"];

/// What a catalog has after it was filled.
pub struct Filled {
    pub copy: Option<Copy>,
    /// The files of which the catalog says, or its copy, which of their rows count.
    pub known: HashSet<i64>,
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

/// The id of the database whose catalog was last copied at the place of this one, or where this one was before
/// its folder was moved, or copied, with all that is in it. `None` if the archive folder has no such copy.
pub fn former_id(connection: &Connection, archive: &Folder) -> Result<Option<String>> {
    let database = database_path(connection).unwrap_or_default();
    let home = database.parent().unwrap_or(&database);
    let inside = archive.root().strip_prefix(home).ok();
    let mut last: Option<(String, String)> = None;
    for path in Copies::newest_of_all(archive)? {
        let (copy, copied_at) = match open(&path) {
            Ok(opened) => opened,
            // One of another version, or that is not this user's, is none of ours.
            Err(error) if is_damage(&error) || is_closed(&error) => continue,
            Err(error) => return Err(unreadable(&path, &error)),
        };
        let former = PathBuf::from(catalog::meta::<String>(&copy, "database")?);
        let folder = PathBuf::from(catalog::meta::<String>(&copy, "folder")?);
        let moved_along = || {
            let home = former.parent()?;
            let same = former.file_name() == database.file_name()
                && folder.strip_prefix(home).ok()? == inside?;
            Some(same)
        };
        let is_of_it = former == database || moved_along() == Some(true);
        if is_of_it && last.as_ref().is_none_or(|(at, _)| *at < copied_at) {
            last = Some((copied_at, catalog::meta(&copy, "database_id")?));
        }
    }
    Ok(last.map(|(_, id)| id))
}

/// How many files have rows that count, and how many these are, as the newest copy that is whole has it.
pub fn count(remains: &Remains) -> Result<Option<(u64, u64)>> {
    let Some((copy, _)) = open_newest(&remains.copies, &mut Vec::new())? else {
        return Ok(None);
    };
    let sql = "SELECT count(*), coalesce(sum(published - dead), 0)
               FROM main._archive_file WHERE published > dead";
    let counted = copy.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(Some(counted))
}

fn open_newest(
    copies: &[PathBuf],
    problems: &mut Vec<String>,
) -> Result<Option<(Connection, Copy)>> {
    for path in copies {
        match open(path) {
            Ok((connection, copied_at)) => {
                let path = path.clone();
                return Ok(Some((connection, Copy { path, copied_at })));
            }
            Err(error) if is_damage(&error) => {
                problems.push(format!("{}: {error}", path.display()));
            }
            // An older one would do worse, and what it made would stay.
            Err(error) => return Err(unreadable(path, &error)),
        }
    }
    Ok(None)
}

fn unreadable(path: &Path, error: &Error) -> Error {
    Error::refused(format!(
        "{}: {error}; try again when it can be read",
        path.display()
    ))
}

/// Whether a copy is not for this user to open.
fn is_closed(error: &Error) -> bool {
    let Error::Sqlite(rusqlite::Error::SqliteFailure(failure, _)) = error else {
        return false;
    };
    matches!(
        failure.code,
        ErrorCode::CannotOpen | ErrorCode::PermissionDenied
    )
}

/// Whether a copy can never be used, and not only not now.
fn is_damage(error: &Error) -> bool {
    match error {
        Error::Sqlite(rusqlite::Error::SqliteFailure(failure, _)) => matches!(
            failure.code,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown
        ),
        Error::Io { .. } | Error::Internal(_) => false,
        _ => true,
    }
}

/// Opens a copy, which must have the tables that this version makes, and nothing else.
fn open(path: &Path) -> Result<(Connection, String)> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let copy = Connection::open_with_flags(path, flags)?;
    copy.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    let expected = Connection::open_in_memory()?;
    catalog::create_tables(&expected)?;
    if schema(&copy)? != schema(&expected)? {
        return Err(Error::refused(
            "it is not a copy of a catalog of this version",
        ));
    }
    let check: String = copy.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if check != "ok" {
        return Err(Error::refused(format!("the copy is damaged: {check}")));
    }
    catalog::exists(&copy)?;
    let copied_at = catalog::meta(&copy, "copied_at")?;
    Ok((copy, copied_at))
}

fn schema(connection: &Connection) -> Result<Vec<(String, String, String)>> {
    let sql = "SELECT type, name, coalesce(sql, '') FROM main.sqlite_schema ORDER BY type, name";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
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
                problems.push(found::problem(error)?);
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
