//! The hot table that rows come back to: its columns and keys, and the SQL for them.

use rusqlite::Connection;

use super::options::OnConflict;
use super::rows::Rows;
use crate::catalog::files;
use crate::catalog::ids;
use crate::catalog::tables::ArchivedTable;
use crate::error::Result;
use crate::schema::{Key, ROWID_COLUMN, Table};
use crate::sql::{literal, quote};
use crate::time::canonical::MAX_LENGTH;
use crate::value::Value;

/// The longest text of a key that a message shows.
const SHOWN: usize = 40;

/// The table that rows come back to, and what SQLite is told of them.
pub struct Target<'a> {
    pub connection: &'a Connection,
    pub table: &'a Table,
    /// The table's columns but the generated ones, which SQLite fills in.
    pub columns: Vec<usize>,
    /// The columns of constraints that can keep a row out: of the primary key first.
    pub unique: Vec<Unique>,
    /// The largest rowid in cold files.
    pub largest_rowid: Option<i64>,
}

/// Columns of which no two rows have the same values.
pub struct Unique {
    /// Each with the collation by which it is compared.
    pub columns: Vec<(usize, String)>,
}

impl<'a> Target<'a> {
    pub fn new(
        connection: &'a Connection,
        table: &'a Table,
        archived: &ArchivedTable,
        on_conflict: OnConflict,
    ) -> Result<Self> {
        let sql = "SELECT name FROM pragma_table_xinfo(?1, 'main') WHERE hidden = 0";
        let mut statement = connection.prepare(sql)?;
        let names = statement.query_map([&table.name], |row| row.get::<_, String>(0))?;
        let mut columns = Vec::new();
        for name in names {
            columns.extend(table.column(&name?));
        }
        let mut unique = unique(connection, table)?;
        if on_conflict == OnConflict::Renumber {
            let id = table.rowid_alias();
            unique.retain(|unique| !matches!(unique.columns[..], [(only, _)] if Some(only) == id));
        }
        Ok(Self {
            connection,
            table,
            columns,
            unique,
            largest_rowid: match table.stores_rowid() {
                true => files::largest(connection, archived.id, ROWID_COLUMN)?,
                false => ids::largest(connection, table, archived)?,
            },
        })
    }

    /// All columns that a conflict can be seen by beforehand, and that name a row in a message.
    pub fn keys(&self) -> Vec<usize> {
        let columns = self.unique.iter().flat_map(|unique| &unique.columns);
        let mut keys: Vec<usize> = columns.map(|(column, _)| *column).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The statement that inserts a row; `raw` says which values are text that comes as its bytes.
    ///
    /// Of bytes, `||` makes text in the database's encoding. CAST of a parameter would take them for
    /// UTF-8.
    ///
    /// The conflict clause overrides those of the table's own constraints, which could drop a row, or
    /// replace another, without an error.
    pub fn insert(&self, replace: bool, raw: &[bool]) -> String {
        let mut names: Vec<String> = self
            .columns
            .iter()
            .filter_map(|column| self.table.columns.get(*column))
            .map(|column| quote(&column.name))
            .collect();
        if self.table.stores_rowid() {
            names.extend(self.table.key_expressions());
        }
        let value = |n: usize| match raw.get(n) {
            Some(true) => format!("?{} || x''", n + 1),
            _ => format!("?{}", n + 1),
        };
        format!(
            "INSERT OR {} INTO {} ({}) VALUES ({})",
            if replace { "REPLACE" } else { "ABORT" },
            self.table.qualified(),
            names.join(", "),
            (0..names.len()).map(value).collect::<Vec<_>>().join(", "),
        )
    }

    /// What a row is called in a message: the values of its primary key, or of a unique index.
    pub fn describe(&self, rows: &Rows, row: usize) -> String {
        let mut scratch = [0; MAX_LENGTH];
        let Some(key) = self.unique.first() else {
            return match rows.rowid(row) {
                Some(rowid) => format!("rowid = {rowid}"),
                None => "no key".to_owned(),
            };
        };
        let mut parts = Vec::new();
        for (column, _) in &key.columns {
            let name = self.table.columns.get(*column).map(|c| c.name.as_str());
            let value = show(rows.value(*column, row, &mut scratch));
            parts.push(format!("{} = {value}", name.unwrap_or_default()));
        }
        parts.join(", ")
    }
}

/// A value in a message.
fn show(value: Value<'_>) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Integer(integer) => integer.to_string(),
        Value::Real(real) => real.to_string(),
        Value::Text(text) if text.chars().count() <= SHOWN => literal(text),
        Value::Text(text) => {
            let start: String = text.chars().take(SHOWN).collect();
            format!("{}...", literal(&start))
        }
        Value::RawText(bytes, _) => format!("malformed text of {} bytes", bytes.len()),
        Value::Blob(bytes) => format!("a blob of {} bytes", bytes.len()),
    }
}

/// The INTEGER PRIMARY KEY, and the indexes, primary keys first, in which each row has its own values.
fn unique(connection: &Connection, table: &Table) -> Result<Vec<Unique>> {
    let mut found = Vec::new();
    if let Key::Rowid {
        alias: Some(alias), ..
    } = table.key
    {
        let columns = vec![(alias, "BINARY".to_owned())];
        found.push(Unique { columns });
    }
    let sql = "SELECT name FROM pragma_index_list(?1, 'main') WHERE \"unique\" AND NOT partial
               ORDER BY origin <> 'pk', seq";
    let mut statement = connection.prepare(sql)?;
    let names = statement.query_map([&table.name], |row| row.get::<_, String>(0))?;
    for name in names {
        let columns = index_columns(connection, table, &name?)?;
        found.extend(columns.map(|columns| Unique { columns }));
    }
    Ok(found)
}

/// The columns of an index and their collations; `None` if it has an expression.
fn index_columns(
    connection: &Connection,
    table: &Table,
    index: &str,
) -> Result<Option<Vec<(usize, String)>>> {
    let sql = "SELECT name, coll FROM pragma_index_xinfo(?1, 'main') WHERE key ORDER BY seqno";
    let mut statement = connection.prepare(sql)?;
    let columns = statement.query_map([index], |row| {
        Ok((row.get::<_, Option<String>>(0)?, row.get(1)?))
    })?;
    let column =
        |(name, collation): (Option<String>, String)| Some((table.column(&name?)?, collation));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    Ok(columns.into_iter().map(column).collect())
}
