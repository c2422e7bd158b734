//! Archived tables.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row};

use crate::error::Result;
use crate::table::{Column, columns_from_json};
use crate::time::TimeFormat;

/// A table that has been archived at least once.
#[derive(Debug, Clone)]
pub struct ArchivedTable {
    pub id: i64,
    pub name: String,
    /// Its folder below the archive folder.
    pub folder: String,
    pub time_column: String,
    pub time_format: Option<TimeFormat>,
}

const SELECT: &str = "SELECT id, name, folder, time_column, time_format FROM main._archive_table";

fn from_row(row: &Row<'_>) -> rusqlite::Result<ArchivedTable> {
    Ok(ArchivedTable {
        id: row.get(0)?,
        name: row.get(1)?,
        folder: row.get(2)?,
        time_column: row.get(3)?,
        time_format: TimeFormat::from_name(row.get_ref(4)?.as_str()?),
    })
}

/// All archived tables by name. There must be a catalog.
pub fn all(connection: &Connection) -> Result<Vec<ArchivedTable>> {
    let mut statement = connection.prepare(&format!("{SELECT} ORDER BY name"))?;
    let tables = statement.query_map([], from_row)?;
    Ok(tables.collect::<Result<_, _>>()?)
}

/// The archived table `name`, in any case. There must be a catalog.
pub fn find(connection: &Connection, name: &str) -> Result<Option<ArchivedTable>> {
    let sql = format!("{SELECT} WHERE name = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(statement.query_row([name], from_row).optional()?)
}

/// Registers a table, or notes the time column and format of its newest run.
pub fn save(
    connection: &Connection,
    name: &str,
    folder: &str,
    time_column: &str,
    time_format: TimeFormat,
) -> Result<i64> {
    connection.execute(
        "INSERT INTO main._archive_table (name, folder, time_column, time_format, columns, place, anchor)
         VALUES (?1, ?2, ?3, ?4, '[]', NULL, 0)
         ON CONFLICT (name) DO UPDATE SET time_column = ?3, time_format = ?4",
        (name, folder, time_column, time_format.name()),
    )?;
    let sql = "SELECT id FROM main._archive_table WHERE name = ?1";
    Ok(connection.query_row(sql, [name], |row| row.get(0))?)
}

/// The id of a list of columns, as JSON; it is added if it is new.
pub fn save_schema(connection: &Connection, table: i64, columns: &str) -> Result<i64> {
    connection.execute(
        "INSERT OR IGNORE INTO main._archive_schema (table_id, columns, sql) VALUES (?1, ?2, '')",
        (table, columns),
    )?;
    let sql = "SELECT id FROM main._archive_schema WHERE table_id = ?1 AND columns = ?2";
    Ok(connection.query_row(sql, (table, columns), |row| row.get(0))?)
}

/// All lists of columns that files of a table were written with, by their ids; the newest last.
pub fn schemas(connection: &Connection, table: i64) -> Result<BTreeMap<i64, Vec<Column>>> {
    let sql = "SELECT id, columns FROM main._archive_schema WHERE table_id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([table])?;
    let mut schemas = BTreeMap::new();
    while let Some(row) = rows.next()? {
        schemas.insert(
            row.get(0)?,
            columns_from_json(row.get_ref(1)?.as_str().unwrap_or_default())?,
        );
    }
    Ok(schemas)
}
