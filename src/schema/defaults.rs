//! What a row shows in a column that was added after the row was written: SQLite says it, of a row in a
//! database in memory.
//!
//! The declaration may be a stranger's, so none of its expressions runs: ADD COLUMN takes only a constant
//! where a table has rows. For any other DEFAULT a row that lacks the column reads as NULL, as SQLite
//! itself reads one. The database in memory has none of the application's functions in any case.

use std::num::NonZeroUsize;

use lru::LruCache;
use rusqlite::types::Value as Owned;
use rusqlite::{Connection, OpenFlags, ffi};

use super::column::Column;
use crate::error::{Error, Result};
use crate::sql::quote;
use crate::sqlite::fork::PerProcess;
use crate::value::Encoding;

/// The text of a DEFAULT, the type of its column, the database's encoding, and the version of SQLite: not
/// all of them agree on `0.00`.
type Declared = (String, String, &'static str, i32);

/// How many defaults are remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);

/// What SQLite has said before. It depends on nothing else.
struct Known(LruCache<Declared, Owned>);

impl Default for Known {
    fn default() -> Self {
        Self(LruCache::new(REMEMBERED))
    }
}

static KNOWN: PerProcess<Known> = PerProcess::empty();

/// What rows show in `column` that were written before it was added.
pub fn of_older_rows(column: &Column, encoding: Encoding) -> Result<Owned> {
    let Some(default) = &column.default else {
        return Ok(Owned::Null);
    };
    let declared = (
        default.clone(),
        column.declared_type.clone(),
        encoding.name(),
        rusqlite::version_number(),
    );
    if let Some(value) = KNOWN.lock().0.get(&declared) {
        return Ok(value.clone());
    }
    let value = ask(default, &column.declared_type, encoding).map_err(|error| {
        Error::refused(format!("the DEFAULT of column {}: {error}", column.name))
    })?;
    KNOWN.lock().0.put(declared, value.clone());
    Ok(value)
}

/// Adds such a column to a table with a row, and reads it.
fn ask(default: &str, declared_type: &str, encoding: Encoding) -> Result<Owned> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(":memory:", flags)?;
    connection.execute_batch(&format!(
        "PRAGMA encoding = '{}'; CREATE TABLE t (present); INSERT INTO t VALUES (0);",
        encoding.name()
    ))?;
    // A type without quotes could be more than a type.
    let declared_type = match declared_type {
        "" => String::new(),
        name => quote(name),
    };
    let column = |default: String| format!("added {declared_type} DEFAULT {default}");
    // SQLite shows a DEFAULT without the parentheses that were around it. With them a word, which is
    // text there, is the name of a column, and no constant; anything else means the same.
    let mut declaration = column(format!("({default}\n)"));
    if !is_declared(&connection, &declaration, default)? {
        declaration = column(default.to_owned());
        if !is_declared(&connection, &declaration, default)? {
            return Err(Error::refused("SQLite does not take it for one"));
        }
    }
    match connection.execute(&format!("ALTER TABLE t ADD COLUMN {declaration}"), []) {
        Ok(_) => Ok(connection.query_row("SELECT added FROM t", [], |row| row.get(0))?),
        // It is an expression.
        Err(error) if is_refusal(&error) => Ok(Owned::Null),
        Err(error) => Err(error.into()),
    }
}

/// Whether `declaration` declares a column with this DEFAULT and nothing else. A catalog can say
/// anything; to declare a table evaluates nothing.
fn is_declared(connection: &Connection, declaration: &str, default: &str) -> Result<bool> {
    match connection.execute(&format!("CREATE TABLE declared ({declaration})"), []) {
        Ok(_) => {}
        Err(error) if is_refusal(&error) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    let sql = "SELECT count(*) = 1 AND max(dflt_value) = ?1 FROM pragma_table_xinfo('declared')";
    let whole: Option<bool> = connection.query_row(sql, [default], |row| row.get(0))?;
    connection.execute_batch("DROP TABLE declared")?;
    Ok(whole == Some(true))
}

/// Whether SQLite finds fault with a statement, rather than with the state that it is in.
fn is_refusal(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(code, _) => code.extended_code == ffi::SQLITE_ERROR,
        rusqlite::Error::MultipleStatement | rusqlite::Error::NulError(_) => true,
        _ => false,
    }
}
