//! `cold_t`: the cold rows of a table as a virtual table with the table's own columns.
//!
//! Made by `CREATE VIRTUAL TABLE temp.cold_t USING archive_cold('t', 'signature')`; the signature
//! only makes the statement differ when the columns do.

use std::rc::Rc;

use rusqlite::Connection;
use rusqlite::types::Value as Owned;

use super::columns::{ColdColumn, Shape, Source};
use super::planner;
use super::scan::Scan;
use super::state::States;
use super::stats::ScanLog;
use crate::catalog::{self, tables};
use crate::error::{Error, Result};
use crate::sql::{self, quote};
use crate::sqlite::query::Query;
use crate::sqlite::vtab::Table;
use crate::stored::ROWID_COLUMN;
use crate::table::{self, Affinity, Column, Key};

/// The hidden column that shows the rowid a row had, or has, in its table.
const ROWID: &str = "rowid";

/// The virtual table.
pub struct ColdTable {
    pub states: Rc<States>,
    log: ScanLog,
}

impl ColdTable {
    pub fn connection(&self) -> &Connection {
        &self.states.connection
    }

    pub fn shape(&self) -> &Shape {
        &self.states.shape
    }

    /// The column of this number, if SQLite names one.
    pub fn column(&self, number: Option<usize>) -> Option<(usize, &ColdColumn)> {
        let number = number?;
        Some((number, self.shape().columns.get(number)?))
    }
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

/// What `cold_t` of the archived table `name` looks like; `None` if it has never been archived.
pub fn shape(connection: &Connection, name: String) -> Result<Option<Shape>> {
    let hot = table::Table::find(connection, &name)?;
    let Some(declared) = visible_columns(connection, &name)? else {
        return Ok(None);
    };
    let mut columns = Vec::with_capacity(declared.len() + 1);
    let key = hot.map(|hot| hot.key);
    for (index, column) in declared.iter().enumerate() {
        let is_rowid =
            matches!(&key, Some(Key::Rowid { alias: Some(alias), .. }) if *alias == index);
        let is_key = matches!(&key, Some(Key::Primary(key)) if key[..] == [index]);
        columns.push(ColdColumn {
            source: Source::Column(index),
            affinity: column.affinity(),
            binary: column.collation.eq_ignore_ascii_case("BINARY"),
            default: column.default_value(connection)?,
            unique: is_rowid || is_key,
            is_rowid,
        });
    }
    let mut names: Vec<String> = declared.iter().map(|column| column.name.clone()).collect();
    if let Some(Key::Rowid { alias, .. }) = key
        && !names.iter().any(|name| name.eq_ignore_ascii_case(ROWID))
    {
        columns.push(ColdColumn {
            source: alias.map_or(Source::Rowid, Source::Column),
            affinity: Affinity::Numeric,
            binary: true,
            default: Owned::Null,
            unique: true,
            is_rowid: true,
        });
        names.push(ROWID.to_owned());
    }
    Ok(Some(Shape {
        encoding: sql::encoding(connection)?,
        name,
        declared,
        columns,
        names,
    }))
}

impl Table for ColdTable {
    type Cursor = Scan;
    type Shared = ScanLog;

    fn connect(
        connection: Rc<Connection>,
        log: &ScanLog,
        arguments: &[&str],
    ) -> Result<(Self, String)> {
        let name = arguments
            .first()
            .and_then(|argument| argument.trim().strip_prefix('\'')?.strip_suffix('\''))
            .ok_or_else(|| Error::refused("archive_cold takes the name of an archived table"))?
            .replace("''", "'");
        let never = || Error::refused(format!("{name} has never been archived"));
        if !catalog::exists(&connection)? || tables::find(&connection, &name)?.is_none() {
            return Err(never());
        }
        let shape = shape(&connection, name.clone())?.ok_or_else(never)?;
        let mut declaration: Vec<String> = shape.declared.iter().map(Column::declaration).collect();
        if shape.columns.len() > shape.declared.len() {
            declaration.push(format!("{} INTEGER HIDDEN", quote(ROWID)));
        }
        let table = Self {
            states: Rc::new(States::new(connection, Rc::new(shape))),
            log: log.clone(),
        };
        Ok((table, format!("CREATE TABLE x({})", declaration.join(", "))))
    }

    fn best_index(&self, query: &mut Query<'_>) -> Result<()> {
        planner::plan(self, query)
    }

    fn open(&self) -> Result<Scan> {
        Scan::open(Rc::clone(&self.states), &self.log)
    }
}
