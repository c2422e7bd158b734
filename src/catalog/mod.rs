//! The catalog: tables `_archive_*` in the user's own database. `sql/schema.sql` explains them.
//!
//! - [`tables`]: archived tables and the columns their files were written with
//! - [`identity`], [`columns`]: which table and which column it is, after ALTER TABLE
//! - [`places`]: the tables of the database, in one look
//! - [`files`](mod@files): cold files, and what is known of their values
//! - [`tombstones`]: rows of cold files that do not count
//! - [`policies`]: what the nightly run does
//! - [`runs`]: the history

pub mod columns;
pub mod files;
pub mod identity;
pub mod ids;
pub mod lookup;
pub mod places;
pub mod policies;
pub mod runs;
pub mod tables;
pub mod tombstones;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension};

use crate::error::{Error, Result};
use crate::sql::{schema_version, transaction, without_comments, write_transaction};
use crate::sqlite::filename::database_path;
use crate::storage;

/// The version of the first catalog that a release makes. Those before it are only told apart.
const FIRST: usize = 2;

/// What brings a catalog from each version to the next; the first entry makes version [`FIRST`] from
/// nothing. An entry that was released never changes.
const MIGRATIONS: [&str; 1] = [include_str!("../../sql/schema.sql")];

/// The version that this library makes.
const NEWEST: usize = FIRST + MIGRATIONS.len() - 1;

/// The key of the version in `_archive_meta`.
const VERSION: &str = "schema_version";

/// The first letters of every catalog table's name.
pub const PREFIX: &str = "_archive_";

/// All tables of the catalog; what a table refers to comes before it.
pub const TABLES: [&str; 11] = [
    "_archive_meta",
    "_archive_config",
    "_archive_policy",
    "_archive_table",
    "_archive_schema",
    "_archive_run",
    "_archive_file",
    "_archive_range",
    "_archive_tombstone",
    "_archive_removed",
    "_archive_anchor",
];

/// What there is of a catalog.
#[derive(Debug)]
enum Condition {
    /// Nothing.
    Absent,
    /// What is missing of one that is of this version, or of none that is known.
    Damaged(String),
    /// It has this version and, if that is ours, all of its tables.
    Version(usize),
}

fn condition(connection: &Connection) -> Result<Condition> {
    // No LIKE: an application may have put its own function in the place of SQLite's.
    let sql = "SELECT type, sql, name FROM main.sqlite_schema
               WHERE name COLLATE NOCASE >= '_archive_' AND name COLLATE NOCASE < '_archive`'
                 AND type IN ('table', 'view')";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut found = [false; TABLES.len()];
    while let Some(row) = rows.next()? {
        let name = row.get_ref(2)?.as_str().unwrap_or_default();
        let ours = TABLES.iter().zip(&mut found);
        let Some((table, found)) = ours
            .into_iter()
            .find(|(table, _)| table.eq_ignore_ascii_case(name))
        else {
            // The application's own.
            continue;
        };
        if row.get_ref(0)?.as_str() != Ok("table") || is_virtual(row.get_ref(1)?) {
            // A view could run what its author likes.
            return Err(Error::refused(format!(
                "the archive catalog is damaged: {table} is not an ordinary table"
            )));
        }
        *found = true;
    }
    drop(rows);
    if !found.contains(&true) {
        return Ok(Condition::Absent);
    }
    let missing = TABLES.iter().zip(found).find(|(_, found)| !found);
    let missing = missing.map(|(table, _)| format!("table {table}"));
    let version = match found {
        [true, ..] => find_meta(connection, VERSION)?,
        _ => None,
    };
    Ok(match (version, missing) {
        (Some(version), _) if version != NEWEST => Condition::Version(version),
        (_, Some(missing)) => Condition::Damaged(missing),
        (None, None) => Condition::Damaged(VERSION.to_owned()),
        (Some(version), None) => Condition::Version(version),
    })
}

/// The catalog's version, or `None` if the database has no catalog.
pub fn version(connection: &Connection) -> Result<Option<usize>> {
    match condition(connection)? {
        Condition::Absent => Ok(None),
        Condition::Damaged(missing) => Err(incomplete(&missing)),
        Condition::Version(version) => Ok(Some(version)),
    }
}

/// Whether tables of the catalog, or its version, are missing.
pub fn is_damaged(connection: &Connection) -> Result<bool> {
    Ok(matches!(condition(connection)?, Condition::Damaged(_)))
}

/// Whether there is a catalog that nothing was taken from as a whole: all its tables are there, and it has
/// a history. What this version cannot read is an error.
pub fn is_whole(connection: &Connection) -> Result<bool> {
    if is_damaged(connection)? || !exists(connection)? {
        return Ok(false);
    }
    let sql = "SELECT EXISTS (SELECT 1 FROM main._archive_run)
                  AND EXISTS (SELECT 1 FROM main._archive_meta WHERE key = 'database_id')";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

fn incomplete(missing: &str) -> Error {
    Error::refused(format!(
        "the archive catalog is damaged: it has no {missing}; archive_recover() makes it again"
    ))
}

/// Whether the database has a table of the catalog.
pub fn has_table(connection: &Connection, table: &str) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM main.sqlite_schema
               WHERE type = 'table' AND name = ?1 COLLATE NOCASE)";
    Ok(connection.query_row(sql, [table], |row| row.get(0))?)
}

/// Whether the SQL of a schema makes a virtual table.
pub fn is_virtual(sql: ValueRef<'_>) -> bool {
    const START: &str = "CREATE VIRTUAL";
    let start = sql.as_str().ok().and_then(|sql| sql.get(..START.len()));
    start.is_some_and(|start| start.eq_ignore_ascii_case(START))
}

/// Whether there is a catalog that this version can read.
pub fn exists(connection: &Connection) -> Result<bool> {
    match version(connection)? {
        Some(version) if version < FIRST => Err(Error::refused(format!(
            "the archive catalog has version {version}, which only development versions of \
             sqlite-cold made; bring the rows back with the one that made it"
        ))),
        Some(version) if version > NEWEST => Err(Error::refused(format!(
            "the archive catalog has version {version}, this sqlite-cold {} knows versions up to \
             {}; load a newer sqlite-cold",
            env!("CARGO_PKG_VERSION"),
            NEWEST
        ))),
        version => Ok(version.is_some()),
    }
}

/// Creates the catalog, or brings an older one up to date. Returns the number of the schema before that, if
/// there was anything to do: whoever could write then has seen the newest state.
pub fn ensure(connection: &Connection) -> Result<Option<i64>> {
    if exists(connection)? && version(connection)? == Some(NEWEST) {
        return Ok(None);
    }
    write_transaction(connection, || {
        transaction::renewing(connection, || {
            let before = schema_version(connection)?;
            create(connection)?;
            Ok(Some(before))
        })
    })
}

/// Makes the tables that are missing, and says which version they have.
fn create(connection: &Connection) -> Result<()> {
    let from = version(connection)?;
    let done = from.map_or(0, |version| version + 1 - FIRST);
    for migration in MIGRATIONS.iter().skip(done) {
        connection.execute_batch(&in_main(migration))?;
    }
    if from.is_none() {
        let sql = "INSERT INTO main._archive_meta VALUES ('database_id', ?1)";
        connection.execute(sql, [database_id(connection)])?;
    }
    connection.execute(
        "INSERT OR REPLACE INTO main._archive_meta VALUES ('schema_version', ?1)",
        [NEWEST],
    )?;
    Ok(())
}

/// Makes those tables of the newest version that a damaged catalog has not, and says what it is.
pub fn complete(connection: &Connection, database_id: &str) -> Result<()> {
    for migration in MIGRATIONS {
        let sql = in_main(migration)
            .replace("CREATE TABLE ", "CREATE TABLE IF NOT EXISTS ")
            .replace("CREATE INDEX ", "CREATE INDEX IF NOT EXISTS ");
        connection.execute_batch(&sql)?;
    }
    let sql = "INSERT OR IGNORE INTO main._archive_meta VALUES (?1, ?2), ('database_id', ?3)";
    connection.execute(sql, (VERSION, NEWEST, database_id))?;
    Ok(())
}

/// Makes the tables of the newest version in a database that has none.
pub fn create_tables(connection: &Connection) -> Result<()> {
    let create = |migration: &&str| connection.execute_batch(&in_main(migration));
    Ok(MIGRATIONS.iter().try_for_each(create)?)
}

/// Tells the database from others. It is made of what a rollback does not change, so that files of a
/// transaction that was rolled back are recognised later.
pub fn database_id(connection: &Connection) -> String {
    let database = database_path(connection);
    let created = database
        .as_ref()
        .and_then(|path| std::fs::metadata(path).ok()?.created().ok());
    let created = created.map(|time| format!("{time:?}")).unwrap_or_default();
    let hash = xxhash_rust::xxh3::xxh3_64(created.as_bytes());
    format!("{}{hash:016x}", storage::file_identity(database.as_deref()))
}

/// A TEMP table of the same name must not get in the way. REFERENCES takes no schema.
fn in_main(sql: &str) -> String {
    without_comments(sql)
        .replace("CREATE TABLE _", "CREATE TABLE main._")
        .replace("CREATE INDEX _", "CREATE INDEX main._")
}

/// A value of `_archive_meta`.
pub fn meta<T: rusqlite::types::FromSql>(connection: &Connection, key: &str) -> Result<T> {
    find_meta(connection, key)?.ok_or_else(|| incomplete(key))
}

/// A value of `_archive_meta`, if it is there.
pub fn find_meta<T: rusqlite::types::FromSql>(
    connection: &Connection,
    key: &str,
) -> Result<Option<T>> {
    let sql = "SELECT value FROM main._archive_meta WHERE key = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row([key], |row| row.get(0)).optional()?)
}
