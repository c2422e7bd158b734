//! The cold files of a table as DuckDB is to read them.

use std::rc::Rc;
use std::sync::Arc;

use rusqlite::Connection;

use super::dialect::pattern;
use super::types::{Seen, only_nulls};
use crate::catalog::files::FileEntry;
use crate::catalog::tombstones::DeadRows;
use crate::error::{Error, Result};
use crate::format::file::OpenFile;
use crate::format::types::Storage;
use crate::snapshot::cache::Cache;
use crate::snapshot::columns::{Shape, Source};
use crate::snapshot::state::TableState;
use crate::storage::Identity;
use crate::value::Value;

/// The cold rows of a table, in one state of the catalog.
pub struct Cold {
    pub shape: Rc<Shape>,
    pub state: TableState,
    /// Oldest first.
    pub files: Vec<ColdFile>,
    /// For each column of the table, what values it has in the files.
    pub seen: Vec<Seen>,
}

/// A cold file with rows that count.
pub struct ColdFile {
    /// As DuckDB reads it.
    pub path: String,
    pub entry: Arc<FileEntry>,
    /// The rows that do not count.
    pub dead: Arc<DeadRows>,
    /// For each column of the table.
    pub columns: Vec<FileColumn>,
    /// The names of all columns that the file has.
    pub names: Vec<String>,
    /// Which file it was when its footer was read.
    identity: Identity,
}

/// What a file has of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileColumn {
    /// Nothing but NULL.
    Null,
    /// Nothing: it was written before the column was added, whose default its rows show.
    Default,
    /// The column of this number.
    Stored(usize, Storage),
}

impl Cold {
    /// Looks at the cold files, by their footers and by what the catalog knows of their values. `None` if
    /// the table has none.
    pub fn read(connection: &Connection, shape: &Rc<Shape>) -> Result<Option<Self>> {
        let Some(state) = TableState::read(connection, shape)? else {
            return Ok(None);
        };
        let mut cold = Self {
            shape: Rc::clone(shape),
            state,
            files: Vec::new(),
            seen: vec![Seen::default(); shape.declared.len()],
        };
        let folder = cold.state.folder(connection)?;
        let cache = Cache::of(&cold.state.config)?;
        for entry in cold.state.files(connection, &[])? {
            let (file, _) = cache.open(&folder, &entry.record)?;
            let file = cold.file(connection, &file, entry)?;
            cold.files.push(file);
        }
        Ok(Some(cold))
    }

    /// Whether each file still is what it was when its footer was read.
    pub fn is_unchanged(&self, connection: &Connection) -> Result<bool> {
        let folder = self.state.folder(connection)?;
        for file in &self.files {
            if folder.identify(&file.entry.record.path)?.1 != file.identity {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn file(
        &mut self,
        connection: &Connection,
        file: &OpenFile,
        entry: Arc<FileEntry>,
    ) -> Result<ColdFile> {
        let path = file.path().to_str().ok_or_else(|| {
            let path = file.path().display();
            Error::refused(format!("DuckDB cannot read {path}: its path is not UTF-8"))
        })?;
        let columns = 0..self.seen.len();
        Ok(ColdFile {
            path: pattern(path),
            columns: columns
                .map(|column| self.column(connection, file, &entry, column))
                .collect::<Result<_>>()?,
            names: file
                .columns()
                .iter()
                .map(|column| column.name.clone())
                .collect(),
            identity: file.identity(),
            dead: self.state.dead_rows(connection, &entry)?,
            entry,
        })
    }

    /// What a file has of a column, which is added to what is known of the column.
    fn column(
        &mut self,
        connection: &Connection,
        file: &OpenFile,
        entry: &FileEntry,
        column: usize,
    ) -> Result<FileColumn> {
        let schema = self.state.schemas.get(&entry.schema);
        let position = schema.and_then(|schema| *schema.positions.get(column)?);
        let stored = position.and_then(|position| Some((position, file.columns().get(position)?)));
        let (Some(seen), Some(cold)) = (self.seen.get_mut(column), self.shape.columns.get(column))
        else {
            return Ok(FileColumn::Null);
        };
        let Some((position, stored)) = stored else {
            return Ok(match cold.source {
                Source::Column(_) => {
                    seen.value(Value::from(self.shape.shown(column)?), true);
                    FileColumn::Default
                }
                Source::Rowid | Source::Row => FileColumn::Null,
            });
        };
        if self
            .state
            .conversions(connection, entry)?
            .get(column)
            .is_some_and(Option::is_some)
        {
            return Err(self.shape.other_type(column));
        }
        let range = self.state.range(connection, column, entry)?;
        if only_nulls(range.kinds) {
            return Ok(FileColumn::Null);
        }
        let bounds = match &stored.storage {
            Storage::Mixed(_) => file.footer().integers(position),
            _ => range.integers(),
        };
        seen.stored(&stored.storage, bounds);
        Ok(FileColumn::Stored(position, stored.storage.clone()))
    }
}
