//! Cold files in the catalog.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

use rusqlite::{Connection, OptionalExtension, Params, Row};

use super::tables;
use crate::error::{Error, Result};
use crate::format::range::{Kinds, Range};
use crate::format::record::FileRecord;
use crate::format::types::{MAX_GROUPS, MAX_VALUES};
use crate::storage::seal::Seal;
use crate::time::clock;

/// A cold file that is in the catalog.
#[derive(Debug, Clone)]
pub struct FileEntry {
    pub id: i64,
    /// Of the columns it was written with.
    pub schema: i64,
    pub record: FileRecord,
    /// How many rows, from the first, are cold.
    pub published: usize,
    /// How many of those have tombstones: they do not count.
    pub dead: usize,
}

impl FileEntry {
    /// How many rows count.
    pub fn live_rows(&self) -> usize {
        self.published - self.dead
    }
}

/// A cold file about to be published.
#[derive(Debug, Clone)]
pub struct NewEntry {
    pub table: i64,
    pub schema: i64,
    pub run: i64,
    pub record: FileRecord,
    /// What its rows took in the table.
    pub hot_bytes: u64,
    pub time_min: String,
    pub time_max: String,
    /// When it was written, if its rows are to stay hot for a while.
    pub staged_at: Option<String>,
    /// For each stored column.
    pub ranges: Vec<(String, Range)>,
}

const SELECT: &str =
    "SELECT id, schema_id, path, rows, row_groups, published, bytes, checksum, blocks,
            dead
     FROM main._archive_file";

fn from_row(row: &Row<'_>) -> Result<FileEntry> {
    let path: String = row.get(2)?;
    let impossible = |column: &str| {
        Error::refused(format!(
            "the archive catalog is damaged: {column} of the file {path} cannot be right; archive_verify() \
             names all that is wrong"
        ))
    };
    // The CHECKs of the table can be switched off. Who goes through rows and groups makes room for as many.
    let number = |position: usize, name: &str, range: RangeInclusive<usize>| {
        let number = usize::try_from(row.get::<_, i64>(position)?).ok();
        let number = number.filter(|number| range.contains(number));
        number.ok_or_else(|| impossible(name))
    };
    let rows = number(3, "rows", 1..=MAX_VALUES)?;
    let row_groups = number(4, "row_groups", 1..=MAX_GROUPS)?;
    let published = number(5, "published", 0..=rows)?;
    let dead = number(9, "dead", 0..=published)?;
    let id = Some(row.get(0)?).filter(|id| (0..1 << 31).contains(id));
    let id = id.ok_or_else(|| impossible("id"))?;
    let blocks = row.get_ref(8)?.as_blob().map_err(rusqlite::Error::from)?;
    let blocks = blocks.as_chunks::<8>().0;
    Ok(FileEntry {
        id,
        schema: row.get(1)?,
        record: FileRecord {
            path,
            rows,
            row_groups,
            seal: Seal {
                bytes: row.get(6)?,
                checksum: row.get(7)?,
                blocks: blocks.iter().map(|sum| u64::from_le_bytes(*sum)).collect(),
            },
        },
        published,
        dead,
    })
}

/// The files that a query finds.
fn query(connection: &Connection, sql: &str, parameters: impl Params) -> Result<Vec<FileEntry>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let mut files = Vec::new();
    while let Some(row) = rows.next()? {
        files.push(from_row(row)?);
    }
    Ok(files)
}

/// Fails at the first file that cannot be as the catalog has it.
pub fn check(connection: &Connection) -> Result<()> {
    let mut statement = connection.prepare(SELECT)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        from_row(row)?;
    }
    Ok(())
}

fn select(connection: &Connection, condition: &str, table: i64) -> Result<Vec<FileEntry>> {
    let sql = format!("{SELECT} WHERE table_id = ?1 AND {condition}");
    query(connection, &sql, [table])
}

/// The file with this id, if it has rows that count.
pub fn find(connection: &Connection, file: i64) -> Result<Option<FileEntry>> {
    let sql = format!("{SELECT} WHERE id = ?1 AND published > dead");
    Ok(query(connection, &sql, [file])?.pop())
}

/// The file with this id, whether it has rows that count or not.
pub fn get(connection: &Connection, file: i64) -> Result<Option<FileEntry>> {
    let sql = format!("{SELECT} WHERE id = ?1");
    Ok(query(connection, &sql, [file])?.pop())
}

/// The files of a table that have rows that count, oldest first.
pub fn readable(connection: &Connection, table: i64) -> Result<Vec<FileEntry>> {
    select(connection, "published > dead ORDER BY time_min, id", table)
}

/// The files of a table, oldest first, whether all their rows are cold or not.
pub fn all(connection: &Connection, table: i64) -> Result<Vec<FileEntry>> {
    select(connection, "true ORDER BY time_min, id", table)
}

/// Files with rows that wait for their grace period to end.
const STAGED: &str = "published = 0 AND staged_at IS NOT NULL";

/// The files that an earlier run could not publish to their end, and the staged ones that have rows from
/// before `cutoff`, except those that were staged within the time `waiting`.
pub fn unfinished(
    connection: &Connection,
    table: i64,
    waiting: &std::ops::Range<String>,
    cutoff: &str,
) -> Result<Vec<FileEntry>> {
    let sql = format!(
        "{SELECT} WHERE table_id = ?1 AND published < rows AND (NOT ({STAGED})
             OR NOT (staged_at >= ?2 AND staged_at < ?3) AND time_min < ?4) ORDER BY id"
    );
    let parameters = (table, &waiting.start, &waiting.end, cutoff);
    query(connection, &sql, parameters)
}

/// The files whose rows are all hot still, for a grace period.
pub fn staged(connection: &Connection, table: i64) -> Result<Vec<FileEntry>> {
    select(connection, &format!("{STAGED} ORDER BY id"), table)
}

/// The first and the last instant of each file of a table, as the catalog keeps them, by file id.
pub fn times(connection: &Connection, table: i64) -> Result<HashMap<i64, (String, String)>> {
    let sql = "SELECT id, time_min, time_max FROM main._archive_file WHERE table_id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([table], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// How many rows of a table are cold.
pub fn cold_rows(connection: &Connection, table: i64) -> Result<u64> {
    let sql = "SELECT coalesce(sum(published - dead), 0) FROM main._archive_file
               WHERE table_id = ?1";
    Ok(connection.query_row(sql, [table], |row| row.get(0))?)
}

/// How much a table has in cold files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    pub files: u64,
    pub row_groups: u64,
    pub rows: u64,
    /// The lists of columns that these files were written with.
    pub schemas: Vec<i64>,
}

/// What the readable files of a table add up to.
pub fn totals(connection: &Connection, table: i64) -> Result<Totals> {
    let sql = "SELECT count(*), sum(row_groups), sum(published - dead), schema_id
               FROM main._archive_file WHERE table_id = ?1 AND published > dead
               GROUP BY schema_id";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([table])?;
    let mut totals = Totals::default();
    while let Some(row) = rows.next()? {
        totals.files += row.get::<_, u64>(0)?;
        totals.row_groups += row.get::<_, u64>(1)?;
        totals.rows += row.get::<_, u64>(2)?;
        totals.schemas.push(row.get(3)?);
    }
    Ok(totals)
}

/// What is known of a column in each file that was written with the columns `schema`: the file's
/// id, and the range. In the order of the ids.
pub fn ranges(connection: &Connection, schema: i64, column: &str) -> Result<Vec<(i64, Range)>> {
    let sql = "SELECT kinds, min, max, ascending, file_id FROM main._archive_range
               WHERE schema_id = ?1 AND \"column\" = ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map((schema, column), |row| {
        Ok((row.get(4)?, range_from_row(row)?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// What is known of a column in one file.
pub fn range(connection: &Connection, file: &FileEntry, column: &str) -> Result<Option<Range>> {
    let sql = "SELECT kinds, min, max, ascending FROM main._archive_range
               WHERE schema_id = ?1 AND \"column\" = ?2 AND file_id = ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let range = statement.query_row((file.schema, column, file.id), range_from_row);
    Ok(range.optional()?)
}

/// The largest integer in a column of a table's files, as far as that is known.
pub fn largest(connection: &Connection, table: i64, column: &str) -> Result<Option<i64>> {
    let sql = "SELECT max(r.max) FROM main._archive_schema s
                   JOIN main._archive_range r ON r.schema_id = s.id AND r.\"column\" = ?2
               WHERE s.table_id = ?1 AND typeof(r.max) = 'integer'";
    Ok(connection.query_row(sql, (table, column), |row| row.get(0))?)
}

fn range_from_row(row: &Row<'_>) -> rusqlite::Result<Range> {
    Ok(Range {
        kinds: Kinds::from_bits_truncate(row.get(0)?),
        min: row.get(1)?,
        max: row.get(2)?,
        ascending: row.get(3)?,
    })
}

/// Adds a file of which no row is cold yet. To be called in the transaction that publishes its
/// first rows.
pub fn insert(connection: &Connection, entry: &NewEntry) -> Result<i64> {
    let FileRecord {
        path,
        rows,
        row_groups,
        seal,
    } = &entry.record;
    let blocks: Vec<u8> = seal
        .blocks
        .iter()
        .flat_map(|sum| sum.to_le_bytes())
        .collect();
    connection.execute(
        "INSERT INTO main._archive_file (table_id, schema_id, run_id, path, rows, row_groups,
             published, dead, bytes, checksum, blocks, time_min, time_max, hot_bytes, staged_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, 0, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        (
            entry.table,
            entry.schema,
            entry.run,
            path,
            rows,
            row_groups,
            seal.bytes,
            seal.checksum,
            blocks,
            &entry.time_min,
            &entry.time_max,
            entry.hot_bytes,
            &entry.staged_at,
        ),
    )?;
    let file = connection.last_insert_rowid();
    insert_ranges(connection, entry.schema, file, &entry.ranges)?;
    Ok(file)
}

/// Adds what is known of columns of a file, which was written with the columns `schema`.
pub fn insert_ranges(
    connection: &Connection,
    schema: i64,
    file: i64,
    ranges: &[(String, Range)],
) -> Result<()> {
    let mut statement = connection.prepare(
        "INSERT INTO main._archive_range (schema_id, \"column\", file_id, kinds, min, max, ascending)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for (column, range) in ranges {
        let (kinds, ascending) = (range.kinds.bits(), range.ascending);
        statement.execute((
            schema, column, file, kinds, &range.min, &range.max, ascending,
        ))?;
    }
    Ok(())
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

/// Counts `rows` more rows of a file that have tombstones.
pub fn add_dead(connection: &Connection, file: i64, rows: u64) -> Result<()> {
    let sql = "SELECT dead FROM main._archive_file WHERE id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut dead = || statement.query_row([file], |row| row.get::<_, u64>(0));
    let after = dead()?.saturating_add(rows);
    let sql = "UPDATE main._archive_file SET dead = ?2 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute((file, after))?;
    match dead()? == after {
        true => Ok(()),
        false => Err(in_the_way()),
    }
}

/// An authorizer of the application ignored a change without an error.
pub fn in_the_way() -> Error {
    Error::refused("an authorizer is in the way of the archive catalog")
}

/// Takes a file out of the catalog if no row of it counts any more and none is still on its way, and
/// returns whether that was so.
pub fn remove_if_empty(connection: &Connection, file: i64) -> Result<bool> {
    let sql = format!("{SELECT} WHERE id = ?1 AND dead = rows");
    match query(connection, &sql, [file])?.pop() {
        Some(file) => remove(connection, &file).map(|()| true),
        None => Ok(false),
    }
}

/// Takes a file out of the catalog, with all that is known of it. The file itself stays until
/// `archive_gc` finds that no backup can need it any more.
pub fn remove(connection: &Connection, file: &FileEntry) -> Result<()> {
    let sql = "DELETE FROM main._archive_range
               WHERE schema_id = ?1 AND \"column\" = ?2 AND file_id = ?3";
    let mut statement = connection.prepare_cached(sql)?;
    for column in tables::schema(connection, file.schema)? {
        statement.execute((file.schema, &column.name, file.id))?;
    }
    let execute = |sql: &str| connection.prepare_cached(sql)?.execute([file.id]);
    execute("DELETE FROM main._archive_tombstone WHERE file_id = ?1")?;
    execute("DELETE FROM main._archive_file WHERE id = ?1")?;
    let sql = "INSERT OR REPLACE INTO main._archive_removed (path, removed_at) VALUES (?1, ?2)";
    connection
        .prepare_cached(sql)?
        .execute((&file.record.path, clock::stamp()))?;
    Ok(())
}

/// The paths of all files in the catalog.
pub fn paths(connection: &Connection) -> Result<HashSet<String>> {
    let mut statement = connection.prepare("SELECT path FROM main._archive_file")?;
    let paths = statement.query_map([], |row| row.get(0))?;
    Ok(paths.collect::<Result<_, _>>()?)
}

/// The files that were in the catalog and are no more: path, and when they were taken out.
pub fn removed(connection: &Connection) -> Result<Vec<(String, String)>> {
    let sql = "SELECT path, removed_at FROM main._archive_removed";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Forgets that files were once in the catalog.
pub fn forget_removed(connection: &Connection, paths: &[&String]) -> Result<()> {
    let sql = "DELETE FROM main._archive_removed WHERE path = ?1";
    let mut statement = connection.prepare(sql)?;
    for path in paths {
        statement.execute([path])?;
    }
    Ok(())
}
