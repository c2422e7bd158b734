//! Copies of catalogs: which are those of this database, and opening them. A copy is untrusted, as the
//! catalog is.

use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::catalog::{self, files};
use crate::error::{Error, Result};
use crate::sqlite::filename::database_path;
use crate::storage::copies::Copies;
use crate::storage::{Folder, file_identity};

/// A copy that is used.
pub struct Copy {
    pub path: PathBuf,
    pub copied_at: String,
}

/// Copies that were made where this database was before, or of the file that was in its place.
pub struct Former {
    pub copies: Copies,
    /// The database's then.
    pub id: String,
}

/// The newest copies in the archive folder that are of the database with this `id` where it was before its
/// file got another name. If the id is not known for certain, as the catalog is lost with it, also those of
/// the file that was at the database's path, or that were moved, or copied, together with it.
pub fn former(
    connection: &Connection,
    archive: &Folder,
    id: &str,
    is_known: bool,
) -> Result<Option<Former>> {
    let database = database_path(connection).unwrap_or_default();
    let home = database.parent().unwrap_or(&database);
    let inside = archive.root().strip_prefix(home).ok();
    let mut last: Option<(String, Former)> = None;
    for copies in Copies::of_all(archive)? {
        if is_known && !copies.are_of(id) {
            continue;
        }
        let Some(origin) = Origin::of(&copies)? else {
            continue;
        };
        let (former, folder) = (&origin.database, &origin.folder);
        let same_place = || *former == database;
        let moved_along = || {
            let home = former.parent()?;
            let same = former.file_name() == database.file_name()
                && folder.strip_prefix(home).ok()? == inside?;
            Some(same)
        };
        // Another database, which has the id because one is a copy of the other.
        let is_same = |a: &Path, b: &Path| file_identity(Some(a)) == file_identity(Some(b));
        let is_anothers =
            || is_same(folder, archive.root()) && former.exists() && !is_same(former, &database);
        let is_of_it = origin.id == id && !is_anothers()
            || !is_known && (same_place() || moved_along() == Some(true));
        let at = origin.copied_at;
        if is_of_it && last.as_ref().is_none_or(|(last, _)| *last < at) {
            last = Some((
                at,
                Former {
                    copies,
                    id: origin.id,
                },
            ));
        }
    }
    Ok(last.map(|(_, former)| former))
}

/// What a copy says of where it is from.
struct Origin {
    id: String,
    database: PathBuf,
    folder: PathBuf,
    copied_at: String,
}

impl Origin {
    /// That of the newest of some copies which is whole.
    fn of(copies: &Copies) -> Result<Option<Self>> {
        for (_, path) in copies.list()?.into_iter().rev() {
            match Self::read(&path) {
                Ok(origin) => return Ok(Some(origin)),
                // One of another version, or that is not this user's, is none of ours.
                Err(error) if is_damage(&error) || is_closed(&error) => {}
                Err(error) => return Err(unreadable(&path, &error)),
            }
        }
        Ok(None)
    }

    fn read(path: &Path) -> Result<Self> {
        let (copy, copied_at) = open(path)?;
        let place = |key| catalog::meta::<String>(&copy, key).map(PathBuf::from);
        Ok(Self {
            id: catalog::meta(&copy, "database_id")?,
            database: place("database")?,
            folder: place("folder")?,
            copied_at,
        })
    }
}

/// How many files have rows that count, and how many these are, as the newest copy that is whole has it.
pub fn count(copies: &[PathBuf]) -> Result<Option<(u64, u64)>> {
    let Some((copy, _)) = open_newest(copies, &mut Vec::new())? else {
        return Ok(None);
    };
    let sql = "SELECT count(*), coalesce(sum(published - dead), 0)
               FROM main._archive_file WHERE published > dead";
    let counted = copy.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(Some(counted))
}

/// The newest copy that is whole. What cannot be used is added to `problems`.
pub fn open_newest(
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
    // What the recovery goes by, so that an older copy can take the place of this one.
    files::check(&copy)?;
    let copied_at = catalog::meta(&copy, "copied_at")?;
    Ok((copy, copied_at))
}

fn schema(connection: &Connection) -> Result<Vec<(String, String, String)>> {
    let sql = "SELECT type, name, coalesce(sql, '') FROM main.sqlite_schema ORDER BY type, name";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
