//! What the catalog says of a cold file, and whether that can be.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension};

use crate::catalog::files::{self, FileEntry};
use crate::catalog::tombstones::DeadRows;
use crate::error::{Error, Result};
use crate::format::file::OpenFile;
use crate::format::range::Range;
use crate::schema::{Column, columns_from_json};
use crate::time::parse_iso8601;

/// The files of the catalog, of one table or of all: id, and path as far as it is one.
pub fn ids(connection: &Connection, table: Option<i64>) -> Result<Vec<(i64, String)>> {
    let sql = "SELECT id, CAST(path AS TEXT) FROM main._archive_file
               WHERE ?1 IS NULL OR table_id = ?1 ORDER BY table_id, time_min, id";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([table], |row| {
        let path = row.get_ref(1)?.as_bytes_or_null()?.unwrap_or_default();
        Ok((row.get(0)?, String::from_utf8_lossy(path).into_owned()))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The first column of a file's row whose value no file can have.
const IMPOSSIBLE: &str = "SELECT CASE
        WHEN id NOT BETWEEN 0 AND 2147483647 THEN 'id'
        WHEN typeof(path) <> 'text' THEN 'path'
        WHEN typeof(rows) <> 'integer' OR rows < 1 THEN 'rows'
        WHEN typeof(row_groups) <> 'integer' OR row_groups < 1 THEN 'row_groups'
        WHEN typeof(published) <> 'integer' OR published NOT BETWEEN 0 AND rows THEN 'published'
        WHEN typeof(dead) <> 'integer' OR dead NOT BETWEEN 0 AND published THEN 'dead'
        WHEN typeof(bytes) <> 'integer' OR bytes < 0 THEN 'bytes'
        WHEN typeof(hot_bytes) <> 'integer' OR hot_bytes < 0 THEN 'hot_bytes'
        WHEN typeof(checksum) <> 'blob' OR length(checksum) <> 16 THEN 'checksum'
        WHEN typeof(blocks) <> 'blob' OR length(blocks) % 8 <> 0 THEN 'blocks'
        WHEN typeof(time_min) <> 'text' THEN 'time_min'
        WHEN typeof(time_max) <> 'text' THEN 'time_max'
        WHEN typeof(staged_at) NOT IN ('text', 'null') THEN 'staged_at'
    END FROM main._archive_file WHERE id = ?1";

/// Whether the database failed, and not only what is in it is wrong.
pub fn is_failure(error: &Error) -> bool {
    matches!(error, Error::Sqlite(rusqlite::Error::SqliteFailure(..)))
}

/// All that the catalog says of a file.
pub struct CatalogRow {
    pub entry: FileEntry,
    /// Of the earliest and the latest row.
    pub times: (String, String),
    pub hot_bytes: u64,
    /// What it was written with.
    columns: Vec<Column>,
    /// One for each of them.
    pub ranges: Vec<Range>,
}

impl CatalogRow {
    /// Reads the row of `file` and those that belong to it; `None` if there is none.
    pub fn read(connection: &Connection, file: i64) -> Result<Option<Self>> {
        let impossible = connection
            .prepare_cached(IMPOSSIBLE)?
            .query_row([file], |row| row.get::<_, Option<String>>(0));
        match impossible.optional()? {
            None => return Ok(None),
            Some(Some(column)) => return refuse(format!("its {column} cannot be right")),
            Some(None) => {}
        }
        let Some(entry) = files::get(connection, file)? else {
            return Ok(None);
        };
        check_references(connection, &entry)?;
        let sql = "SELECT time_min, time_max, hot_bytes, staged_at
                   FROM main._archive_file WHERE id = ?1";
        let (min, max, hot_bytes, staged_at): (_, _, _, Option<String>) =
            connection.prepare_cached(sql)?.query_row([file], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?;
        if staged_at.is_some_and(|time| parse_iso8601(&time).is_none()) {
            return refuse("its staged_at is not a time");
        }
        let sql = "SELECT columns FROM main._archive_schema WHERE id = ?1";
        let columns: String = connection.query_row(sql, [entry.schema], |row| row.get(0))?;
        let columns = columns_from_json(&columns)?;
        let mut ranges = Vec::new();
        for column in &columns {
            let name = &column.name;
            let range = match files::range(connection, &entry, name) {
                Err(error) if !is_failure(&error) => {
                    return refuse(format!(
                        "_archive_range is wrong for column {name}: {error}"
                    ));
                }
                range => range?,
            };
            let missing = || format!("_archive_range has no row for its column {name}");
            ranges.push(range.ok_or_else(|| Error::refused(missing()))?);
        }
        DeadRows::read(connection, &entry)?;
        Ok(Some(Self {
            times: (min, max),
            entry,
            hot_bytes,
            columns,
            ranges,
        }))
    }

    /// Whether the file has the columns that the catalog says.
    pub fn check_columns(&self, file: &OpenFile) -> Result<()> {
        let found = file.columns().iter().map(|column| &column.name);
        match found.eq(self.columns.iter().map(|column| &column.name)) {
            true => Ok(()),
            false => refuse("its columns are not those of _archive_schema"),
        }
    }
}

fn refuse<T>(reason: impl Into<String>) -> Result<T> {
    Err(Error::refused(reason))
}

/// The table, the columns and the run of a file must be there, and belong together. Its name has the
/// run's token in it, so that a row cannot be led to another file unnoticed.
fn check_references(connection: &Connection, file: &FileEntry) -> Result<()> {
    let sql = "SELECT t.id IS NULL, s.id IS NULL, s.table_id IS NOT f.table_id,
                      r.id IS NULL, r.table_id IS NOT f.table_id, r.token
               FROM main._archive_file f
                    LEFT JOIN main._archive_table t ON t.id = f.table_id
                    LEFT JOIN main._archive_schema s ON s.id = f.schema_id
                    LEFT JOIN main._archive_run r ON r.id = f.run_id
               WHERE f.id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let (no_table, no_schema, other_schema, no_run, other_run, token): (
        _,
        _,
        _,
        _,
        _,
        Option<String>,
    ) = statement.query_row([file.id], |row| {
        Ok((
            row.get(0)?,
            row.get(1)?,
            row.get(2)?,
            row.get(3)?,
            row.get(4)?,
            row.get(5)?,
        ))
    })?;
    let token = format!("-{}-", token.unwrap_or_default());
    let checks = [
        (no_table, "its table_id is of no table"),
        (no_schema, "its schema_id is of no row of _archive_schema"),
        (other_schema, "its schema_id is of another table"),
        (no_run, "its run_id is of no run"),
        (other_run, "its run_id is of another table"),
        (
            !file.record.path.contains(&token),
            "its path is not one that its run wrote",
        ),
    ];
    match checks.into_iter().find(|(wrong, _)| *wrong) {
        Some((_, reason)) => refuse(reason),
        None => Ok(()),
    }
}

/// Rows of the catalog that belong to no file, or to no row or column of it; those of one table's files,
/// or of all.
pub fn strays(connection: &Connection, table: Option<i64>) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let sql = "SELECT t.file_id, f.path, count(*)
               FROM main._archive_tombstone t LEFT JOIN main._archive_file f ON f.id = t.file_id
               WHERE ?1 IS NULL AND f.id IS NULL GROUP BY t.file_id";
    let what = "rows of _archive_tombstone";
    problems.extend(list(connection, sql, table, what)?);
    let sql = "SELECT r.file_id, f.path, count(*)
               FROM main._archive_range r LEFT JOIN main._archive_file f ON f.id = r.file_id
               WHERE (?1 IS NULL OR f.table_id = ?1)
                 AND (f.id IS NULL OR f.schema_id IS NOT r.schema_id)
               GROUP BY r.file_id";
    let what = "rows of _archive_range that are not of its columns";
    problems.extend(list(connection, sql, table, what)?);
    // What is left has the columns of its file, or others beside them.
    let mut schemas: BTreeMap<i64, Vec<Column>> = BTreeMap::new();
    let mut statement = connection.prepare("SELECT id, columns FROM main._archive_schema")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        // One that cannot be read is a problem of each file that needs it.
        let columns = row.get_ref(1)?.as_str().unwrap_or_default();
        if let Ok(columns) = columns_from_json(columns) {
            schemas.insert(row.get(0)?, columns);
        }
    }
    for (schema, columns) in schemas {
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        problems.extend(extra_ranges(connection, table, schema, &names)?);
    }
    Ok(problems)
}

/// Ranges of columns that the files of a schema do not have.
fn extra_ranges(
    connection: &Connection,
    table: Option<i64>,
    schema: i64,
    names: &[&str],
) -> Result<Vec<String>> {
    let sql = "SELECT DISTINCT \"column\" FROM main._archive_range WHERE schema_id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let columns = statement.query_map([schema], |row| {
        Ok(row.get_ref(0)?.as_str().ok().map(str::to_owned))
    })?;
    let columns: Vec<Option<String>> = columns.collect::<Result<_, _>>()?;
    let unknown = |column: &&Option<String>| {
        !column
            .as_deref()
            .is_some_and(|column| names.contains(&column))
    };
    let mut problems = Vec::new();
    for column in columns.iter().filter(unknown).flatten() {
        let sql = "SELECT f.path FROM main._archive_range r JOIN main._archive_file f ON f.id = r.file_id
                   WHERE r.schema_id = ?1 AND r.\"column\" = ?2 AND (?3 IS NULL OR f.table_id = ?3)";
        let mut statement = connection.prepare_cached(sql)?;
        let path = statement
            .query_row((schema, column, table), |row| row.get::<_, String>(0))
            .optional()?;
        problems.extend(path.map(|path| {
            format!("the catalog's row of {path}: _archive_range has the unknown column {column}")
        }));
    }
    Ok(problems)
}

/// A problem for each row that `sql` finds: a file's id, its path if it is in the catalog, and a number.
fn list(connection: &Connection, sql: &str, table: Option<i64>, what: &str) -> Result<Vec<String>> {
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([table], |row| {
        let path: Option<String> = row.get(1)?;
        let count: i64 = row.get(2)?;
        let file = match path {
            Some(path) => path,
            None => format!("file {:?}, which it does not have", row.get_ref(0)?),
        };
        Ok(format!(
            "the catalog's row of {file}: there are {count} {what}"
        ))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
