//! Columns that have another type by now than files were written with.
//!
//! A table is given another type for a column by making it anew and inserting its rows, which converts
//! values as the affinity of the new type says. Cold rows stay in their files as they were, so they are
//! converted when they are read. What becomes of a value SQLite says, by a row of a database in memory.

use std::sync::{Mutex, PoisonError};

use once_cell::sync::OnceCell;
use rusqlite::types::Value as Owned;
use rusqlite::{Connection, OpenFlags};

use crate::error::Result;
use crate::format::range::Kinds;
use crate::schema::{Affinity, Column};
use crate::value::Value;

/// What a column does to values that are stored in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storing {
    /// Nothing.
    Plain,
    /// Numbers become text.
    Text,
    /// Text that is a number becomes one, and a whole REAL an INTEGER.
    Numeric,
    /// Text that is a number becomes one, and an INTEGER a REAL.
    Real,
}

impl Storing {
    fn of(column: &Column) -> Self {
        match column.affinity() {
            Affinity::Blob => Self::Plain,
            Affinity::Text => Self::Text,
            Affinity::Numeric if column.stores_reals() => Self::Real,
            Affinity::Numeric => Self::Numeric,
        }
    }

    /// What makes values of the column `then` those of `now`; `None` if they stay what they are.
    pub fn between(then: &Column, now: &Column) -> Option<Self> {
        let (then, now) = (Self::of(then), Self::of(now));
        (then != now && now != Self::Plain).then_some(now)
    }

    /// Whether a value of one of `kinds` may become another.
    pub fn changes(self, kinds: Kinds) -> bool {
        let changed = match self {
            Self::Plain => Kinds::empty(),
            Self::Text => Kinds::NUMBER,
            Self::Numeric => Kinds::NUMERIC_TEXT | Kinds::REAL,
            Self::Real => Kinds::NUMERIC_TEXT | Kinds::INTEGER,
        };
        kinds.intersects(changed)
    }

    /// The column of the table in memory that stores so.
    fn column(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Text => "text",
            Self::Numeric => "number",
            Self::Real => "real",
        }
    }
}

/// Asks SQLite what values become.
#[derive(Default)]
pub struct Converter(OnceCell<Mutex<Connection>>);

impl Converter {
    /// What `value` is once it is stored.
    pub fn convert(&self, storing: Storing, value: Value<'_>) -> Result<Option<Owned>> {
        // Text that is not well-formed is no number, and nothing but a number or text is ever changed.
        if matches!(value, Value::Null | Value::Blob(_) | Value::RawText(..)) {
            return Ok(None);
        }
        let connection = self.0.get_or_try_init(open)?;
        let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
        let column = storing.column();
        connection
            .prepare_cached(&format!("UPDATE stored SET {column} = ?1"))?
            .execute([value])?;
        let sql = format!("SELECT {column} FROM stored");
        let mut select = connection.prepare_cached(&sql)?;
        Ok(Some(select.query_row([], |row| row.get(0))?))
    }
}

/// A table with one row and a column for each way of storing.
fn open() -> Result<Mutex<Connection>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(":memory:", flags)?;
    connection.execute_batch(
        "CREATE TABLE stored (plain BLOB, text TEXT, number NUMERIC, real REAL);
         INSERT INTO stored DEFAULT VALUES;",
    )?;
    Ok(Mutex::new(connection))
}
