//! The ids in cold files, as far as the catalog knows them.

use rusqlite::Connection;

use super::tables::{self, ArchivedTable};
use super::{columns, files};
use crate::error::Result;
use crate::schema::Table;

/// The name of the INTEGER PRIMARY KEY, if the table has one.
pub fn key(table: &Table) -> Option<&str> {
    let column = table.columns.get(table.rowid_alias()?)?;
    Some(column.name.as_str())
}

/// The first and the last id of each cold file, as far as they are known, in ascending order. Where
/// such spans overlap, they are one.
pub fn spans(
    connection: &Connection,
    table: &Table,
    archived: &ArchivedTable,
) -> Result<Vec<(i64, i64)>> {
    let known = columns::follow(&table.name, &archived.columns, &table.columns)?;
    let id = table.rowid_alias().and_then(|alias| *known.get(alias)?);
    let Some(id) = id else {
        return Ok(Vec::new());
    };
    let mut spans = Vec::new();
    for (schema, columns) in tables::schemas(connection, archived.id)? {
        // It may have had another name then.
        let Some(column) = columns.iter().find(|column| column.id == id) else {
            continue;
        };
        for (_, range) in files::ranges(connection, schema, &column.name)? {
            if let Some(span) = range.integers() {
                spans.push(span);
            }
        }
    }
    spans.sort_unstable();
    let mut joined: Vec<(i64, i64)> = Vec::new();
    for (first, last) in spans {
        match joined.last_mut() {
            Some((_, end)) if first <= *end => *end = last.max(*end),
            _ => joined.push((first, last)),
        }
    }
    Ok(joined)
}

/// The largest id in cold files, whether or not the row counts.
pub fn largest(
    connection: &Connection,
    table: &Table,
    archived: &ArchivedTable,
) -> Result<Option<i64>> {
    let spans = spans(connection, table, archived)?;
    Ok(spans.last().map(|(_, last)| *last))
}
