//! Cold rows that have a key in common, which cannot all come back: an application may have used the key
//! of an archived row again.

use rusqlite::{Connection, Statement};

use super::rows::Rows;
use super::target::Target;
use crate::error::Result;
use crate::sql::quote;
use crate::time::canonical::MAX_LENGTH;
use crate::value::{Encoding, Value};

/// The keys of the rows that come back, as far as they were looked at: in a TEMP table that is as unique
/// as the hot one, so that memory does not grow with it.
pub struct Twins<'a> {
    connection: &'a Connection,
    table: String,
    keys: Vec<usize>,
    add: Statement<'a>,
    replace: Statement<'a>,
}

impl<'a> Twins<'a> {
    /// None yet; `None` for a table without keys, whose rows have nothing to share.
    pub fn new(target: &Target<'a>) -> Result<Option<Self>> {
        let keys = target.keys();
        if keys.is_empty() {
            return Ok(None);
        }
        let connection = target.connection;
        let (table, create) = definition(target, &keys);
        connection.execute_batch(&format!("{create}; DELETE FROM {table};"))?;
        let marks = vec!["?"; keys.len()].join(", ");
        let insert = |or: &str| {
            let sql = format!("INSERT OR {or} INTO {table} VALUES ({marks})");
            connection.prepare(&sql)
        };
        let (add, replace) = (insert("IGNORE")?, insert("REPLACE")?);
        Ok(Some(Self {
            connection,
            table,
            keys,
            add,
            replace,
        }))
    }

    /// Whether a row that was added before has a key of this one. If not, or if it is to take that one's
    /// place, this one is added.
    pub fn meets(&mut self, rows: &Rows, row: usize, replace: bool) -> Result<bool> {
        let meets = bind(&mut self.add, &self.keys, rows, row)? && self.add.raw_execute()? == 0;
        if meets && replace && bind(&mut self.replace, &self.keys, rows, row)? {
            self.replace.raw_execute()?;
        }
        Ok(meets)
    }

    /// Forgets the rows.
    pub fn clear(self) -> Result<()> {
        let sql = format!("DELETE FROM {}", self.table);
        self.connection.execute(&sql, [])?;
        Ok(())
    }
}

/// The name of the TEMP table, and what makes it. It is emptied, never dropped: DROP TABLE fails while the
/// caller's own statement reads a table. So each definition has a table of its own.
fn definition(target: &Target<'_>, keys: &[usize]) -> (String, String) {
    let column = |column: &usize| target.table.columns.get(*column);
    let mut parts: Vec<String> = keys
        .iter()
        .filter_map(|key| Some(column(key)?.declaration()))
        .collect();
    for unique in &target.unique {
        let terms: Vec<String> = unique
            .columns
            .iter()
            .filter_map(|(key, collation)| Some((column(key)?, collation)))
            .map(|(key, collation)| format!("{} COLLATE {}", quote(&key.name), quote(collation)))
            .collect();
        parts.push(format!("UNIQUE ({})", terms.join(", ")));
    }
    let definition = parts.join(", ");
    let hash = xxhash_rust::xxh3::xxh3_64(definition.as_bytes());
    let table = format!("temp._archive_restore_{hash:016x}");
    let create = format!("CREATE TABLE IF NOT EXISTS {table} ({definition})");
    (table, create)
}

/// Binds the keys of a row; `false` if SQLite has no way to take one, which is malformed UTF-16: INSERT will
/// tell.
fn bind(statement: &mut Statement<'_>, keys: &[usize], rows: &Rows, row: usize) -> Result<bool> {
    let mut scratch = [0; MAX_LENGTH];
    for (n, column) in keys.iter().enumerate() {
        match rows.value(*column, row, &mut scratch) {
            Value::RawText(_, Encoding::Utf16le | Encoding::Utf16be) => return Ok(false),
            value => statement.raw_bind_parameter(n + 1, value)?,
        }
    }
    Ok(true)
}
