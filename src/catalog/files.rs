//! Cold files in the catalog.

use std::collections::HashMap;

use rusqlite::types::FromSql;
use rusqlite::{Connection, Row, Statement};

use crate::cold::range::{Kinds, Range};
use crate::error::{Error, Result};

/// A cold file that is in the catalog.
#[derive(Debug, Clone)]
pub struct FileEntry {
    pub id: i64,
    /// Of the columns it was written with.
    pub schema: i64,
    /// Relative to the archive folder.
    pub path: String,
    pub rows: usize,
    /// How many rows, from the first, are cold.
    pub published: usize,
    pub bytes: u64,
    pub checksum: Vec<u8>,
}

/// A cold file about to be published.
#[derive(Debug, Clone)]
pub struct NewEntry {
    pub table: i64,
    pub schema: i64,
    pub run: i64,
    pub path: String,
    pub rows: usize,
    pub bytes: u64,
    pub checksum: [u8; 16],
    pub time_min: String,
    pub time_max: String,
    /// For each stored column.
    pub ranges: Vec<(String, Range)>,
}

const SELECT: &str =
    "SELECT id, path, rows, published, bytes, checksum, schema_id FROM main._archive_file";

fn from_row(row: &Row<'_>) -> rusqlite::Result<FileEntry> {
    // The CHECKs of the table can be switched off.
    let (id, rows, published): (i64, usize, usize) = (row.get(0)?, row.get(2)?, row.get(3)?);
    if published > rows || !(0..1 << 31).contains(&id) {
        return Err(rusqlite::Error::IntegralValueOutOfRange(3, row.get(3)?));
    }
    Ok(FileEntry {
        id: row.get(0)?,
        path: row.get(1)?,
        rows: row.get(2)?,
        published: row.get(3)?,
        bytes: row.get(4)?,
        checksum: row.get(5)?,
        schema: row.get(6)?,
    })
}

fn select(connection: &Connection, condition: &str, table: i64) -> Result<Vec<FileEntry>> {
    let sql = format!("{SELECT} WHERE table_id = ?1 AND {condition}");
    let mut statement = connection.prepare(&sql)?;
    let files = statement.query_map([table], from_row)?;
    Ok(files.collect::<Result<_, _>>()?)
}

/// The files of a table that have cold rows, oldest first.
pub fn readable(connection: &Connection, table: i64) -> Result<Vec<FileEntry>> {
    select(connection, "published > 0 ORDER BY time_min, id", table)
}

/// The files of a table, oldest first, whether all their rows are cold or not.
pub fn all(connection: &Connection, table: i64) -> Result<Vec<FileEntry>> {
    select(connection, "true ORDER BY time_min, id", table)
}

/// The files that an earlier run could not publish to their end.
pub fn unfinished(connection: &Connection, table: i64) -> Result<Vec<FileEntry>> {
    select(connection, "published < rows ORDER BY id", table)
}

/// The number of readable files of a table and of the cold rows in them.
pub fn totals(connection: &Connection, table: i64) -> Result<(i64, i64)> {
    let sql = "SELECT count(*), coalesce(sum(published), 0) FROM main._archive_file
               WHERE table_id = ?1 AND published > 0";
    Ok(connection.query_row(sql, [table], |row| Ok((row.get(0)?, row.get(1)?)))?)
}

/// What is known of a column in each file of a table with these columns, by file id.
pub fn ranges(
    connection: &Connection,
    table: i64,
    schema: i64,
    column: &str,
) -> Result<HashMap<i64, Range>> {
    let mut statement = connection.prepare(
        "SELECT r.file_id, r.kinds, r.min, r.max
         FROM main._archive_file f JOIN main._archive_range r ON r.file_id = f.id
         WHERE f.table_id = ?1 AND f.schema_id = ?2 AND r.\"column\" = ?3",
    )?;
    let rows = statement.query_map((table, schema, column), range_from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// What is known of each column of a file, by its name.
pub fn ranges_of(connection: &Connection, file: i64) -> Result<HashMap<String, Range>> {
    let sql = "SELECT \"column\", kinds, min, max FROM main._archive_range WHERE file_id = ?1";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([file], range_from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// A range, and what it is the range of.
fn range_from_row<K: FromSql>(row: &Row<'_>) -> rusqlite::Result<(K, Range)> {
    Ok((
        row.get(0)?,
        Range {
            kinds: Kinds::from_bits_truncate(row.get(1)?),
            min: row.get(2)?,
            max: row.get(3)?,
        },
    ))
}

/// The rows of each file of a table that do not count, in ascending order, by file id.
pub fn tombstones(connection: &Connection, table: i64) -> Result<HashMap<i64, Vec<usize>>> {
    let mut statement = connection.prepare(
        "SELECT t.file_id, t.row
         FROM main._archive_file f JOIN main._archive_tombstone t ON t.file_id = f.id
         WHERE f.table_id = ?1 ORDER BY t.file_id, t.row",
    )?;
    let mut rows = statement.query([table])?;
    let mut tombstones: HashMap<i64, Vec<usize>> = HashMap::new();
    while let Some(row) = rows.next()? {
        tombstones.entry(row.get(0)?).or_default().push(row.get(1)?);
    }
    Ok(tombstones)
}

/// Adds a file of which no row is cold yet. To be called in the transaction that publishes its
/// first rows.
pub fn insert(connection: &Connection, entry: &NewEntry) -> Result<i64> {
    connection.execute(
        "INSERT INTO main._archive_file (table_id, schema_id, run_id, path, rows, published, bytes,
             checksum, time_min, time_max)
         VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?7, ?8, ?9)",
        (
            entry.table,
            entry.schema,
            entry.run,
            &entry.path,
            entry.rows,
            entry.bytes,
            entry.checksum,
            &entry.time_min,
            &entry.time_max,
        ),
    )?;
    let file = connection.last_insert_rowid();
    let mut statement = connection.prepare(
        "INSERT INTO main._archive_range (file_id, \"column\", kinds, min, max)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for (column, range) in &entry.ranges {
        statement.execute((file, column, range.kinds.bits(), &range.min, &range.max))?;
    }
    Ok(file)
}

/// Raises the number of cold rows of a file from `before` to `after`, or fails if it is not `before`:
/// then another run has been at work, which the lock ought to have kept out.
pub fn set_published(
    connection: &Connection,
    file: i64,
    before: usize,
    after: usize,
) -> Result<()> {
    let sql = "UPDATE main._archive_file SET published = ?3 WHERE id = ?1 AND published = ?2";
    let changed = connection.execute(sql, (file, before, after))?;
    // An authorizer of the application may have ignored the change without an error.
    let sql = "SELECT published FROM main._archive_file WHERE id = ?1";
    let found: usize = connection.query_row(sql, [file], |row| row.get(0))?;
    match changed == 1 && found == after {
        true => Ok(()),
        false => Err(Error::refused(
            "another archive run, or an authorizer, is in the way; nothing more was moved",
        )),
    }
}

/// The statement that marks a row of a file as not counting; its parameters are the file and the
/// row.
pub fn bury(connection: &Connection) -> Result<Statement<'_>> {
    Ok(connection.prepare("INSERT INTO main._archive_tombstone (file_id, row) VALUES (?1, ?2)")?)
}
