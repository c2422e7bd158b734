//! Archived tables.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row, params};

use crate::error::Result;
use crate::schema::{Column, Key, columns_from_json, columns_to_json};
use crate::time::TimeFormat;

/// A table that has been archived, or has a policy.
#[derive(Debug, Clone, PartialEq)]
pub struct ArchivedTable {
    pub id: i64,
    /// When it was last looked at.
    pub name: String,
    /// Its folder below the archive folder.
    pub folder: String,
    pub time_column: String,
    pub time_format: Option<TimeFormat>,
    /// When it was last looked at, with their numbers.
    pub columns: Vec<Column>,
    /// What identified its rows then; `None` if it was never looked at.
    pub key: Option<Key>,
    /// The CREATE TABLE statement that the columns and the key are from.
    pub sql: String,
    /// How its CREATE TABLE statement began when it was last looked at, up to the columns.
    pub head: String,
    /// Its place when it was last looked at; `None` if no table of the database is this one.
    pub place: Option<Place>,
    /// The anchor's then.
    pub anchor: Place,
    /// Whether any cold file is in the catalog.
    pub has_files: bool,
}

/// Where a table is in `sqlite_schema`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    pub rowid: i64,
    /// How many tables come before it, SQLite's own not counted.
    pub rank: i64,
}

const SELECT: &str = "SELECT id, name, folder, time_column, time_format, columns, place, rank,
                             anchor, anchor_rank, head, key, sql,
                             EXISTS (SELECT 1 FROM main._archive_file f WHERE f.table_id = t.id)
                      FROM main._archive_table t";

fn from_row(row: &Row<'_>) -> Result<ArchivedTable> {
    Ok(ArchivedTable {
        id: row.get(0)?,
        name: row.get(1)?,
        folder: row.get(2)?,
        time_column: row.get(3)?,
        time_format: TimeFormat::from_name(row.get_ref(4)?.as_str().unwrap_or_default()),
        columns: columns_from_json(row.get_ref(5)?.as_str().unwrap_or_default())?,
        place: match (row.get(6)?, row.get(7)?) {
            (Some(rowid), Some(rank)) => Some(Place { rowid, rank }),
            _ => None,
        },
        anchor: Place {
            rowid: row.get(8)?,
            rank: row.get(9)?,
        },
        head: row.get(10)?,
        key: serde_json::from_str(row.get_ref(11)?.as_str().unwrap_or_default())
            .ok()
            .as_ref()
            .and_then(Key::from_json),
        sql: row.get(12)?,
        has_files: row.get(13)?,
    })
}

/// All archived tables by name. There must be a catalog.
pub fn all(connection: &Connection) -> Result<Vec<ArchivedTable>> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} ORDER BY name"))?;
    let mut rows = statement.query([])?;
    let mut tables = Vec::new();
    while let Some(row) = rows.next()? {
        tables.push(from_row(row)?);
    }
    Ok(tables)
}

/// The archived table with this id. There must be a catalog.
pub fn get(connection: &Connection, id: i64) -> Result<Option<ArchivedTable>> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?;
    let mut rows = statement.query([id])?;
    rows.next()?.map(from_row).transpose()
}

/// The archived table that the catalog knows as `name`, in any case. There must be a catalog.
pub fn find(connection: &Connection, name: &str) -> Result<Option<ArchivedTable>> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE name = ?1"))?;
    let mut rows = statement.query([name])?;
    rows.next()?.map(from_row).transpose()
}

/// The archived tables that the table of this place and name can be. There must be a catalog.
pub fn candidates(connection: &Connection, place: Place, name: &str) -> Result<Vec<ArchivedTable>> {
    let sql = format!("{SELECT} WHERE place = ?1 OR rank = ?2 OR name = ?3");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query((place.rowid, place.rank, name))?;
    let mut tables = Vec::new();
    while let Some(row) = rows.next()? {
        tables.push(from_row(row)?);
    }
    Ok(tables)
}

/// Forgets a table that nothing of the catalog refers to. Says whether it did.
pub fn forget_unused(connection: &Connection, table: &ArchivedTable) -> Result<bool> {
    let sql = "DELETE FROM main._archive_table WHERE id = ?1
                   AND NOT EXISTS (SELECT 1 FROM main._archive_file WHERE table_id = ?1)
                   AND NOT EXISTS (SELECT 1 FROM main._archive_schema WHERE table_id = ?1)
                   AND NOT EXISTS (SELECT 1 FROM main._archive_run WHERE table_id = ?1)
                   AND NOT EXISTS (SELECT 1 FROM main._archive_policy WHERE table_name = ?2)";
    Ok(connection.execute(sql, (table.id, &table.name))? > 0)
}

/// Registers a table under its present name, and returns its id. Where it is in the database is for
/// `identity` to say.
pub fn insert(
    connection: &Connection,
    name: &str,
    folder: &str,
    columns: &[Column],
) -> Result<i64> {
    connection.execute(
        "INSERT INTO main._archive_table
             (name, folder, time_column, time_format, columns, key, sql, head, anchor, anchor_rank)
         VALUES (?1, ?2, '', '', ?3, '', '', '', 0, 0)",
        (
            name,
            free_folder(connection, folder)?,
            columns_to_json(columns),
        ),
    )?;
    Ok(connection.last_insert_rowid())
}

/// `folder`, or that with a number: tables that had the name one after the other have their own.
fn free_folder(connection: &Connection, folder: &str) -> Result<String> {
    let sql = "SELECT EXISTS (SELECT 1 FROM main._archive_table WHERE folder = ?1)";
    let mut statement = connection.prepare(sql)?;
    let mut free = folder.to_owned();
    for number in 2.. {
        if !statement.query_row([&free], |row| row.get(0))? {
            break;
        }
        free = format!("{folder}~{number}");
    }
    Ok(free)
}

/// Notes what a look at the table has shown.
pub fn update(connection: &Connection, table: &ArchivedTable) -> Result<()> {
    connection.execute(
        "UPDATE main._archive_table SET name = ?2, time_column = ?3, time_format = ?4, columns = ?5,
             place = ?6, rank = ?7, anchor = ?8, anchor_rank = ?9, head = ?10, key = ?11, sql = ?12
         WHERE id = ?1",
        params![
            table.id,
            table.name,
            table.time_column,
            table.time_format.map_or("", TimeFormat::name),
            columns_to_json(&table.columns),
            table.place.map(|place| place.rowid),
            table.place.map(|place| place.rank),
            table.anchor.rowid,
            table.anchor.rank,
            table.head,
            table.key.as_ref().map(|key| key.to_json().to_string()).unwrap_or_default(),
            table.sql,
        ],
    )?;
    Ok(())
}

/// The id of a list of columns; it is added if it is new. `sql` made the table.
pub fn save_schema(
    connection: &Connection,
    table: i64,
    columns: &[Column],
    sql: &str,
) -> Result<i64> {
    let columns = columns_to_json(columns);
    connection.execute(
        "INSERT OR IGNORE INTO main._archive_schema (table_id, columns, sql) VALUES (?1, ?2, ?3)",
        (table, &columns, sql),
    )?;
    let sql = "SELECT id FROM main._archive_schema WHERE table_id = ?1 AND columns = ?2";
    Ok(connection.query_row(sql, (table, columns), |row| row.get(0))?)
}

/// A list of columns that files were written with.
pub fn schema(connection: &Connection, id: i64) -> Result<Vec<Column>> {
    let sql = "SELECT columns FROM main._archive_schema WHERE id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let columns: String = statement.query_row([id], |row| row.get(0))?;
    columns_from_json(&columns)
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
