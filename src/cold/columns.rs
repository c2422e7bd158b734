//! The columns of `cold_t`, and which column of a cold file each is, after ALTER TABLE too.
//!
//! SQLite keeps no identity of a column, so it is told from names and positions: RENAME COLUMN keeps
//! the position, ADD COLUMN appends, DROP COLUMN keeps the order of the others. Where names and
//! positions contradict each other, an error is better than the values of another column.

use rusqlite::types::Value as Owned;

use crate::error::{Error, Result};
use crate::stored::ROWID_COLUMN;
use crate::table::{Affinity, Column};
use crate::value::Encoding;

/// What a column of `cold_t` shows.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    /// The table's column of this number.
    Column(usize),
    /// The rowid that files carry beside the columns.
    Rowid,
}

/// A column of `cold_t`.
#[derive(Debug, Clone)]
pub struct ColdColumn {
    pub source: Source,
    pub affinity: Affinity,
    /// Whether text in it is compared by the BINARY collation, if a query does not say otherwise.
    pub binary: bool,
    /// What rows of files without the column show: they were written before ADD COLUMN.
    pub default: Owned,
    /// It alone is the key: no two rows of the hot table have the same value.
    pub unique: bool,
    /// It is the rowid, or another name of it: only integers.
    pub is_rowid: bool,
}

/// What `cold_t` looks like.
#[derive(Debug)]
pub struct Shape {
    /// Of the archived table.
    pub name: String,
    /// The archived table's columns.
    pub declared: Vec<Column>,
    /// The columns of `cold_t`: those, and perhaps the rowid.
    pub columns: Vec<ColdColumn>,
    /// Their names.
    pub names: Vec<String>,
    /// Of the database.
    pub encoding: Encoding,
}

impl Shape {
    /// Where each column of `cold_t` is among the columns `stored` of a file.
    pub fn positions(&self, stored: &[Column]) -> Result<Vec<Option<usize>>> {
        let (columns, rowid) = match stored {
            [columns @ .., last] if last.name == ROWID_COLUMN => (columns, Some(columns.len())),
            columns => (columns, None),
        };
        let matched = match_columns(&self.name, columns, &self.declared)?;
        let position = |column: &ColdColumn| match column.source {
            Source::Column(column) => matched.get(column).copied().flatten(),
            Source::Rowid => rowid,
        };
        Ok(self.columns.iter().map(position).collect())
    }
}

/// For each of the table's columns `now`, its position among the columns `then` that a file was
/// written with; `None` if it was added later.
fn match_columns(table: &str, then: &[Column], now: &[Column]) -> Result<Vec<Option<usize>>> {
    let position = |columns: &[Column], name: &str| {
        columns
            .iter()
            .position(|column| column.name.eq_ignore_ascii_case(name))
    };
    let alike = |old: &Column, new: &Column| {
        (&old.declared_type, &old.collation, &old.default)
            == (&new.declared_type, &new.collation, &new.default)
    };
    let last = then.len().saturating_sub(1);
    // The same names in the same places, and perhaps others added. A last column that differs in
    // anything else was dropped and added again.
    let unchanged = |(index, old): (usize, &Column)| {
        position(now, &old.name) == Some(index) && (index < last || alike(old, &now[index]))
    };
    // A column in the midst can only have been renamed; the last one could have been dropped, and
    // another added, so it must be there.
    let renamed = |(index, old): (usize, &Column)| match position(now, &old.name) {
        Some(_) => unchanged((index, old)),
        None => {
            index < last
                && now
                    .get(index)
                    .is_some_and(|new| position(then, &new.name).is_none() && alike(old, new))
        }
    };
    if then.iter().enumerate().all(renamed) {
        let known = |index| (index < then.len()).then_some(index);
        return Ok((0..now.len()).map(known).collect());
    }
    // Columns were dropped: the others keep their order.
    let is_left = |column: &&Column| position(now, &column.name).is_some();
    let left = then.iter().filter(is_left);
    if now.len() < then.len()
        && left
            .map(|column| &column.name)
            .eq(now.iter().map(|column| &column.name))
    {
        return Ok(now
            .iter()
            .map(|column| position(then, &column.name))
            .collect());
    }
    let names = |columns: &[Column]| {
        columns
            .iter()
            .map(|column| column.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    Err(Error::refused(format!(
        "the columns of {table} have changed since its cold rows were archived (then: {}; now: {}) \
         so that it is not certain which is which; rename them back",
        names(then),
        names(now)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(names: &str) -> Vec<Column> {
        let column = |name: &str| Column {
            name: name.to_owned(),
            declared_type: "TEXT".to_owned(),
            collation: "BINARY".to_owned(),
            default: None,
        };
        names.split(' ').map(column).collect()
    }

    fn matched(then: &str, now: &str) -> Option<Vec<Option<usize>>> {
        match_columns("t", &columns(then), &columns(now)).ok()
    }

    #[test]
    fn added_columns_are_new() {
        assert_eq!(matched("a b", "a b"), Some(vec![Some(0), Some(1)]));
        assert_eq!(matched("a b", "a B c"), Some(vec![Some(0), Some(1), None]));
    }

    #[test]
    fn renamed_columns_keep_their_place() {
        assert_eq!(
            matched("a b c", "a x c"),
            Some(vec![Some(0), Some(1), Some(2)])
        );
        assert_eq!(
            matched("a b c", "x y c d"),
            Some(vec![Some(0), Some(1), Some(2), None])
        );
    }

    #[test]
    fn dropped_columns_leave_the_others() {
        assert_eq!(matched("a b c", "a c"), Some(vec![Some(0), Some(2)]));
        assert_eq!(matched("a b c", "a b"), Some(vec![Some(0), Some(1)]));
    }

    #[test]
    fn contradictions_are_an_error() {
        // `b` was renamed to `x`, and a new `b` was added.
        assert_eq!(matched("a b", "a x b"), None);
        // `b` was dropped and `c` was renamed, or the other way round.
        assert_eq!(matched("a b c d", "a x d"), None);
        // `b` was renamed to `x`, or dropped and `x` added.
        assert_eq!(matched("a b", "a x"), None);
        // The names were swapped, or `a` dropped and added again.
        assert_eq!(matched("a b", "b a"), None);
        // `b` was dropped and added again with another type.
        let mut now = columns("a b");
        now[1].declared_type = "INTEGER".to_owned();
        assert!(match_columns("t", &columns("a b"), &now).is_err());
    }
}
