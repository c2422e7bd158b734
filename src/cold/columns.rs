//! The columns of `cold_t`, and which column of a cold file each is, after ALTER TABLE too.

use rusqlite::types::Value as Owned;

use super::table::Mode;
use crate::catalog::columns::follow;
use crate::error::Result;
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
    /// Of the archived table: in the catalog, and when the shape was made.
    pub table: i64,
    pub name: String,
    pub mode: Mode,
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
    /// Which of the columns `known` to the catalog each of the archived table's columns is.
    pub fn ids(&self, known: &[Column]) -> Result<Vec<Option<u32>>> {
        follow(&self.name, known, &self.declared)
    }

    /// Where each column of `cold_t` is among the columns `stored` of a file. `ids` are those of the
    /// archived table's columns.
    pub fn positions(&self, ids: &[Option<u32>], stored: &[Column]) -> Vec<Option<usize>> {
        let position = |column: &ColdColumn| match column.source {
            Source::Column(column) => {
                let id = (*ids.get(column)?)?;
                stored.iter().position(|stored| stored.id == id)
            }
            Source::Rowid => stored.iter().position(|stored| stored.name == ROWID_COLUMN),
        };
        self.columns.iter().map(position).collect()
    }
}
