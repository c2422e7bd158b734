//! A cold file and which of its rows count: what restoring and expiry walk through.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::Connection;

use super::columns::Shape;
use super::state::TableState;
use crate::catalog::files::{self, FileEntry};
use crate::catalog::tombstones::DeadRows;
use crate::error::{Error, Result};
use crate::format::file::OpenFile;
use crate::schema::Column;
use crate::time::canonical::MAX_LENGTH;
use crate::time::{TimeFormat, parse_iso8601};

/// A span of time: `from <= instant < to`, in microseconds since 1970 UTC.
#[derive(Debug, Clone, Copy, Default)]
pub struct Window {
    pub from: Option<i64>,
    pub to: Option<i64>,
}

impl Window {
    /// Whether all times are in it.
    pub fn is_unbounded(self) -> bool {
        self.from.is_none() && self.to.is_none()
    }

    pub fn contains(self, instant: i64) -> bool {
        self.overlaps((instant, instant))
    }

    /// Whether it has any time from the first to the last, both included.
    pub fn overlaps(self, (first, last): (i64, i64)) -> bool {
        self.from.is_none_or(|from| from <= last) && self.to.is_none_or(|to| first < to)
    }
}

/// The first and the last instant of each file of a table, by file id. A time that cannot be read
/// rules nothing out.
pub fn times(connection: &Connection, table: i64) -> Result<HashMap<i64, (i64, i64)>> {
    let instants = |(id, (first, last)): (i64, (String, String))| {
        let first = parse_iso8601(&first).unwrap_or(i64::MIN);
        (id, (first, parse_iso8601(&last).unwrap_or(i64::MAX)))
    };
    let times = files::times(connection, table)?;
    Ok(times.into_iter().map(instants).collect())
}

/// An open cold file whose rows that count are known.
pub struct LiveFile {
    pub entry: Arc<FileEntry>,
    pub file: OpenFile,
    /// The columns that it was written with.
    pub columns: Arc<Vec<Column>>,
    /// Where the columns of `cold_t` are among them.
    pub positions: Arc<Vec<Option<usize>>>,
    /// Where the column that tells a row's age is.
    time: Option<usize>,
    /// The rows that do not count.
    dead: Arc<DeadRows>,
}

impl LiveFile {
    pub fn open(
        connection: &Connection,
        state: &TableState,
        shape: &Shape,
        entry: &Arc<FileEntry>,
    ) -> Result<Self> {
        let schema = state.schemas.get(&entry.schema).ok_or_else(|| {
            Error::refused("the archive catalog is damaged: a file has no columns")
        })?;
        let file = OpenFile::open(&*state.folder(connection)?, &entry.record)?;
        let stored = file.columns().iter().map(|column| &column.name);
        if !stored.eq(schema.columns.iter().map(|column| &column.name)) {
            let reason = "its columns are not those that the catalog says it has";
            return Err(Error::damaged(file.path())(reason));
        }
        let find = |columns: &[Column]| {
            let same = |column: &Column| column.name.eq_ignore_ascii_case(&state.time_column);
            columns.iter().position(same)
        };
        let time = match find(&shape.declared) {
            Some(column) => schema.positions.get(column).copied().flatten(),
            // It was renamed or dropped since.
            None => find(&schema.columns),
        };
        Ok(Self {
            entry: Arc::clone(entry),
            file,
            columns: Arc::clone(&schema.columns),
            positions: Arc::clone(&schema.positions),
            time,
            dead: state.dead_rows(connection, entry)?,
        })
    }

    /// Whether it has the column that tells a row's age, which may have been added later.
    pub fn has_times(&self) -> bool {
        self.time.is_some()
    }

    /// Whether no row counts any more, and none is still on its way, once `more` rows are buried.
    pub fn is_empty_after(&self, more: usize) -> bool {
        self.entry.published == self.entry.record.rows && more >= self.entry.live_rows()
    }

    /// The number in the file of a row group's first row.
    pub fn group_start(&self, group: usize) -> usize {
        self.file.footer().rows(group).start
    }

    /// The rows of a group that count, numbered within the group.
    pub fn rows(&self, group: usize) -> Vec<usize> {
        let span = self.file.footer().rows(group);
        let end = self.entry.published.clamp(span.start, span.end);
        let live = self.dead.live(span.start..end);
        live.map(|row| row - span.start).collect()
    }

    /// Leaves out of `rows` of a group those whose time is not in the window, or unreadable.
    pub fn retain_times(
        &self,
        group: usize,
        rows: &mut Vec<usize>,
        window: Window,
        format: TimeFormat,
    ) -> Result<()> {
        if window.is_unbounded() || rows.is_empty() {
            return Ok(());
        }
        let Some(time) = self.time else {
            rows.clear();
            return Ok(());
        };
        let times = self.file.decode(group, time)?;
        let mut scratch = [0; MAX_LENGTH];
        rows.retain(|row| {
            let instant = format.instant(times.value(*row, &mut scratch));
            instant.is_some_and(|instant| window.contains(instant))
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_include_their_start_and_not_their_end() {
        let window = Window {
            from: Some(10),
            to: Some(20),
        };
        assert_eq!(
            [9, 10, 19, 20].map(|at| window.contains(at)),
            [false, true, true, false]
        );
        assert!(window.overlaps((0, 10)) && window.overlaps((19, 30)) && window.overlaps((0, 30)));
        assert!(!window.overlaps((0, 9)) && !window.overlaps((20, 30)));
        assert!(Window::default().contains(i64::MIN) && Window::default().is_unbounded());
    }
}
