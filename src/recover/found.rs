//! Cold files that no copy of the catalog knows: what they say of themselves. All of it is read anew, by
//! the same rules as every other cold file.

use rusqlite::Connection;

use super::origin;
use super::remains::Remains;
use crate::catalog::columns;
use crate::catalog::files::{self, FileEntry, NewEntry};
use crate::catalog::identity;
use crate::catalog::lookup;
use crate::catalog::runs;
use crate::catalog::tables::{self, ArchivedTable};
use crate::error::{Error, Result};
use crate::fault;
use crate::format::decode::Scratch;
use crate::format::file::OpenFile;
use crate::format::range::Range;
use crate::format::rows::RowGroup;
use crate::format::types::Origin;
use crate::schema::{Column, ROWID_COLUMN, Table};
use crate::sql::transaction;
use crate::storage::{Folder, OwnFile};
use crate::time::canonical::MAX_LENGTH;
use crate::time::format_instant;

/// What a file is that the catalog does not know.
pub enum Discovered {
    /// It was written after the catalog was copied. It is in the catalog now, and all of its rows count.
    New { id: i64, written: String },
    /// It was written before that, with so many rows: no run ever published it, or it had left the catalog.
    Leftover { rows: usize },
}

/// Puts a file into the catalog, unless it is older than `since`.
pub fn add(
    connection: &Connection,
    remains: &Remains,
    found: &OwnFile,
    since: Option<&str>,
) -> Result<Discovered> {
    let file = OpenFile::discover(&remains.archive.folder, &found.path)?;
    fault::io_point("recover.read").map_err(Error::io(file.path()))?;
    let damaged = |reason: &str| Error::damaged(file.path())(reason);
    let origin = origin::of(&file)?;
    if origin::is_before(&origin, since) {
        let rows = file.record().rows;
        return Ok(Discovered::Leftover { rows });
    }
    let values = Values::read(&file, &origin)?;
    let (time_min, time_max) = values
        .times
        .ok_or_else(|| damaged("a row of it has no time"))?;
    transaction::part(connection, || {
        let table = table(connection, &found.path, &origin)?;
        let schema = schema(connection, &table, &origin)?;
        let run = runs::of_files(connection, &found.run, table.id, &table.name)?;
        let record = file.record().clone();
        let rows = record.rows;
        let entry = NewEntry {
            table: table.id,
            schema,
            run,
            record,
            hot_bytes: values.hot_bytes,
            time_min: format_instant(time_min),
            time_max: format_instant(time_max),
            staged_at: None,
            ranges: values.ranges,
        };
        let id = files::insert(connection, &entry)?;
        files::set_published(connection, id, 0, rows)?;
        let written = origin.written.clone();
        Ok(Discovered::New { id, written })
    })
}

/// Takes a file out of the catalog again, as if it had never been found.
pub fn take_out(connection: &Connection, file: &FileEntry) -> Result<()> {
    let sql = "DELETE FROM main._archive_range WHERE schema_id = ?1 AND file_id = ?2";
    connection.execute(sql, (file.schema, file.id))?;
    let sql = "DELETE FROM main._archive_file WHERE id = ?1";
    connection.execute(sql, [file.id])?;
    Ok(())
}

/// What the values of a file tell.
struct Values {
    ranges: Vec<(String, Range)>,
    hot_bytes: u64,
    /// Of the earliest and the latest row; `None` if a row has no time.
    times: Option<(i64, i64)>,
}

impl Values {
    /// Decodes a file, one column after the other.
    fn read(file: &OpenFile, origin: &Origin) -> Result<Self> {
        let encoding = file.footer().description.encoding;
        let mut read = Self {
            ranges: Vec::new(),
            hot_bytes: 0,
            times: None,
        };
        for (index, column) in file.columns().iter().enumerate() {
            let groups = decode(file, index)?;
            let columns = groups.iter().filter_map(|group| group.columns.first());
            let values = columns.flat_map(|column| column.values(encoding));
            let bytes: u64 = values.clone().map(|value| value.stored_bytes()).sum();
            read.hot_bytes = read.hot_bytes.saturating_add(bytes);
            if column.name.eq_ignore_ascii_case(&origin.time_column) {
                let times = values.clone().map(|value| {
                    let time = origin.time_format.instant(value)?;
                    Some((time, time))
                });
                read.times = times
                    .reduce(|a, b| {
                        let ((min, max), (time, _)) = (a?, b?);
                        Some((min.min(time), max.max(time)))
                    })
                    .flatten();
            }
            read.ranges.push((column.name.clone(), Range::of(values)));
        }
        Ok(read)
    }
}

/// The values of one column of a file, row group by row group.
fn decode(file: &OpenFile, column: usize) -> Result<Vec<RowGroup>> {
    let mut scratch: Scratch = [0; MAX_LENGTH];
    let mut decode = |group: usize| {
        let decoded = file.decode(group, column)?;
        let mut values = RowGroup::new(1);
        for row in 0..decoded.rows() {
            values.push(0, decoded.value(row, &mut scratch));
        }
        Ok(values)
    };
    (0..file.row_groups()).map(&mut decode).collect()
}

/// The archived table that a file is of: files of one table share a folder, whatever its name was. It
/// is registered if the catalog has none.
fn table(connection: &Connection, path: &str, origin: &Origin) -> Result<ArchivedTable> {
    let folder = path.split('/').next().unwrap_or_default();
    let all = tables::all(connection)?;
    if let Some(table) = all.into_iter().find(|table| table.folder == folder) {
        return Ok(table);
    }
    let name = &origin.table;
    if tables::find(connection, name)?.is_some() {
        return Err(Error::refused(format!(
            "{path} is of a table {name} that is not the archived one"
        )));
    }
    let mut table = match lookup::find(connection, name)? {
        Some(hot) => identity::register(connection, &hot, folder)?,
        None => {
            let stored = origin.columns.iter();
            let stored = stored.filter(|column| column.name != ROWID_COLUMN).cloned();
            let stored: Vec<Column> = stored.collect();
            let numbered = columns::number(&stored, &vec![None; stored.len()], 1);
            let id = tables::insert(connection, name, folder, &numbered)?;
            let found = tables::get(connection, id)?;
            found.ok_or_else(|| Error::Internal(format!("the archived table {id} is gone")))?
        }
    };
    table.time_column.clone_from(&origin.time_column);
    table.time_format = Some(origin.time_format);
    tables::update(connection, &table)?;
    Ok(table)
}

/// The id of the list of columns that a file was written with: one that the catalog has, or else one
/// that follows from what the table's columns are now.
fn schema(connection: &Connection, table: &ArchivedTable, origin: &Origin) -> Result<i64> {
    let known = tables::schemas(connection, table.id)?;
    let alike = |a: &Column, b: &Column| a.name == b.name && a.has_type_of(b);
    let same = |columns: &[Column]| {
        columns.len() == origin.columns.len()
            && columns
                .iter()
                .zip(&origin.columns)
                .all(|(a, b)| alike(a, b))
    };
    if let Some((id, _)) = known.iter().rev().find(|(_, columns)| same(columns)) {
        return Ok(*id);
    }
    let mut stored = origin.columns.clone();
    let rowid = stored.pop_if(|column| column.name == ROWID_COLUMN);
    for (number, column) in (1..).zip(&mut stored) {
        let now = table.columns.iter().find(|now| now.name == column.name);
        column.default = now.and_then(|now| now.default.clone());
        column.generated = now.and_then(|now| now.generated.clone());
        column.id = number;
    }
    let followed = columns::follow(&table.name, &stored, &table.columns)?;
    let mut ids = vec![None; stored.len()];
    for (now, number) in table.columns.iter().zip(followed) {
        let place = number.and_then(|number| usize::try_from(number).ok()?.checked_sub(1));
        if let Some(id) = place.and_then(|place| ids.get_mut(place)) {
            *id = Some(now.id);
        }
    }
    let all = known.values().flatten().chain(&table.columns);
    let next = all.map(|column| column.id + 1).max().unwrap_or(1);
    let mut numbered = columns::number(&stored, &ids, next);
    numbered.extend(rowid);
    let hot = Table::find(connection, &table.name)?;
    let sql = hot.map(|hot| hot.sql).unwrap_or_default();
    tables::save_schema(connection, table.id, &numbered, &sql)
}

/// Adds the ranges of a file's columns that the catalog has lost.
pub fn complete_ranges(connection: &Connection, folder: &Folder, entry: &FileEntry) -> Result<()> {
    let columns = tables::schema(connection, entry.schema)?;
    let mut missing = Vec::new();
    for (index, column) in columns.iter().enumerate() {
        if files::range(connection, entry, &column.name)?.is_none() {
            missing.push((index, &column.name));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let file = OpenFile::open(folder, &entry.record)?;
    let encoding = file.footer().description.encoding;
    let mut ranges = Vec::new();
    for (index, name) in missing {
        let groups = decode(&file, index)?;
        let columns = groups.iter().filter_map(|group| group.columns.first());
        let range = Range::of(columns.flat_map(|column| column.values(encoding)));
        ranges.push((name.clone(), range));
    }
    files::insert_ranges(connection, entry.schema, entry.id, &ranges)
}
