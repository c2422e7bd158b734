//! Which values the columns of a table have, in SQLite and in cold files, so that each gets a type in
//! DuckDB that holds all of them.

use std::rc::Rc;

use rusqlite::Connection;

use super::feed::select;
use super::subject::Subject;
use super::syntax::Mentioned;
use super::types::{ColumnType, Seen};
use crate::archive::read::HotReader;
use crate::error::Result;
use crate::sqlite::statement::Reader;
use crate::value::Encoding;

/// What was found.
pub struct Survey {
    /// For each column of the table.
    pub types: Vec<ColumnType>,
    /// How many rows SQLite has.
    pub hot_rows: u64,
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
    })
}

/// The columns whose values in SQLite have to be looked at, by their numbers and names.
fn hot_columns<'a>(subject: &'a Subject, mentioned: &Mentioned) -> Vec<(usize, &'a str)> {
    let names = subject.columns.iter().map(|(name, _)| name.as_str());
    let is_rowid = |column: usize| {
        let shape = subject.cold().map(|cold| &cold.shape);
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
