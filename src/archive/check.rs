//! Whether a table can be archived, and by which column.

use rusqlite::{Connection, OptionalExtension};

use super::options::Options;
use crate::attach;
use crate::catalog;
use crate::catalog::identity;
use crate::catalog::lookup;
use crate::error::{Error, Result};
use crate::schema::Table;
use crate::sql::{quote, unquote};
use crate::time::TimeFormat;
use crate::value::Value;

/// The columns that tell a row's age, the first that exists, unless the caller names one.
const TIME_COLUMNS: [&str; 6] = [
    "created_at",
    "updated_at",
    "timestamp",
    "ts",
    "time",
    "date",
];

/// How many values, from either end of the table, the time format is found out from.
const SAMPLE: usize = 500;

/// Finds the table that the caller means, or says why it cannot be archived.
pub fn find_table(connection: &Connection, argument: Value<'_>) -> Result<Table> {
    let name = match argument {
        Value::Text(text) => unquote(text),
        _ => return Err(Error::refused("the table's name must be text")),
    };
    match lookup::find(connection, &name)? {
        Some(table) => {
            check_names(connection, &table)?;
            Ok(table)
        }
        None => Err(lookup::missing(connection, &name)?),
    }
}

fn check_names(connection: &Connection, table: &Table) -> Result<()> {
    attach::check_names(connection, &table.name)?;
    let reserved = |name: &str| name.to_ascii_lowercase().starts_with(catalog::PREFIX);
    match table.columns.iter().find(|column| reserved(&column.name)) {
        Some(column) => Err(Error::refused(format!(
            "{} has a column {}; names that begin with {} are for the archive, rename it first",
            table.name,
            column.name,
            catalog::PREFIX
        ))),
        None => Ok(()),
    }
}

/// The position of the column that tells a row's age, and the format of its values.
pub fn time(
    connection: &Connection,
    table: &Table,
    options: &Options,
) -> Result<(usize, TimeFormat)> {
    let column = time_column(table, options)?;
    let format = time_format(connection, table, column, options)?;
    // Without a single time there is nothing to archive, whatever the format.
    Ok((column, format.unwrap_or(TimeFormat::Iso8601)))
}

fn time_column(table: &Table, options: &Options) -> Result<usize> {
    let found = match &options.time_column {
        Some(name) => table.column(name),
        None => TIME_COLUMNS.into_iter().find_map(|name| table.column(name)),
    };
    found.ok_or_else(|| {
        let missing = match &options.time_column {
            Some(name) => format!("no column {name}"),
            None => format!("none of the columns {}", TIME_COLUMNS.join(", ")),
        };
        Error::refused(format!(
            "{} has {missing}; say which column tells a row's age with {{\"time_column\":\"...\"}}, \
             one of: {}",
            table.name,
            table.column_list()
        ))
    })
}

/// The format of the time column: what the caller says, else what the last run used if it was the
/// same column, else what the values show. `None` if there are no values.
fn time_format(
    connection: &Connection,
    table: &Table,
    column: usize,
    options: &Options,
) -> Result<Option<TimeFormat>> {
    if options.time_format.is_some() {
        return Ok(options.time_format);
    }
    let name = &table.columns[column].name;
    if catalog::exists(connection)?
        && let Some(archived) = identity::of_table(connection, &table.name)?
        && archived.has_files
        && archived.time_format.is_some()
        && archived.time_column.eq_ignore_ascii_case(name)
    {
        return Ok(archived.time_format);
    }
    let keys = table.key_expressions();
    let from = table.qualified();
    let end = |order: &str| {
        let order: Vec<String> = keys.iter().map(|key| format!("{key}{order}")).collect();
        format!(
            "SELECT * FROM (SELECT {} FROM {from} ORDER BY {} LIMIT {SAMPLE})",
            quote(name),
            order.join(", ")
        )
    };
    let sql = format!("{} UNION ALL {}", end(""), end(" DESC"));
    let mut statement = connection.prepare(&sql)?;
    // Text that is not UTF-8 is no time in any format.
    let sample = statement.query_map([], |row| {
        Ok(row
            .get(0)
            .unwrap_or(rusqlite::types::Value::Blob(Vec::new())))
    })?;
    TimeFormat::detect(&sample.collect::<Result<Vec<_>, _>>()?, name)
}

/// A foreign key that points at the table being archived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The table whose rows refer to it.
    pub child: String,
    /// Pairs of a column of the child and the column that it refers to.
    columns: Vec<(String, String)>,
}

impl Reference {
    /// `c."child_column" = p."parent_column" AND ...`
    pub fn join(&self) -> String {
        let pair = |(child, parent): &(String, String)| {
            format!("c.{} = p.{}", quote(child), quote(parent))
        };
        self.columns
            .iter()
            .map(pair)
            .collect::<Vec<_>>()
            .join(" AND ")
    }

    /// The error for rows that are still referred to.
    pub fn refusal(&self, parent: &str) -> Error {
        let columns: Vec<&str> = self
            .columns
            .iter()
            .map(|(child, _)| child.as_str())
            .collect();
        Error::refused(format!(
            "rows of {parent} that would be archived are referred to by {} ({}); archive {} first, \
             or pass {{\"ignore_foreign_keys\":true}}",
            self.child,
            columns.join(", "),
            self.child
        ))
    }
}

/// The foreign keys that point at `table`, its own included.
pub fn references(connection: &Connection, table: &Table) -> Result<Vec<Reference>> {
    let mut statement = connection.prepare(
        "SELECT m.name, f.id, f.\"from\", f.\"to\", f.seq
         FROM main.sqlite_schema m, pragma_foreign_key_list(m.name, 'main') f
         WHERE m.type = 'table' AND f.\"table\" = ?1 COLLATE NOCASE
         ORDER BY m.name, f.id, f.seq",
    )?;
    let mut rows = statement.query([&table.name])?;
    let mut references: Vec<(i64, Reference)> = Vec::new();
    while let Some(row) = rows.next()? {
        let (child, id): (String, i64) = (row.get(0)?, row.get(1)?);
        let parent = match row.get::<_, Option<String>>(3)? {
            Some(parent) => parent,
            None => primary_key_column(connection, table, row.get(4)?)?,
        };
        let pair = (row.get(2)?, parent);
        match references.last_mut() {
            Some((last, reference)) if *last == id && reference.child == child => {
                reference.columns.push(pair);
            }
            _ => references.push((
                id,
                Reference {
                    child,
                    columns: vec![pair],
                },
            )),
        }
    }
    Ok(references
        .into_iter()
        .map(|(_, reference)| reference)
        .collect())
}

/// A foreign key that names no columns refers to the primary key.
fn primary_key_column(connection: &Connection, table: &Table, position: usize) -> Result<String> {
    let sql = "SELECT name FROM pragma_table_info(?1, 'main') WHERE pk = ?2";
    let name = connection.query_row(sql, (&table.name, position + 1), |row| row.get(0));
    Ok(name.optional()?.unwrap_or_else(|| "rowid".to_owned()))
}
