//! Expiry: cold rows that are older than the caller wants to keep are dropped.
//!
//! A file whose rows are all old enough leaves the catalog; of others the old rows get tombstones.
//! Both happen in short write transactions. The Parquet files themselves stay until `archive_gc`
//! finds that no backup can need them any more.

use std::rc::Rc;
use std::sync::Arc;

use rusqlite::Connection;

use crate::catalog::files::{self, FileEntry};
use crate::catalog::runs::{Moved, Operation, Subject};
use crate::catalog::tables::ArchivedTable;
use crate::catalog::tombstones::Burial;
use crate::error::Result;
use crate::moving::mode::MoveMode;
use crate::moving::pace::Pace;
use crate::moving::run::{Done, Points, Running, Turn};
use crate::snapshot::columns::{Mode, Shape};
use crate::snapshot::live::{self, LiveFile, Window};
use crate::snapshot::shape;
use crate::snapshot::state::TableState;
use crate::sql;
use crate::time::{TimeFormat, format_instant};

const POINTS: Points = Points {
    begin: None,
    commit: "expire.commit",
};

/// What was dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expired {
    pub rows: u64,
    /// Files that have no more rows, and left the catalog.
    pub files: u64,
}

impl Expired {
    fn moved(self) -> Moved {
        Moved {
            rows: self.rows,
            files: self.files,
            bytes: 0,
        }
    }

    fn plus(self, more: Self) -> Self {
        Self {
            rows: self.rows + more.rows,
            files: self.files + more.files,
        }
    }
}

/// Drops the cold rows of a table whose instant is before `before`, in microseconds since 1970 UTC.
/// The archive's lock must be held. Files that are not published to their end are left alone.
pub fn expire(
    connection: &Connection,
    archived: &ArchivedTable,
    before: i64,
    batch_size: usize,
    pace: Pace,
) -> Result<Expired> {
    let Some(expiry) = Expiry::new(connection, archived, before)? else {
        return Ok(Expired::default());
    };
    let doomed = expiry.doomed()?;
    if doomed.is_empty() {
        return Ok(Expired::default());
    }
    let cutoff = format_instant(before);
    let checked_at = sql::data_version(connection)?;
    let subject = Subject {
        operation: Operation::Expire,
        table: Some(archived.id),
        name: Some(&archived.name),
        cutoff: Some(&cutoff),
    };
    let (run, ()) = Running::begin(connection, pace, checked_at, || Ok(((), subject)))?;
    run.plan(doomed.iter().map(|doomed| doomed.rows as u64).sum())?;
    let mut total = Expired::default();
    let dropped = MoveMode::for_catalog(connection).and_then(|_mode| {
        let dropping = Dropping {
            expiry: &expiry,
            run: &run,
            batch_size: pace.batch(batch_size),
        };
        dropping.drop_all(&doomed, &mut total)
    });
    run.end(total.moved(), dropped)?;
    Ok(total)
}

/// What [`expire`] would drop now.
pub fn count(connection: &Connection, archived: &ArchivedTable, before: i64) -> Result<Expired> {
    let Some(expiry) = Expiry::new(connection, archived, before)? else {
        return Ok(Expired::default());
    };
    let doomed = expiry.doomed()?;
    Ok(doomed
        .iter()
        .map(Doomed::dropped)
        .fold(Expired::default(), Expired::plus))
}

/// Which rows of a table are too old.
struct Expiry<'a> {
    connection: &'a Connection,
    state: TableState,
    shape: Rc<Shape>,
    window: Window,
    format: TimeFormat,
}

/// A file with rows to be dropped.
struct Doomed {
    entry: Arc<FileEntry>,
    /// How many.
    rows: usize,
    /// Whether that is all of them.
    whole: bool,
}

impl Doomed {
    fn dropped(&self) -> Expired {
        Expired {
            rows: self.rows as u64,
            files: u64::from(self.whole),
        }
    }
}

impl<'a> Expiry<'a> {
    /// `None` if there cannot be any.
    fn new(
        connection: &'a Connection,
        archived: &ArchivedTable,
        before: i64,
    ) -> Result<Option<Self>> {
        let Some(format) = archived.time_format else {
            return Ok(None);
        };
        let shape = Rc::new(shape::shape(connection, archived, Mode::Joined)?);
        let Some(state) = TableState::read(connection, &shape)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            connection,
            state,
            shape,
            window: Window {
                from: None,
                to: Some(before),
            },
            format,
        }))
    }

    /// The files with rows that are too old, oldest first.
    fn doomed(&self) -> Result<Vec<Doomed>> {
        let times = live::times(self.connection, self.state.table)?;
        let mut doomed = Vec::new();
        for entry in self.state.files(self.connection, &[])? {
            let Some((first, last)) = times.get(&entry.id) else {
                continue;
            };
            let finished = entry.published == entry.record.rows;
            if !finished || !self.window.contains(*first) {
                continue;
            }
            if self.window.contains(*last) {
                doomed.push(Doomed {
                    rows: entry.live_rows(),
                    entry,
                    whole: true,
                });
                continue;
            }
            let file = self.open(&entry)?;
            let mut rows = 0;
            for group in 0..file.file.row_groups() {
                rows += self.rows(&file, group)?.len();
            }
            if rows > 0 {
                doomed.push(Doomed {
                    entry,
                    rows,
                    whole: file.is_empty_after(rows),
                });
            }
        }
        Ok(doomed)
    }

    fn open(&self, entry: &Arc<FileEntry>) -> Result<LiveFile> {
        LiveFile::open(self.connection, &self.state, &self.shape, entry)
    }

    /// The rows of a group that are too old, numbered within the group.
    fn rows(&self, file: &LiveFile, group: usize) -> Result<Vec<usize>> {
        let mut rows = file.rows(group);
        file.retain_times(group, &mut rows, self.window, self.format)?;
        Ok(rows)
    }
}

/// The short transactions.
struct Dropping<'a> {
    expiry: &'a Expiry<'a>,
    run: &'a Running<'a>,
    batch_size: usize,
}

impl Dropping<'_> {
    fn drop_all(&self, doomed: &[Doomed], total: &mut Expired) -> Result<()> {
        let (whole, parts): (Vec<&Doomed>, Vec<&Doomed>) =
            doomed.iter().partition(|doomed| doomed.whole);
        let mut left = &whole[..];
        while !left.is_empty() {
            let (done, expired) = self.transaction(*total, |turn| self.remove(left, turn))?;
            left = left.get(done..).unwrap_or_default();
            *total = expired;
        }
        for doomed in parts {
            let file = self.expiry.open(&doomed.entry)?;
            for group in 0..file.file.row_groups() {
                let rows = self.expiry.rows(&file, group)?;
                let first = (doomed.entry.id, file.group_start(group));
                let mut left = &rows[..];
                while !left.is_empty() {
                    let bury = |turn| self.bury(first, left, turn);
                    let (done, expired) = self.transaction(*total, bury)?;
                    left = left.get(done..).unwrap_or_default();
                    *total = expired;
                }
            }
        }
        Ok(())
    }

    /// One short transaction. `body` says how many of what it was given it has done, and which rows
    /// and files went with that.
    fn transaction(
        &self,
        before: Expired,
        body: impl Fn(Turn) -> Result<(usize, Expired)>,
    ) -> Result<(usize, Expired)> {
        self.run.transaction(POINTS, |turn| {
            let (done, step) = body(turn)?;
            let total = before.plus(step);
            Ok(Done {
                result: (done, total),
                moved: total.moved(),
                rows: step.rows,
            })
        })
    }

    /// Takes files out of the catalog, as many as there is time for.
    fn remove(&self, doomed: &[&Doomed], turn: Turn) -> Result<(usize, Expired)> {
        let mut step = Expired::default();
        let mut done = 0;
        for file in doomed {
            if done > 0 && turn.is_over() {
                break;
            }
            files::remove(self.expiry.connection, &file.entry)?;
            step = step.plus(file.dropped());
            done += 1;
        }
        Ok((done, step))
    }

    /// Buries rows of a group, whose first has this number in the file.
    fn bury(
        &self,
        (file, first): (i64, usize),
        rows: &[usize],
        turn: Turn,
    ) -> Result<(usize, Expired)> {
        let mut burial = Burial::new(self.expiry.connection);
        let mut done = 0;
        for row in rows.iter().take(self.batch_size) {
            if done > 0 && turn.is_over() {
                break;
            }
            burial.bury(file, first + row)?;
            done += 1;
        }
        let (rows, files) = (done as u64, burial.write()?.len() as u64);
        Ok((done, Expired { rows, files }))
    }
}
