//! Small helpers around the SQL that this library runs on the caller's connection.

use std::time::{Duration, Instant};

use rusqlite::{Connection, config::DbConfig};

use super::transaction::{self, Begin};
use crate::error::{Error, Result};
use crate::moving::half_read;
use crate::schema::Table;
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

/// SQL of this library without its comments, which a host may have switched off
/// (`SQLITE_DBCONFIG_ENABLE_COMMENTS`). None of its strings and names has `--` in it.
pub fn without_comments(sql: &str) -> String {
    let mut plain = String::with_capacity(sql.len());
    for line in sql.lines() {
        let code = line.split("--").next().unwrap_or_default().trim_end();
        if !code.is_empty() {
            plain += code;
            plain.push('\n');
        }
    }
    plain
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

/// Runs `body` in a write transaction of its own or, inside the caller's transaction, as a part of
/// it. Either way everything `body` did is undone if it fails.
pub fn write_transaction<T>(
    connection: &Connection,
    mut body: impl FnMut() -> Result<T>,
) -> Result<T> {
    match connection.is_autocommit() {
        true => patiently(|| transaction::own(connection, Begin::Immediate, &mut body)),
        // The caller's transaction has read by now. Who writes meanwhile may be waiting for its end; and
        // once they have written, it can write no more.
        false => transaction::part(connection, body),
    }
}

/// [`write_transaction`] for a `body` that changes TEMP objects only: it takes no lock of `main`.
pub fn temp_transaction<T>(connection: &Connection, body: impl FnOnce() -> Result<T>) -> Result<T> {
    let body = || transaction::renewing(connection, body);
    match connection.is_autocommit() {
        true => transaction::own(connection, Begin::Deferred, body),
        false => transaction::part(connection, body),
    }
}

/// Runs `body` so that all it reads is of one state of `main`. It must be short: it can be in the way
/// of writers.
///
/// What holds the state is a statement that is not finished. Unlike BEGIN and SAVEPOINT that needs
/// nothing to end it, which an interrupt could refuse.
pub fn read_transaction<T>(connection: &Connection, body: impl FnOnce() -> Result<T>) -> Result<T> {
    let mut pin = connection.prepare("SELECT (SELECT 1 FROM main.sqlite_schema)")?;
    let mut rows = pin.query([])?;
    rows.next()?;
    guard(body)
}

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

/// While it lives, a row of a table that moves neither fires a trigger nor cascades to another table.
/// Nothing but the call that made it uses the connection meanwhile.
pub struct MoveMode<'c> {
    connection: &'c Connection,
    triggers: bool,
    foreign_keys: bool,
}

impl<'c> MoveMode<'c> {
    /// For rows that leave `table`, or come back to it. It is refused while a query that has not ended would
    /// show rows that move twice or not at all, and if a TEMP trigger would fire:
    /// since 3.35 the switch leaves those on, and no other one is safe. Dropped and made again by us, a
    /// trigger could be gone after an error that nobody can handle.
    pub fn enter(connection: &'c Connection, table: &Table) -> Result<Self> {
        half_read::refuse(connection, table)?;
        let mode = Self::for_catalog(connection)?;
        if temp_triggers(connection, &table.name)?.is_empty() {
            return Ok(mode);
        }
        let name = table.qualified();
        let changes = [
            format!("DELETE FROM {name}"),
            format!("INSERT INTO {name} DEFAULT VALUES"),
        ];
        for change in changes {
            if runs_trigger(connection, &change)? {
                let names = temp_triggers(connection, &table.name)?.join(", ");
                return Err(Error::refused(format!(
                    "the TEMP trigger {names} would fire for rows of {} that only move, and SQLite \
                     cannot switch it off; drop it for the call, or call on another connection",
                    table.name
                )));
            }
        }
        Ok(mode)
    }

    /// For changes of the catalog's own tables.
    pub fn for_catalog(connection: &'c Connection) -> Result<Self> {
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

/// Whether a statement would run the program of a trigger, as SQLite has compiled it.
fn runs_trigger(connection: &Connection, sql: &str) -> Result<bool> {
    let mut statement = connection.prepare(&format!("EXPLAIN {sql}"))?;
    let opcodes = statement.query_map([], |row| row.get::<_, String>(1))?;
    for opcode in opcodes {
        if opcode? == "Program" {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The TEMP triggers of all tables that have the name: of `main`'s, and of others.
fn temp_triggers(connection: &Connection, table: &str) -> Result<Vec<String>> {
    let sql = "SELECT name FROM temp.sqlite_schema
               WHERE type = 'trigger' AND tbl_name = ?1 COLLATE NOCASE ORDER BY name";
    let mut statement = connection.prepare(sql)?;
    let names = statement.query_map([table], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
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
    fn sql_is_the_same_without_its_comments() {
        let sql = "-- first\nSELECT 1, -- a number\n\n       2 - -3;\n-- last";
        assert_eq!(without_comments(sql), "SELECT 1,\n       2 - -3;\n");
        let schema = without_comments(include_str!("../../sql/schema.sql"));
        assert!(!schema.contains("--") && !schema.contains("/*"));
    }

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
