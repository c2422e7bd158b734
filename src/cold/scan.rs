//! The cursor of `cold_t`: file after file, row group after row group, decoding a column of a row
//! group when its first value is asked for.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use rusqlite::Connection;
use rusqlite::types::Value as Owned;

use super::columns::Shape;
use super::decode::{DecodedColumn, Scratch};
use super::file::ColdFile;
use super::plan::Plan;
use super::range::{Range, Test};
use crate::catalog::files::{self, FileEntry};
use crate::catalog::{self, tables};
use crate::error::{Error, Result};
use crate::settings;
use crate::sql;
use crate::sqlite::pin::ReadPin;
use crate::sqlite::value::Output;
use crate::sqlite::vtab::Cursor;
use crate::storage::Archive;
use crate::table::Column;
use crate::time::canonical::MAX_LENGTH;
use crate::value::Value;

/// A scan over the cold rows of a table.
pub struct Scan {
    connection: Rc<Connection>,
    shape: Rc<Shape>,
    /// The columns that files were written with.
    schemas: BTreeMap<i64, Vec<Column>>,
    /// Where the columns are in files of each schema.
    positions: HashMap<i64, Vec<Option<usize>>>,
    tests: Vec<ColumnTest>,
    /// The files that are left to read, the next one last.
    files: Vec<FileEntry>,
    tombstones: HashMap<i64, Vec<usize>>,
    archive: Option<Archive>,
    current: Option<OpenFile>,
    scratch: Scratch,
    /// All of a scan reads one state of the catalog.
    _snapshot: ReadPin,
}

/// A test, and what the catalog knows of its column in each file.
struct ColumnTest {
    column: usize,
    test: Test,
    ranges: HashMap<i64, Range>,
}

/// The file that is being read.
struct OpenFile {
    entry: FileEntry,
    file: ColdFile,
    /// Where each column of the table is in the file.
    stored: Vec<Option<usize>>,
    tombstones: Vec<usize>,
    /// The row group that is being read, and the number in the file of its first row.
    group: usize,
    group_start: usize,
    /// The current row within the group.
    row: usize,
    /// The columns of the group that have been asked for.
    decoded: Vec<Option<DecodedColumn>>,
}

impl Scan {
    pub fn open(connection: Rc<Connection>, shape: Rc<Shape>) -> Result<Self> {
        Ok(Self {
            _snapshot: ReadPin::new(&connection)?,
            connection,
            shape,
            schemas: BTreeMap::new(),
            positions: HashMap::new(),
            tests: Vec::new(),
            files: Vec::new(),
            tombstones: HashMap::new(),
            archive: None,
            current: None,
            scratch: [0; MAX_LENGTH],
        })
    }

    /// The tests of a plan, each with what the catalog knows of its column.
    fn tests(&self, plan: &Plan, arguments: &[Value<'_>], table: i64) -> Result<Vec<ColumnTest>> {
        let encoding = sql::encoding(&self.connection)?;
        let mut tests = Vec::new();
        for (term, value) in plan.terms.iter().zip(arguments) {
            let Some(column) = self.shape.columns.get(term.column) else {
                continue;
            };
            let (comparison, binary) = (term.comparison, term.binary_collation);
            let Some(test) = Test::new(comparison, *value, column.affinity, binary, encoding)
            else {
                continue;
            };
            let mut ranges = HashMap::new();
            for (schema, stored) in &self.schemas {
                let position = self
                    .positions
                    .get(schema)
                    .and_then(|p| *p.get(term.column)?);
                if let Some(stored) = position.and_then(|position| stored.get(position)) {
                    let known = files::ranges(&self.connection, table, *schema, &stored.name)?;
                    ranges.extend(known);
                }
            }
            tests.push(ColumnTest {
                column: term.column,
                test,
                ranges,
            });
        }
        Ok(tests)
    }

    /// Opens the next file that may have rows for this scan.
    fn next_file(&mut self) -> Result<bool> {
        let Some(archive) = &self.archive else {
            return Ok(false);
        };
        let Some(entry) = self.files.pop() else {
            self.current = None;
            return Ok(false);
        };
        let file = ColdFile::open(archive, &entry.path, entry.bytes, entry.rows)?;
        let schema = self
            .schemas
            .get(&entry.schema)
            .map_or(&[][..], Vec::as_slice);
        let stored = file.columns().iter().map(|column| &column.name);
        if !stored.eq(schema.iter().map(|column| &column.name)) {
            return Err(Error::damaged(file.path())(
                "its columns are not those that the catalog says it has",
            ));
        }
        self.current = Some(OpenFile {
            stored: self
                .positions
                .get(&entry.schema)
                .cloned()
                .unwrap_or_default(),
            tombstones: self.tombstones.remove(&entry.id).unwrap_or_default(),
            decoded: Vec::new(),
            group: 0,
            group_start: 0,
            row: 0,
            file,
            entry,
        });
        Ok(true)
    }

    /// Moves to the first row that counts, from the current position on.
    fn settle(&mut self) -> Result<()> {
        loop {
            if let Some(current) = &mut self.current
                && current.settle(&self.tests)
            {
                return Ok(());
            }
            if !self.next_file()? {
                return Ok(());
            }
        }
    }
}

impl Cursor for Scan {
    fn filter(&mut self, plan: &str, arguments: &[Value<'_>]) -> Result<()> {
        self.current = None;
        self.files.clear();
        if !catalog::exists(&self.connection)? {
            return Ok(());
        }
        let Some(table) = tables::find(&self.connection, &self.shape.name)? else {
            return Ok(());
        };
        self.schemas = tables::schemas(&self.connection, table.id)?;
        let positions =
            |(id, stored): (&i64, &Vec<Column>)| Ok((*id, self.shape.positions(stored)?));
        self.positions = self.schemas.iter().map(positions).collect::<Result<_>>()?;
        self.tests = self.tests(&Plan::decode(plan)?, arguments, table.id)?;
        self.files = files::readable(&self.connection, table.id)?;
        self.files
            .retain(|file| self.tests.iter().all(|test| test.may_match_file(file.id)));
        self.files.reverse();
        // Read here like all of the catalog: the scan may go on after its connection was closed.
        self.tombstones = files::tombstones(&self.connection, table.id)?;
        self.archive = match self.files.is_empty() {
            true => None,
            false => Some(settings::archive(&self.connection)?),
        };
        self.settle()
    }

    fn next(&mut self) -> Result<()> {
        if let Some(current) = &mut self.current {
            current.row += 1;
        }
        self.settle()
    }

    fn eof(&self) -> bool {
        self.current.is_none()
    }

    fn column(&mut self, column: usize, output: &mut Output) -> Result<()> {
        let current = self.current.as_mut().ok_or_else(no_row)?;
        match current.stored.get(column).copied().flatten() {
            Some(stored) => output.set(current.value(stored, &mut self.scratch)?),
            None => {
                let default = self
                    .shape
                    .columns
                    .get(column)
                    .map_or(&Owned::Null, |c| &c.default);
                output.set(Value::from(default));
            }
        }
        Ok(())
    }

    fn rowid(&self) -> Result<i64> {
        let current = self.current.as_ref().ok_or_else(no_row)?;
        let row = i64::try_from(current.group_start + current.row).unwrap_or(i64::MAX);
        Ok((current.entry.id << 32) | row)
    }
}

fn no_row() -> Error {
    Error::Internal("the scan has no current row".into())
}

impl ColumnTest {
    fn may_match_file(&self, file: i64) -> bool {
        self.ranges
            .get(&file)
            .is_none_or(|range| range.may_match(&self.test))
    }
}

impl OpenFile {
    /// Moves on to a row that counts, which may be the present one; `false` at the end of the file.
    fn settle(&mut self, tests: &[ColumnTest]) -> bool {
        loop {
            let position = self.group_start + self.row;
            if self.group >= self.file.row_groups() || position >= self.entry.published {
                return false;
            }
            let rows = self.file.rows(self.group);
            if self.row == 0 && !tests.iter().all(|test| self.may_match_group(test)) {
                self.row = rows;
            }
            if self.row >= rows {
                self.group += 1;
                self.group_start += rows;
                self.row = 0;
                self.decoded.clear();
            } else if self.tombstones.binary_search(&position).is_ok() {
                self.row += 1;
            } else {
                return true;
            }
        }
    }

    fn may_match_group(&self, test: &ColumnTest) -> bool {
        let range = || {
            let kinds = test.ranges.get(&self.entry.id)?.kinds;
            let stored = self.stored.get(test.column).copied().flatten()?;
            self.file.range(self.group, stored, kinds)
        };
        range().is_none_or(|range| range.may_match(&test.test))
    }

    fn value<'a>(&'a mut self, stored: usize, scratch: &'a mut Scratch) -> Result<Value<'a>> {
        if self.decoded.is_empty() {
            self.decoded.resize_with(self.file.columns().len(), || None);
        }
        let slot = self.decoded.get_mut(stored).ok_or_else(no_row)?;
        let decoded = match slot {
            Some(decoded) => decoded,
            None => slot.insert(self.file.decode(self.group, stored)?),
        };
        Ok(decoded.value(self.row, scratch))
    }
}
