//! Which cold rows come back.

use std::rc::Rc;
use std::sync::Arc;

use rusqlite::Connection;

use super::options::Options;
use crate::catalog::files::FileEntry;
use crate::catalog::tables::ArchivedTable;
use crate::error::{Error, Result};
use crate::schema::condition;
use crate::snapshot::columns::{Mode, ROW, Shape};
use crate::snapshot::live::{self, LiveFile, Window};
use crate::snapshot::shape;
use crate::snapshot::state::TableState;
use crate::snapshot::statements::cold_name;
use crate::time::TimeFormat;

/// The rows that match the option `where`, by the numbers that `cold_t` gives them. The table is
/// emptied, never dropped: DROP TABLE fails while the caller's own statement reads a table.
const PLAN: &str = "temp._archive_restore";

/// The rows of a table that a call restores.
pub struct Selection<'a> {
    connection: &'a Connection,
    state: TableState,
    pub shape: Rc<Shape>,
    window: Window,
    format: TimeFormat,
    /// Whether only the rows in the plan are meant.
    planned: bool,
    /// The files that may have such rows, oldest first.
    pub files: Vec<Arc<FileEntry>>,
}

impl<'a> Selection<'a> {
    /// Reads the catalog, and finds the rows that match the option `where`.
    pub fn new(
        connection: &'a Connection,
        archived: &ArchivedTable,
        options: &Options,
    ) -> Result<Self> {
        let never = || Error::refused(format!("{} has never been archived", archived.name));
        let shape = Rc::new(shape::shape(connection, archived, Mode::Joined)?);
        let state = TableState::read(connection, &shape)?.ok_or_else(never)?;
        let window = options.window;
        let format = match archived.time_format {
            Some(format) => format,
            None if window.is_unbounded() => TimeFormat::Iso8601,
            None => {
                return Err(Error::refused(
                    "the archive catalog is damaged: the time format is unknown; leave out the \
                     options from and to",
                ));
            }
        };
        let mut files = state.files(connection, &[])?;
        if !window.is_unbounded() {
            let times = live::times(connection, state.table)?;
            files.retain(|file| {
                let times = times.get(&file.id);
                times.is_none_or(|times| window.overlaps(*times))
            });
        }
        let selection = Self {
            connection,
            state,
            shape,
            window,
            format,
            planned: options.condition.is_some(),
            files,
        };
        selection.plan(options)?;
        Ok(selection)
    }

    fn plan(&self, options: &Options) -> Result<()> {
        if options.condition.is_none() {
            return Ok(());
        }
        self.connection.execute_batch(&format!(
            "CREATE TABLE IF NOT EXISTS {PLAN} (row INTEGER PRIMARY KEY); DELETE FROM {PLAN};"
        ))?;
        self.connection.execute(
            &format!(
                "INSERT INTO {PLAN} SELECT t.{ROW} FROM {} AS t WHERE {}",
                cold_name(&self.shape.name),
                condition::sql(options.condition.as_deref()),
            ),
            [],
        )?;
        Ok(())
    }

    /// Forgets the rows.
    pub fn clear(&self) -> Result<()> {
        if self.planned {
            self.connection
                .execute(&format!("DELETE FROM {PLAN}"), [])?;
        }
        Ok(())
    }

    pub fn open(&self, entry: &Arc<FileEntry>) -> Result<LiveFile> {
        let file = LiveFile::open(self.connection, &self.state, &self.shape, entry)?;
        if !self.window.is_unbounded() && !file.has_times() {
            return Err(Error::refused(format!(
                "{} was written before there was a column {}; say which rows are meant with option \
                 where instead of from and to",
                file.file.path().display(),
                self.state.time_column
            )));
        }
        Ok(file)
    }

    /// The rows of a group that come back, numbered within the group.
    pub fn rows(&self, file: &LiveFile, group: usize) -> Result<Vec<usize>> {
        let mut rows = file.rows(group);
        if self.planned && !rows.is_empty() {
            let planned = self.planned_rows(file, group)?;
            rows.retain(|row| planned.binary_search(row).is_ok());
        }
        file.retain_times(group, &mut rows, self.window, self.format)?;
        Ok(rows)
    }

    /// The rows of a group that match the option `where`, in ascending order.
    fn planned_rows(&self, file: &LiveFile, group: usize) -> Result<Vec<usize>> {
        let span = file.file.footer().rows(group);
        let first = file.entry.id << 32;
        let sql = format!(
            "SELECT row - ?1 FROM {PLAN} WHERE row BETWEEN ?1 + ?2 AND ?1 + ?3 - 1 ORDER BY row"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map((first, span.start, span.end), |row| {
            Ok(row.get::<_, usize>(0)?.saturating_sub(span.start))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
