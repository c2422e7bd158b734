//! `cold_t`: the cold rows of a table as a virtual table with the table's own columns.
//!
//! Made by `CREATE VIRTUAL TABLE temp.cold_t USING archive_cold(7, joined, '{...}')`: the table's id in
//! the catalog, a [`Mode`], and the columns, so that the statement differs when they do.

use std::rc::Rc;

use rusqlite::Connection;

use super::planner;
use super::scan::Scan;
use super::stats::ScanLog;
use crate::error::{Error, Result};
use crate::snapshot::columns::{Mode, Shape};
use crate::snapshot::state::States;
use crate::snapshot::statements::{ALL, COLD};
use crate::sqlite::query::Query;
use crate::sqlite::vtab::{Created, Table};

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
}

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
        planner::plan(&self.states, query)
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
