//! `cold_t`: the cold rows of a table as a virtual table with the table's own columns.
//!
//! Made by `CREATE VIRTUAL TABLE temp.cold_t USING archive_cold('t', 'signature')`; the signature
//! only makes the statement differ when the columns do.

use std::rc::Rc;

use rusqlite::Connection;
use rusqlite::types::Value as Owned;

use super::columns::{ColdColumn, Shape, Source};
use super::plan::Plan;
use super::scan::Scan;
use crate::catalog::{self, files, tables};
use crate::error::{Error, Result};
use crate::sql::quote;
use crate::sqlite::vtab::{Comparison, Query, Table};
use crate::stored::ROWID_COLUMN;
use crate::table::{self, Affinity, Column, Key};

/// The hidden column that shows the rowid a row had, or has, in its table.
const ROWID: &str = "rowid";

/// What opening one file costs, in rows read.
const FILE_COST: f64 = 100.0;

/// The virtual table.
pub struct ColdTable {
    connection: Rc<Connection>,
    shape: Rc<Shape>,
}

/// The columns that `cold_t` and `all_t` have: the hot table's or, if that is gone, those of the
/// newest file. `None` if the table has never been archived.
pub fn visible_columns(connection: &Connection, name: &str) -> Result<Option<Vec<Column>>> {
    if let Some(table) = table::Table::find(connection, name)? {
        return Ok(Some(table.columns));
    }
    let Some(archived) = tables::find(connection, name)? else {
        return Ok(None);
    };
    let newest = tables::schemas(connection, archived.id)?.pop_last();
    Ok(newest.map(|(_, mut columns)| {
        columns.retain(|column| column.name != ROWID_COLUMN);
        columns
    }))
}

impl Table for ColdTable {
    type Cursor = Scan;

    fn connect(connection: Rc<Connection>, arguments: &[&str]) -> Result<(Self, String)> {
        let name = arguments
            .first()
            .and_then(|argument| argument.trim().strip_prefix('\'')?.strip_suffix('\''))
            .ok_or_else(|| Error::refused("archive_cold takes the name of an archived table"))?
            .replace("''", "'");
        let never = || Error::refused(format!("{name} has never been archived"));
        if !catalog::exists(&connection)? || tables::find(&connection, &name)?.is_none() {
            return Err(never());
        }
        let hot = table::Table::find(&connection, &name)?;
        let declared = visible_columns(&connection, &name)?.ok_or_else(never)?;
        let mut declaration: Vec<String> = declared.iter().map(Column::declaration).collect();
        let mut columns = Vec::with_capacity(declared.len() + 1);
        for (index, column) in declared.iter().enumerate() {
            let unique = |table: &table::Table| match &table.key {
                Key::Rowid { alias, .. } => *alias == Some(index),
                Key::Primary(key) => key[..] == [index],
            };
            columns.push(ColdColumn {
                source: Source::Column(index),
                affinity: column.affinity(),
                default: column.default_value(&connection)?,
                unique: hot.as_ref().is_some_and(unique),
            });
        }
        if let Some(Key::Rowid { alias, .. }) = hot.map(|hot| hot.key)
            && !declared
                .iter()
                .any(|column| column.name.eq_ignore_ascii_case(ROWID))
        {
            declaration.push(format!("{} INTEGER HIDDEN", quote(ROWID)));
            columns.push(ColdColumn {
                source: alias.map_or(Source::Rowid, Source::Column),
                affinity: Affinity::Numeric,
                default: Owned::Null,
                unique: true,
            });
        }
        let table = Self {
            connection,
            shape: Rc::new(Shape {
                name,
                declared,
                columns,
            }),
        };
        Ok((table, format!("CREATE TABLE x({})", declaration.join(", "))))
    }

    fn best_index(&self, query: &mut Query<'_>) -> Result<()> {
        let mut constraints = query.constraints();
        constraints.retain(|constraint| {
            let column = constraint
                .column
                .and_then(|column| self.shape.columns.get(column));
            // SQLite compares `x IN (SELECT y)` value by value if the virtual table takes it, and
            // forgets the affinity of y then. Only a numeric affinity of x makes that the same.
            column.is_some_and(|column| {
                column.affinity == Affinity::Numeric || !query.may_be_in(constraint)
            })
        });
        for (position, constraint) in constraints.iter().enumerate() {
            query.push(constraint, position);
        }
        let (files, rows) = match tables::find(&self.connection, &self.shape.name)? {
            Some(table) => files::totals(&self.connection, table.id)?,
            None => (0, 0),
        };
        let mut share = 1.0;
        let mut one = false;
        for constraint in &constraints {
            let column = constraint
                .column
                .and_then(|column| self.shape.columns.get(column));
            let unique = column.is_some_and(|column| column.unique);
            match constraint.comparison {
                Comparison::Eq | Comparison::Is if unique => one = true,
                Comparison::Eq | Comparison::Is | Comparison::IsNull => share *= 0.1,
                Comparison::IsNotNull => {}
                _ => share *= 0.4,
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let (files, rows) = (files as f64, rows as f64);
        let (cost, expected) = match one {
            true => (FILE_COST + rows / files.max(1.0), 1.0),
            false => (share * (files * FILE_COST + rows), (share * rows).max(1.0)),
        };
        #[expect(clippy::cast_possible_truncation, reason = "an estimate")]
        query.finish(
            &Plan::new(&constraints).encode(),
            cost.max(1.0),
            expected as i64,
        )
    }

    fn open(&self) -> Result<Scan> {
        Scan::open(Rc::clone(&self.connection), Rc::clone(&self.shape))
    }
}
