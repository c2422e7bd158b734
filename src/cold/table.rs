//! `cold_t`: the cold rows of a table as a virtual table with the table's own columns.
//!
//! Made by `CREATE VIRTUAL TABLE temp.cold_t USING archive_cold(7, joined, '{...}')`: the table's id in
//! the catalog, a [`Mode`], and the columns, so that the statement differs when they do.

use std::rc::Rc;

use rusqlite::Connection;

use super::planner;
use super::scan::Scan;
use super::stats::ScanLog;
use crate::catalog::identity::Present;
use crate::catalog::places::Places;
use crate::catalog::tables::ArchivedTable;
use crate::error::{Error, Result};
use crate::schema::Column;
use crate::snapshot::columns::{ColdColumn, Shape, Source};
use crate::snapshot::state::States;
use crate::sql::{self, literal};
use crate::sqlite::query::Query;
use crate::sqlite::vtab::{Created, Table};
use crate::value::Encoding;

/// What the names of the TEMP objects of a table begin with: of that with its cold rows, and of that with
/// all of them.
pub const COLD: &str = "cold_";
pub const ALL: &str = "all_";

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

    /// The column of this number, if SQLite names one that files can have.
    pub fn column(&self, number: Option<usize>) -> Option<(usize, &ColdColumn)> {
        let number = number?;
        let column = self.shape().columns.get(number)?;
        (!matches!(column.source, Source::Row)).then_some((number, column))
    }
}

/// The columns that `cold_t` and `all_t` have: the hot table's or, if that is gone, those that it had
/// when it was last looked at.
pub fn visible_columns(archived: &ArchivedTable, hot: Option<&Present>) -> Vec<Column> {
    let columns = hot.map_or(&archived.columns, |hot| &hot.columns);
    columns.clone()
}

/// What `cold_t` of an archived table looks like.
pub fn shape(connection: &Connection, archived: &ArchivedTable, mode: Mode) -> Result<Shape> {
    let hot = match mode {
        Mode::Joined => Places::read(connection)?.present(connection, archived)?,
        Mode::Alone | Mode::Detached => None,
    };
    Ok(shape_with(
        archived,
        hot.as_ref(),
        mode,
        sql::encoding(connection)?,
    ))
}

/// [`shape`], with what is known of the hot table.
pub fn shape_with(
    archived: &ArchivedTable,
    hot: Option<&Present>,
    mode: Mode,
    encoding: Encoding,
) -> Shape {
    let name = hot.map_or(&archived.name, |hot| &hot.name).clone();
    let key = hot.map(|hot| hot.key.clone());
    let columns = visible_columns(archived, hot);
    Shape::new(archived.id, name, mode, columns, key, encoding)
}

/// The statement that makes the virtual table of a shape, after its name. The shape is a part of it: while
/// SQLite connects a virtual table, no SQL may be run.
pub fn using(shape: &Shape) -> String {
    let (table, mode) = (shape.table, shape.mode.name());
    format!("{USING}{table}, {mode}, {})", literal(&shape.to_json()))
}

/// What the statements of all our virtual tables have after the name.
pub const USING: &str = "USING archive_cold(";

impl Table for ColdTable {
    type Cursor = Scan;
    type Shared = ScanLog;

    /// Runs no SQL: it could meet a schema that another connection has just changed, and SQLite would
    /// free the one that holds the very table it is connecting.
    fn connect(
        connection: Rc<Connection>,
        log: &ScanLog,
        created: &Created<'_>,
    ) -> Result<(Self, String)> {
        let shape = parse(created)
            .ok_or_else(|| Error::refused("archive_cold is made by archive_attach() only"))?;
        let declaration = shape.declaration();
        let table = Self {
            states: Rc::new(States::new(connection, Rc::new(shape))),
            log: log.clone(),
        };
        Ok((table, declaration))
    }

    fn best_index(&self, query: &mut Query<'_>) -> Result<()> {
        planner::plan(self, query)
    }

    fn open(&self) -> Result<Scan> {
        Scan::open(Rc::clone(&self.states), &self.log)
    }
}

/// The shape in the statement that [`using`] made.
fn parse(created: &Created<'_>) -> Option<Shape> {
    let [id, mode, text] = created.arguments[..] else {
        return None;
    };
    let mode = Mode::ALL
        .into_iter()
        .find(|known| known.name() == mode.trim())?;
    let prefix = if mode == Mode::Detached { ALL } else { COLD };
    let name = created.name.strip_prefix(prefix)?;
    let text = text.trim().strip_prefix('\'')?.strip_suffix('\'')?;
    let is_temp = created.schema.eq_ignore_ascii_case("temp");
    let shape = Shape::from_json(
        id.trim().parse().ok()?,
        name,
        mode,
        &text.replace("''", "'"),
    );
    shape.filter(|_| is_temp)
}
