//! Which values the columns of a table have, in SQLite and in cold files, so that each gets a type in
//! DuckDB that holds all of them.

use std::rc::Rc;

use arrow::array::RecordBatch;
use rusqlite::Connection;

use super::batch::BatchBuilder;
use super::feed::select;
use super::names::Subject;
use super::syntax::Mentioned;
use super::types::{ColumnType, Seen};
use crate::error::{Error, Result};
use crate::format::rows::RowGroup;
use crate::moving::read::HotReader;
use crate::sqlite::statement::Reader;
use crate::value::Encoding;

/// Of a table with fewer bytes than this, the rows in SQLite are kept for DuckDB as they are looked at.
const KEPT_BYTES: usize = 16 << 20;

/// What was found.
pub struct Survey {
    /// For each column of the table.
    pub types: Vec<ColumnType>,
    /// How many rows SQLite has.
    pub hot_rows: u64,
    /// Those rows, if they are few.
    pub kept: Option<Kept>,
}

/// The rows that SQLite has, but only the columns that the query needs.
pub struct Kept {
    /// The columns by their numbers in the table.
    pub columns: Vec<usize>,
    pub batch: RecordBatch,
}

impl Kept {
    /// Some columns of the table, if they all are here.
    pub fn project(&self, columns: &[usize]) -> Option<RecordBatch> {
        let place = |column: &usize| self.columns.iter().position(|known| known == column);
        let places: Option<Vec<usize>> = columns.iter().map(place).collect();
        self.batch.project(&places?).ok()
    }
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
    let mut seen = match subject.cold() {
        Some(cold) => cold.seen.clone(),
        None => vec![Seen::default(); subject.columns.len()],
    };
    let wanted = hot_columns(subject, mentioned);
    let (hot_rows, kept) = match &subject.hot {
        Some(from) if subject.shows_hot() => look(connection, from, &wanted, encoding, &mut seen)?,
        _ => (0, None),
    };
    let columns = subject.columns.iter().zip(&seen);
    let types: Vec<ColumnType> = columns
        .map(|((_, declared_type), seen)| seen.column_type(declared_type, typed))
        .collect();
    let kept = kept
        .map(|rows| keep(&rows, &wanted, &types, encoding))
        .transpose()?;
    Ok(Survey {
        types,
        hot_rows,
        kept,
    })
}

/// The rows that were looked at, with the types that were chosen then.
fn keep(
    rows: &RowGroup,
    wanted: &[(usize, &str)],
    types: &[ColumnType],
    encoding: Encoding,
) -> Result<Kept> {
    let columns: Vec<usize> = wanted.iter().map(|(column, _)| *column).collect();
    let mut batch = BatchBuilder::new(columns.iter().filter_map(|column| types.get(*column)));
    for (index, values) in rows.columns.iter().enumerate() {
        if !values
            .values(encoding)
            .all(|value| batch.push(index, value))
        {
            return Err(Error::Internal(
                "a value does not fit the type of its column".to_owned(),
            ));
        }
    }
    let batch = batch.finish(rows.rows)?;
    Ok(Kept { columns, batch })
}

/// The columns whose values in SQLite the query needs, by their numbers and names.
fn hot_columns<'a>(subject: &'a Subject, mentioned: &Mentioned) -> Vec<(usize, &'a str)> {
    let names = subject.columns.iter().map(|(name, _)| name.as_str());
    names
        .enumerate()
        .filter(|(_, name)| mentioned.column(name))
        .collect()
}

/// Looks at all rows in SQLite; returns how many there are, and the rows if they are few.
fn look(
    connection: &Rc<Connection>,
    from: &str,
    wanted: &[(usize, &str)],
    encoding: Encoding,
    seen: &mut [Seen],
) -> Result<(u64, Option<RowGroup>)> {
    let mut kept = Some(RowGroup::new(wanted.len()));
    if wanted.is_empty() {
        let sql = format!("SELECT count(*) FROM {from}");
        let rows: u64 = connection.query_row(&sql, [], |row| row.get(0))?;
        kept.iter_mut()
            .for_each(|kept| kept.rows = usize::try_from(rows).unwrap_or(usize::MAX));
        return Ok((rows, kept));
    }
    let reader = HotReader::of_columns(wanted.iter().map(|(_, name)| *name), encoding);
    let mut statement = Reader::new(connection, &select(&reader, from))?;
    let times: Vec<bool> = seen.iter().map(Seen::has_times).collect();
    let mut rows = 0;
    while statement.step()? {
        rows += 1;
        for (index, (column, _)) in wanted.iter().enumerate() {
            let (Some(seen), Some(times)) = (seen.get_mut(*column), times.get(*column)) else {
                continue;
            };
            reader.read(
                |n| Ok(statement.value(n)),
                index,
                |value| {
                    seen.value(value, *times);
                    kept.iter_mut().for_each(|kept| kept.push(index, value));
                },
            )?;
        }
        kept.iter_mut().for_each(|kept| kept.rows += 1);
        kept = kept.filter(|kept| kept.bytes <= KEPT_BYTES);
    }
    Ok((rows, kept))
}
