//! A row group in memory whose rows come back.

use rusqlite::types::Value as Owned;

use crate::error::Result;
use crate::format::decode::{DecodedColumn, Scratch};
use crate::schema::{Column, ROWID_COLUMN};
use crate::snapshot::columns::Shape;
use crate::snapshot::live::LiveFile;
use crate::value::Value;

/// A row group in memory: the columns that were asked for, by the table's numbers.
pub struct Rows {
    columns: Vec<Option<Cells>>,
    rowid: Option<DecodedColumn>,
}

enum Cells {
    Stored(DecodedColumn),
    /// The column was added after the file was written.
    Added(Owned),
}

impl Rows {
    pub fn decode(file: &LiveFile, shape: &Shape, group: usize, wanted: &[usize]) -> Result<Self> {
        let mut columns: Vec<Option<Cells>> = Vec::new();
        columns.resize_with(shape.declared.len(), || None);
        for column in wanted {
            let stored = file.positions.get(*column).copied().flatten();
            let cells = match stored {
                Some(stored) => Cells::Stored(file.file.decode(group, stored)?),
                None => Cells::Added(shape.shown(*column)?.clone()),
            };
            if let Some(place) = columns.get_mut(*column) {
                *place = Some(cells);
            }
        }
        let is_rowid = |column: &Column| column.name == ROWID_COLUMN;
        let rowid = file.columns.iter().position(is_rowid);
        let rowid = rowid.map(|column| file.file.decode(group, column));
        Ok(Self {
            columns,
            rowid: rowid.transpose()?,
        })
    }

    /// The value of a column that was asked for.
    pub fn value<'r>(&'r self, column: usize, row: usize, scratch: &'r mut Scratch) -> Value<'r> {
        match self.columns.get(column) {
            Some(Some(Cells::Stored(decoded))) => decoded.value(row, scratch),
            Some(Some(Cells::Added(default))) => Value::from(default),
            _ => Value::Null,
        }
    }

    /// The rowid that the file carries beside the columns.
    pub fn rowid(&self, row: usize) -> Option<i64> {
        self.rowid.as_ref()?.number(row)
    }
}
