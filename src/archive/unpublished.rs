//! A durable file on its way into the catalog: which of its rows have moved, and the row group that
//! is next.

use super::layout::Layouts;
use crate::catalog::files::{FileEntry, NewEntry};
use crate::error::{Error, Result};
use crate::format::decode::DecodedColumn;
use crate::format::file::OpenFile;
use crate::storage::Folder;

/// A durable file, on its way into the catalog or already there.
pub enum Publishing {
    New {
        entry: NewEntry,
        /// `sql::data_version` before the first row was read.
        read_at: i64,
    },
    /// Left unfinished by an earlier run.
    Unfinished(FileEntry),
}

/// Where in a file the next row to move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub group: usize,
    /// The number in the file of the group's first row.
    pub group_start: usize,
    /// Within the group.
    pub row: usize,
}

impl Position {
    /// The number in the file of the next row.
    pub fn row_in_file(self) -> usize {
        self.group_start + self.row
    }

    /// The position after `rows` more rows of a group of `group_rows`.
    pub fn advance(self, rows: usize, group_rows: usize) -> Self {
        let row = self.row + rows;
        match row < group_rows {
            true => Self { row, ..self },
            false => Self {
                group: self.group + 1,
                group_start: self.group_start + group_rows,
                row: 0,
            },
        }
    }
}

/// A file that is being published.
pub struct Pending {
    pub publishing: Publishing,
    pub file: OpenFile,
    /// Its id in the catalog, once it has one.
    pub id: Option<i64>,
    pub at: Position,
    /// Whether the table still has the columns that the file was written with.
    pub comparable: bool,
    key_columns: Vec<usize>,
    decoded: Option<DecodedGroup>,
}

/// A row group in memory.
pub struct DecodedGroup {
    group: usize,
    pub rows: usize,
    /// The columns that identify a row.
    pub keys: Vec<DecodedColumn>,
    /// All columns, if rows have to be compared.
    pub values: Option<Vec<DecodedColumn>>,
}

impl Pending {
    pub fn open(publishing: Publishing, folder: &Folder, layouts: &Layouts) -> Result<Self> {
        let (record, published, schema) = match &publishing {
            Publishing::New { entry, .. } => (&entry.record, 0, entry.schema),
            Publishing::Unfinished(entry) => (&entry.record, entry.published, entry.schema),
        };
        let layout = layouts.get(schema).ok_or_else(|| {
            Error::refused("the archive catalog is damaged: a file has no list of columns")
        })?;
        let file = OpenFile::open(folder, record)?;
        let mut at = Position {
            group: 0,
            group_start: 0,
            row: 0,
        };
        while at.group < file.row_groups() && at.group_start < published {
            let rows = file.rows(at.group);
            at = at.advance((published - at.group_start).min(rows), rows);
            if at.row > 0 {
                break;
            }
        }
        Ok(Self {
            comparable: layout.comparable,
            key_columns: layout.key.clone(),
            id: match &publishing {
                Publishing::New { .. } => None,
                Publishing::Unfinished(entry) => Some(entry.id),
            },
            publishing,
            file,
            at,
            decoded: None,
        })
    }

    pub fn is_done(&self) -> bool {
        self.at.group >= self.file.row_groups()
    }

    /// Decodes a row group, if that has not been done: its keys, and with `values` all of it.
    pub fn decode(&mut self, group: usize, values: bool) -> Result<&DecodedGroup> {
        let present = self.decoded.take().filter(|decoded| decoded.group == group);
        let mut decoded = match present {
            Some(decoded) => decoded,
            None => DecodedGroup {
                group,
                rows: self.file.rows(group),
                keys: self
                    .key_columns
                    .iter()
                    .map(|column| self.file.decode(group, *column))
                    .collect::<Result<_>>()?,
                values: None,
            },
        };
        if values && decoded.values.is_none() {
            decoded.values = Some(self.file.decode_all(group)?);
        }
        Ok(self.decoded.insert(decoded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_run_through_groups() {
        let start = Position {
            group: 0,
            group_start: 0,
            row: 0,
        };
        let inside = start.advance(4, 10);
        assert_eq!((inside.group, inside.row_in_file()), (0, 4));
        let next = inside.advance(6, 10);
        assert_eq!((next.group, next.row, next.row_in_file()), (1, 0, 10));
    }
}
