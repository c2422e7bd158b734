//! Where the archive folder of a database is.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, MAIN_DB, OptionalExtension};

use super::list::ARCHIVE_DIR;
use super::setting::Config;
use crate::catalog;
use crate::error::{Error, Result};
use crate::sql::{journal_mode, literal, patiently};
use crate::sqlite::filename::database_path;
use crate::storage::access::Access;
use crate::storage::{self, Archive, Folder};

/// The folder with the database's cold files, as an archive run uses it. There must be a catalog.
pub fn archive(connection: &Connection, config: &Config) -> Result<Archive> {
    let folder = folder(connection, config)?;
    archive_in(
        connection,
        folder,
        &catalog::meta::<String>(connection, "database_id")?,
    )
}

/// [`archive`] for a database whose catalog says nothing; `id` is the database's.
pub fn archive_in(connection: &Connection, folder: Folder, id: &str) -> Result<Archive> {
    // A copy of the database is another database: it must not take the files that the original
    // writes after the copy was made for leftovers of its own.
    let database = database_path(connection);
    let place = match &database {
        Some(path) => std::path::absolute(path).map_err(Error::io(path))?,
        None => PathBuf::new(),
    };
    let place = place.canonicalize().unwrap_or(place);
    let mut identity = OsString::from(format!("{id} "));
    identity.push(place);
    let owner = xxhash_rust::xxh3::xxh3_64(identity.as_encoded_bytes());
    let lock = storage::file_identity(database.as_deref());
    Ok(Archive::new(
        folder,
        id.to_owned(),
        format!("{owner:016x}"),
        lock,
    ))
}

/// The folder with the database's cold files, which it has even before its catalog. A relative path
/// counts from the database file's folder, whatever the working directory is.
pub fn folder(connection: &Connection, config: &Config) -> Result<Folder> {
    let database = database_path(connection);
    let root = archive_root(database.as_deref(), config)?;
    Ok(Folder::new(root, Access::of(database.as_deref())))
}

/// What the environment has to say on [`folder`].
pub fn folder_variable() -> Option<OsString> {
    ARCHIVE_DIR.variable.and_then(std::env::var_os)
}

fn archive_root(database: Option<&Path>, config: &Config) -> Result<PathBuf> {
    let (folder, source) = ARCHIVE_DIR.resolve(config)?;
    let folder = PathBuf::from(folder.as_str().unwrap_or_default());
    let database = match database {
        Some(database) => database,
        None if source == "environment" => {
            return std::path::absolute(&folder).map_err(Error::io(&folder));
        }
        None => {
            return Err(Error::refused(
                "the database is in memory, so its cold files have no place; set the environment \
                 variable ARCHIVE_DIR",
            ));
        }
    };
    let absolute = std::path::absolute(database).map_err(Error::io(database))?;
    let home = absolute.parent().unwrap_or(&absolute);
    let root = home.join(folder);
    if source != "environment" {
        let way_out = "set the environment variable ARCHIVE_DIR to use it";
        storage::check_beside(&root, home, way_out)?;
    }
    Ok(root)
}

/// Refuses a connection that cannot write the database: what it cannot change there, it is not to change
/// anywhere else, either. Every function that writes anything asks this first.
pub fn check_writable(connection: &Connection) -> Result<()> {
    if connection.is_readonly(MAIN_DB)? {
        return Err(Error::refused(
            "the database is read-only; call it on a connection that can write",
        ));
    }
    check_not_query_only(connection)?;
    check_triggers(connection)?;
    // ROLLBACK would not undo what failed: rows would be deleted, and their file be no more.
    match patiently(|| journal_mode(connection))? == "off" {
        true => Err(Error::refused(
            "PRAGMA journal_mode is OFF, so nothing that fails could be undone; set another one",
        )),
        false => Ok(()),
    }
}

/// Refuses a connection with TEMP triggers on tables of the catalog: they could keep rows from being written,
/// without an error.
fn check_triggers(connection: &Connection) -> Result<()> {
    let names = catalog::TABLES.map(literal).join(", ");
    let sql = format!(
        "SELECT name, tbl_name FROM temp.sqlite_schema
         WHERE type = 'trigger' AND tbl_name COLLATE NOCASE IN ({names})"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let found: Option<(String, String)> = statement
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match found {
        None => Ok(()),
        Some((trigger, table)) => Err(Error::refused(format!(
            "there is a TEMP trigger {trigger} on {table}, a table of the archive catalog; drop it"
        ))),
    }
}

/// Refuses a connection that cannot write even TEMP tables.
pub fn check_not_query_only(connection: &Connection) -> Result<()> {
    match connection.query_row("PRAGMA query_only", [], |row| row.get(0))? {
        true => Err(Error::refused(
            "the connection is read-only, as PRAGMA query_only is on; call it on one that can write",
        )),
        false => Ok(()),
    }
}
