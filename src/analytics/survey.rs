//! Which values the columns of a table have, in SQLite and in cold files, so that each gets a type in
//! DuckDB that holds all of them.

use std::rc::Rc;
use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::types::Value as Owned;

use super::feed::select;
use super::subject::{Cold, Subject};
use super::syntax::Mentioned;
use super::types::{ColumnType, Seen, only_nulls};
use crate::archive::read::HotReader;
use crate::catalog::files::FileEntry;
use crate::cold::cache::Cache;
use crate::cold::columns::Source;
use crate::cold::range::Range;
use crate::error::{Error, Result};
use crate::sqlite::statement::Reader;
use crate::stored::Storage;
use crate::value::{Encoding, Value};

/// What was found.
pub struct Survey {
    /// For each column of the table.
    pub types: Vec<ColumnType>,
    /// How many rows SQLite has.
    pub hot_rows: u64,
    /// The cold files, oldest first.
    pub files: Vec<ColdFile>,
}

/// A cold file with rows that count.
pub struct ColdFile {
    pub path: String,
    pub rows: usize,
    pub entry: Arc<FileEntry>,
    /// For each column of the table.
    pub columns: Vec<FileColumn>,
    /// The names of all columns that the file has.
    pub names: Vec<String>,
}

/// What a file has of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileColumn {
    /// Nothing but NULL.
    Null,
    /// Nothing: it was written before the column was added, whose default its rows show.
    Default,
    /// A column of this name.
    Stored(String, Storage),
}

/// Looks at all that a query needs of a table. `typed` says whether text that stands for a time becomes
/// one.
pub fn survey(
    connection: &Rc<Connection>,
    subject: &Subject,
    mentioned: &Mentioned,
    encoding: Encoding,
    typed: bool,
) -> Result<Survey> {
    let mut seen = vec![Seen::default(); subject.columns.len()];
    let files = match &subject.cold {
        Some(cold) => cold_files(connection, subject, cold, mentioned, &mut seen)?,
        None => Vec::new(),
    };
    let hot_rows = match &subject.hot {
        Some(from) => {
            let wanted = hot_columns(subject, mentioned);
            look(connection, from, &wanted, encoding, &mut seen)?
        }
        None => 0,
    };
    let columns = subject.columns.iter().zip(&seen);
    Ok(Survey {
        types: columns
            .map(|((_, declared_type), seen)| seen.column_type(declared_type, typed))
            .collect(),
        hot_rows,
        files,
    })
}

/// The columns whose values in SQLite have to be looked at, by their numbers and names.
fn hot_columns<'a>(subject: &'a Subject, mentioned: &Mentioned) -> Vec<(usize, &'a str)> {
    let names = subject.columns.iter().map(|(name, _)| name.as_str());
    let is_rowid = |column: usize| {
        let shape = subject.cold.as_ref().map(|cold| &cold.shape);
        shape.is_some_and(|shape| shape.columns.get(column).is_some_and(|c| c.is_rowid))
    };
    names
        .enumerate()
        .filter(|(column, name)| mentioned.column(name) && !is_rowid(*column))
        .collect()
}

/// Looks at all rows in SQLite; returns how many there are.
fn look(
    connection: &Rc<Connection>,
    from: &str,
    wanted: &[(usize, &str)],
    encoding: Encoding,
    seen: &mut [Seen],
) -> Result<u64> {
    if wanted.is_empty() {
        let sql = format!("SELECT count(*) FROM {from}");
        return Ok(connection.query_row(&sql, [], |row| row.get(0))?);
    }
    let reader = HotReader::of_columns(wanted.iter().map(|(_, name)| *name), encoding);
    let mut statement = Reader::new(connection, &select(&reader, from))?;
    let times: Vec<bool> = seen.iter().map(Seen::has_times).collect();
    let mut rows = 0;
    while statement.step()? {
        rows += 1;
        for (index, (column, _)) in wanted.iter().enumerate() {
            let get = |n| Ok(statement.value(n));
            if let (Some(seen), Some(times)) = (seen.get_mut(*column), times.get(*column)) {
                reader.read(get, index, |value| seen.value(value, *times))?;
            }
        }
    }
    Ok(rows)
}

/// Looks at the cold files, by their footers and by what the catalog knows of their values.
fn cold_files(
    connection: &Connection,
    subject: &Subject,
    cold: &Cold,
    mentioned: &Mentioned,
    seen: &mut [Seen],
) -> Result<Vec<ColdFile>> {
    let Cold { shape, state } = cold;
    let folder = state.folder(connection)?;
    let cache = Cache::of(&state.config)?;
    let mut files = Vec::new();
    for entry in state.files(connection, &[])? {
        let (file, _) = cache.open(&folder, &entry.record)?;
        let path = file.path().to_str().ok_or_else(|| {
            let path = file.path().display();
            Error::refused(format!("DuckDB cannot read {path}: its path is not UTF-8"))
        })?;
        let positions = state
            .schemas
            .get(&entry.schema)
            .map(|schema| &schema.positions);
        let mut columns = Vec::with_capacity(seen.len());
        for (column, (name, _)) in subject.columns.iter().enumerate() {
            let position = positions.and_then(|positions| *positions.get(column)?);
            let stored = position.and_then(|position| file.columns().get(position));
            let seen = seen.get_mut(column);
            columns.push(match (stored, shape.columns.get(column)) {
                (Some(stored), _) => {
                    let range = match mentioned.column(name) {
                        true => Some(state.range(connection, column, &entry)?),
                        false => None,
                    };
                    let null = range.as_ref().is_some_and(|range| only_nulls(range.kinds));
                    if let (Some(seen), false) = (seen, null) {
                        seen.stored(&stored.storage, range.as_deref().and_then(integers));
                    }
                    match null {
                        true => FileColumn::Null,
                        false => FileColumn::Stored(stored.name.clone(), stored.storage.clone()),
                    }
                }
                (None, Some(column)) if matches!(column.source, Source::Column(_)) => {
                    if let Some(seen) = seen {
                        seen.value(Value::from(&column.default), true);
                    }
                    FileColumn::Default
                }
                _ => FileColumn::Null,
            });
        }
        files.push(ColdFile {
            path: path.to_owned(),
            rows: entry.published,
            entry,
            columns,
            names: file
                .columns()
                .iter()
                .map(|column| column.name.clone())
                .collect(),
        });
    }
    Ok(files)
}

/// The least and the greatest integer of a range that has only such bounds.
fn integers(range: &Range) -> Option<(i64, i64)> {
    match (&range.min, &range.max) {
        (Some(Owned::Integer(min)), Some(Owned::Integer(max))) => Some((*min, *max)),
        _ => None,
    }
}
