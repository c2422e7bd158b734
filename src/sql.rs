//! Small helpers around the SQL that this library runs on the caller's connection.

use std::time::{Duration, Instant};

use rusqlite::{Connection, config::DbConfig};

use crate::error::{Error, Result};
use crate::sqlite::panic::guard;
use crate::value::Encoding;

/// How long an archive run keeps trying for a lock that another connection holds, on top of the
/// connection's own busy timeout.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);

/// `name` as an SQL identifier.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `text` as an SQL string literal.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Reads a table name as SQL would: it may be quoted with `""`, `[]` or ` `` `; anything else is
/// the name itself, so a name with spaces needs no quotes.
pub fn unquote(name: &str) -> String {
    let inner = |open: char, close: char| {
        let inner = name.strip_prefix(open)?.strip_suffix(close)?;
        let doubled = format!("{close}{close}");
        Some(match open {
            '[' => inner.to_owned(),
            _ => inner.replace(&doubled, &close.to_string()),
        })
    };
    inner('"', '"')
        .or_else(|| inner('`', '`'))
        .or_else(|| inner('[', ']'))
        .unwrap_or_else(|| name.to_owned())
}

/// Runs `body` again while another connection holds the lock it needs, for at most 30 seconds.
/// `body` must leave nothing behind when it fails.
pub fn patiently<T>(mut body: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        match body() {
            Err(error) if error.is_busy() && start.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            outcome => return outcome,
        }
    }
}

/// Runs `body` in a write transaction of its own or, inside the caller's transaction, in a
/// savepoint of it. Either way everything `body` did is undone if it fails.
pub fn write_transaction<T>(
    connection: &Connection,
    mut body: impl FnMut() -> Result<T>,
) -> Result<T> {
    let (begin, commit, rollback) = match connection.is_autocommit() {
        true => ("BEGIN IMMEDIATE", "COMMIT", "ROLLBACK"),
        false => (
            "SAVEPOINT sqlite_cold",
            "RELEASE sqlite_cold",
            "ROLLBACK TO sqlite_cold; RELEASE sqlite_cold",
        ),
    };
    patiently(|| {
        connection.execute_batch(begin)?;
        // A panic, too, must not leave a transaction open.
        let outcome = guard(&mut body).and_then(|done| {
            // In rollback-journal mode a reader holds up COMMIT, which can be tried again; the
            // whole transaction need not be.
            patiently(|| Ok(connection.execute_batch(commit)?))?;
            Ok(done)
        });
        if outcome.is_err() {
            // SQLite may have rolled back by itself; the first error is the one to report.
            let _ = connection.execute_batch(rollback);
        }
        outcome
    })
}

/// Runs `body` so that all it reads is of one state of the database. It must be short: it can be in the
/// way of writers.
pub fn read_transaction<T>(connection: &Connection, body: impl FnOnce() -> Result<T>) -> Result<T> {
    connection.execute_batch("SAVEPOINT sqlite_cold_read")?;
    let outcome = guard(body);
    let end = "ROLLBACK TO sqlite_cold_read; RELEASE sqlite_cold_read";
    if outcome.is_ok() {
        connection.execute_batch("RELEASE sqlite_cold_read")?;
    } else {
        // SQLite may have rolled back by itself; the first error is the one to report.
        let _ = connection.execute_batch(end);
    }
    outcome
}

/// The database's text encoding.
pub fn encoding(connection: &Connection) -> Result<Encoding> {
    let name: String = connection.query_row("PRAGMA main.encoding", [], |row| row.get(0))?;
    Encoding::from_name(&name)
        .ok_or_else(|| Error::Internal(format!("unknown text encoding {name}")))
}

/// A number that changes whenever another connection commits a change to the database.
pub fn data_version(connection: &Connection) -> Result<i64> {
    let mut statement = connection.prepare_cached("PRAGMA main.data_version")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

/// A number that changes with every change of the database's schema.
pub fn schema_version(connection: &Connection) -> Result<i64> {
    let mut statement = connection.prepare_cached("PRAGMA main.schema_version")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

/// While it lives, deleting a row neither fires a trigger nor cascades to another table: archiving
/// is a move. Nothing but the archive run uses the connection meanwhile.
pub struct MoveMode<'c> {
    connection: &'c Connection,
    triggers: bool,
    foreign_keys: bool,
}

impl<'c> MoveMode<'c> {
    pub fn enter(connection: &'c Connection) -> Result<Self> {
        let triggers = connection.db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER)?;
        let foreign_keys = connection.db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY)?;
        let mode = Self {
            connection,
            triggers,
            foreign_keys,
        };
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, false)?;
        Ok(mode)
    }
}

impl Drop for MoveMode<'_> {
    fn drop(&mut self) {
        let set = |config, value| self.connection.set_db_config(config, value);
        // Setting a flag in memory; there is no failure to handle.
        let _ = set(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, self.triggers);
        let _ = set(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, self.foreign_keys);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_and_unquoted() {
        for name in ["t", "with space", "quo\"te", "[x", "`", "ключ"] {
            assert_eq!(unquote(&quote(name)), name);
        }
        assert_eq!(unquote("[a b]"), "a b");
        assert_eq!(unquote("`a``b`"), "a`b");
        assert_eq!(unquote("plain name"), "plain name");
        assert_eq!(unquote("\""), "\"");
    }
}
