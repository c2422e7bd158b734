//! `cold_t`: the cold rows of a table as a virtual table with the table's own columns.
//!
//! Made by `CREATE VIRTUAL TABLE temp.cold_t USING archive_cold(7, joined, signature)`: the table's id in
//! the catalog, a [`Mode`], and what makes the statement differ when the columns do.

use std::rc::Rc;

use rusqlite::Connection;
use rusqlite::types::Value as Owned;

use super::columns::{ColdColumn, Shape, Source};
use super::planner;
use super::scan::Scan;
use super::state::States;
use super::stats::ScanLog;
use crate::catalog::identity::{self, Location};
use crate::catalog::tables::ArchivedTable;
use crate::catalog::{self, tables};
use crate::defaults;
use crate::error::{Error, Result};
use crate::sql::{self, quote};
use crate::sqlite::query::Query;
use crate::sqlite::vtab::{Created, Table};
use crate::table::{self, Affinity, Column, Key};

/// The hidden column that shows the rowid a row had, or has, in its table.
const ROWID: &str = "rowid";

/// What a virtual table of this kind is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `cold_t`, of which `all_t` is a union with the hot table.
    Joined,
    /// `cold_t` of a table that is not in the database.
    Alone,
    /// `all_t` of such a table: every query fails and says why.
    Detached,
}

impl Mode {
    const ALL: [Self; 3] = [Self::Joined, Self::Alone, Self::Detached];

    /// Its name in the statement.
    pub fn name(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Alone => "alone",
            Self::Detached => "detached",
        }
    }
}

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

/// The table of the database that an archived one is now.
pub fn hot_table(
    connection: &Connection,
    archived: &ArchivedTable,
) -> Result<Option<table::Table>> {
    match identity::locate(connection, archived)? {
        Location::Here(name) => table::Table::find(connection, &name),
        Location::Recreated | Location::Missing => Ok(None),
    }
}

/// The columns that `cold_t` and `all_t` have: the hot table's or, if that is gone, those that it had
/// when it was last looked at.
pub fn visible_columns(archived: &ArchivedTable, hot: Option<&table::Table>) -> Vec<Column> {
    let columns = hot.map_or(&archived.columns, |hot| &hot.columns);
    columns.clone()
}

/// What `cold_t` of an archived table looks like.
pub fn shape(connection: &Connection, archived: &ArchivedTable, mode: Mode) -> Result<Shape> {
    let hot = match mode {
        Mode::Joined => hot_table(connection, archived)?,
        Mode::Alone | Mode::Detached => None,
    };
    let declared = visible_columns(archived, hot.as_ref());
    let name = hot.as_ref().map_or(&archived.name, |hot| &hot.name).clone();
    let encoding = sql::encoding(connection)?;
    let mut columns = Vec::with_capacity(declared.len() + 1);
    let key = hot.map(|hot| hot.key);
    for (index, column) in declared.iter().enumerate() {
        let is_rowid =
            matches!(&key, Some(Key::Rowid { alias: Some(alias), .. }) if *alias == index);
        // Under another collation than that of the key, several rows may be equal.
        let is_key = matches!(
            &key,
            Some(Key::Primary(key))
                if matches!(&key[..], [(only, collation)]
                    if *only == index && column.has_collation(collation))
        );
        columns.push(ColdColumn {
            source: Source::Column(index),
            affinity: column.affinity(),
            binary: column.collation.eq_ignore_ascii_case("BINARY"),
            default: defaults::of_older_rows(column, encoding)?,
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
    Ok(Shape {
        encoding,
        table: archived.id,
        name,
        mode,
        declared,
        columns,
        names,
    })
}

impl Table for ColdTable {
    type Cursor = Scan;
    type Shared = ScanLog;

    fn connect(
        connection: Rc<Connection>,
        log: &ScanLog,
        created: &Created<'_>,
    ) -> Result<(Self, String)> {
        let usage = || Error::refused("archive_cold is made by archive_attach() only");
        let mut arguments = created.arguments.iter().map(|argument| argument.trim());
        let id = arguments.next().and_then(|id| id.parse().ok());
        let name = arguments.next().unwrap_or_default();
        let mode = Mode::ALL.into_iter().find(|mode| mode.name() == name);
        let (id, mode): (i64, _) = id.zip(mode).ok_or_else(usage)?;
        if !catalog::exists(&connection)? {
            return Err(usage());
        }
        let archived = tables::get(&connection, id)?.ok_or_else(usage)?;
        let shape = shape(&connection, &archived, mode)?;
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
