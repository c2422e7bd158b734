//! What SQLite says of a connection and its database.

use rusqlite::Connection;

use crate::error::{Error, Result};
use crate::value::Encoding;

/// The database's text encoding.
pub fn encoding(connection: &Connection) -> Result<Encoding> {
    let name: String = connection.query_row("PRAGMA main.encoding", [], |row| row.get(0))?;
    Encoding::from_name(&name)
        .ok_or_else(|| Error::Internal(format!("unknown text encoding {name}")))
}

/// The journal mode of `main`, as SQLite calls it.
pub fn journal_mode(connection: &Connection) -> Result<String> {
    let sql = "PRAGMA main.journal_mode";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

/// A number that changes whenever another connection commits a change to the database.
pub fn data_version(connection: &Connection) -> Result<i64> {
    let mut statement = connection.prepare_cached("PRAGMA main.data_version")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

/// Whether the connection may see what others have not committed yet: where they share its cache
/// (<https://www.sqlite.org/sharedcache.html>). [`data_version`] does not tell that from what stays.
pub fn reads_uncommitted(connection: &Connection) -> Result<bool> {
    let mut statement = connection.prepare_cached("PRAGMA read_uncommitted")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

/// A number that changes with every change of the database's schema.
pub fn schema_version(connection: &Connection) -> Result<i64> {
    let mut statement = connection.prepare_cached("PRAGMA main.schema_version")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}
