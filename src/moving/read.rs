//! Hot rows into memory, exactly as they are.

use rusqlite::types::ValueRef;

use crate::error::Result;
use crate::schema::{ROWID_COLUMN, Table};
use crate::sql::quote;
use crate::value::{Encoding, Value};

/// How to read a table's rows: the SQL for each stored column, and the way back to a [`Value`].
#[derive(Debug, Clone)]
pub struct HotReader {
    encoding: Encoding,
    expressions: Vec<String>,
    names: Vec<String>,
}

impl HotReader {
    /// A reader for all columns of `table`, and its rowid if no column has it. In the SQL the table
    /// goes by the name `t`.
    pub fn new(table: &Table, encoding: Encoding) -> Self {
        let mut names: Vec<String> = table.columns.iter().map(|c| c.name.clone()).collect();
        let mut expressions: Vec<String> =
            names.iter().map(|n| format!("t.{}", quote(n))).collect();
        if table.stores_rowid() {
            names.push(ROWID_COLUMN.to_owned());
            expressions.extend(table.key_expressions().iter().map(|key| format!("t.{key}")));
        }
        Self {
            encoding,
            expressions,
            names,
        }
    }

    /// A reader for some columns of a table or view, by their names.
    pub fn of_columns<'a>(names: impl Iterator<Item = &'a str>, encoding: Encoding) -> Self {
        let names: Vec<String> = names.map(str::to_owned).collect();
        Self {
            encoding,
            expressions: names.iter().map(|n| format!("t.{}", quote(n))).collect(),
            names,
        }
    }

    /// The names of the stored columns.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The number of stored columns.
    pub fn columns(&self) -> usize {
        self.names.len()
    }

    /// What to SELECT.
    ///
    /// SQLite hands out the text of a UTF-16 database as UTF-8, which loses what is not well-formed;
    /// there a column is read as two, whether it is text and its bytes as they are stored.
    pub fn select_list(&self) -> String {
        let expression = |column: &String| match self.encoding {
            Encoding::Utf8 => column.clone(),
            _ => format!(
                "typeof({column}) = 'text', \
                 CASE typeof({column}) WHEN 'text' THEN CAST({column} AS BLOB) ELSE {column} END"
            ),
        };
        let list: Vec<String> = self.expressions.iter().map(expression).collect();
        list.join(", ")
    }

    /// Calls `with` with the value of a stored column of a row that [`Self::select_list`] begins; `get`
    /// gives out the row's values.
    pub fn read<'r, T>(
        &self,
        get: impl Fn(usize) -> rusqlite::Result<ValueRef<'r>>,
        column: usize,
        with: impl FnOnce(Value<'_>) -> T,
    ) -> Result<T> {
        if self.encoding == Encoding::Utf8 {
            return Ok(with(plain(get(column)?)));
        }
        let value = get(2 * column + 1)?;
        match (get(2 * column)?, value) {
            (ValueRef::Integer(1), ValueRef::Blob(bytes)) => {
                Ok(match self.encoding.decode(bytes) {
                    Some(text) => with(Value::Text(&text)),
                    None => with(Value::RawText(bytes, self.encoding)),
                })
            }
            _ => Ok(with(plain(value))),
        }
    }

    /// The number of result columns that [`Self::select_list`] takes.
    pub fn width(&self) -> usize {
        match self.encoding {
            Encoding::Utf8 => self.columns(),
            _ => 2 * self.columns(),
        }
    }
}

/// A result of SQLite as a [`Value`]; text is expected to be UTF-8.
pub fn plain(value: ValueRef<'_>) -> Value<'_> {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        ValueRef::Real(real) => Value::Real(real),
        ValueRef::Text(text) => Value::from_utf8(text),
        ValueRef::Blob(blob) => Value::Blob(blob),
    }
}
