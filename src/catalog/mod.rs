//! The catalog: tables `_archive_*` in the user's own database. `sql/schema.sql` explains them.
//!
//! - [`tables`]: archived tables and the columns their files were written with
//! - [`files`](mod@files): cold files, what is known of their values, and tombstones
//! - [`runs`]: the history

pub mod files;
pub mod runs;
pub mod tables;

use rusqlite::{Connection, OptionalExtension};

use crate::error::{Error, Result};
use crate::sql::write_transaction;
use crate::storage;

/// What brings a catalog from each version to the next; the first entry makes version 1 from
/// nothing. An entry that was released never changes.
const MIGRATIONS: [&str; 1] = [include_str!("../../sql/schema.sql")];

/// The first letters of every catalog table's name.
pub const PREFIX: &str = "_archive_";

/// The catalog's version, or `None` if the database has no catalog.
pub fn version(connection: &Connection) -> Result<Option<usize>> {
    let sql = "SELECT count(*), sum(type <> 'table' OR sql LIKE 'CREATE VIRTUAL%')
               FROM main.sqlite_schema
               WHERE name LIKE '\\_archive\\_%' ESCAPE '\\' AND type IN ('table', 'view')";
    let (present, odd): (i64, Option<i64>) = connection
        .prepare_cached(sql)?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    match (present, odd) {
        (0, _) => Ok(None),
        (_, Some(0)) => Ok(Some(meta(connection, "schema_version")?)),
        // A view could run what its author likes.
        _ => Err(Error::refused(
            "the archive catalog is damaged: a name that begins with _archive_ is not a table",
        )),
    }
}

/// Whether there is a catalog that this version can read.
pub fn exists(connection: &Connection) -> Result<bool> {
    match version(connection)? {
        Some(version) if version > MIGRATIONS.len() => Err(Error::refused(format!(
            "the archive catalog has version {version}, this sqlite-cold {} knows versions up to \
             {}; load a newer sqlite-cold",
            env!("CARGO_PKG_VERSION"),
            MIGRATIONS.len()
        ))),
        version => Ok(version.is_some()),
    }
}

/// Creates the catalog, or brings an older one up to date.
pub fn ensure(connection: &Connection) -> Result<()> {
    if exists(connection)? && version(connection)? == Some(MIGRATIONS.len()) {
        return Ok(());
    }
    write_transaction(connection, || {
        let from = version(connection)?.unwrap_or(0);
        for migration in MIGRATIONS.iter().skip(from) {
            connection.execute_batch(&in_main(migration))?;
        }
        if from == 0 {
            let sql = "INSERT INTO main._archive_meta VALUES ('database_id', ?1)";
            connection.execute(sql, [database_id(connection)])?;
        }
        connection.execute(
            "INSERT OR REPLACE INTO main._archive_meta VALUES ('schema_version', ?1)",
            [MIGRATIONS.len()],
        )?;
        Ok(())
    })
}

/// Tells the database from others. It is made of what a rollback does not change, so that files of a
/// transaction that was rolled back are recognised later.
fn database_id(connection: &Connection) -> String {
    let created = connection
        .path()
        .and_then(|path| std::fs::metadata(path).ok()?.created().ok());
    let created = created.map(|time| format!("{time:?}")).unwrap_or_default();
    let hash = xxhash_rust::xxh3::xxh3_64(created.as_bytes());
    format!("{}{hash:016x}", storage::file_identity(connection.path()))
}

/// A TEMP table of the same name must not get in the way. REFERENCES takes no schema.
fn in_main(sql: &str) -> String {
    sql.replace("CREATE TABLE _", "CREATE TABLE main._")
        .replace("CREATE INDEX _", "CREATE INDEX main._")
}

/// A value of `_archive_meta`.
pub fn meta<T: rusqlite::types::FromSql>(connection: &Connection, key: &str) -> Result<T> {
    let sql = "SELECT value FROM main._archive_meta WHERE key = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let value = statement.query_row([key], |row| row.get(0)).optional()?;
    value.ok_or_else(|| Error::refused(format!("the archive catalog is damaged: it has no {key}")))
}
