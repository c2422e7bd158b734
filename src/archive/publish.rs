//! Publishing: rows of durable files move from hot to cold in short write transactions.
//!
//! Each transaction deletes the next hot rows in the order of their file and raises the file's number
//! of published rows in the catalog by as many. So at every moment, in every snapshot, each row is
//! on exactly one side, and a run that dies is resumed from that number. Small files share a
//! transaction.

use std::collections::VecDeque;

use super::check;
use super::checked::Checked;
use super::layout::Layouts;
use super::mover::{HotTable, Mover, Tally, Target};
use super::unpublished::{Pending, Position, Publishing};
use crate::catalog::files::{self, NewEntry};
use crate::catalog::runs::Moved;
use crate::error::Result;
use crate::fault;
use crate::moving::run::{Done, Points, Running, Turn};
use crate::schema::Key;
use crate::sql::{self};
use crate::storage::Folder;

const POINTS: Points = Points {
    begin: Some("publish.begin"),
    commit: "publish.commit",
};

/// The most files that are open at a time, and that share a transaction.
const OPEN_FILES: usize = 16;

/// What publishing came to so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Published {
    /// Rows that moved, and the files and bytes that are new in the catalog.
    pub moved: Moved,
    /// Rows that stayed hot because they had changed, or must keep their id.
    pub kept: u64,
    /// Rows that were copied, and stay hot for a while.
    pub staged: u64,
    /// Files of earlier runs that left the catalog, as none of their rows could move.
    pub discarded: u64,
}

impl Published {
    /// The rows that are done, one way or the other.
    pub fn rows(&self) -> u64 {
        self.moved.rows + self.kept + self.staged
    }

    /// A new file is in the catalog.
    fn add_file(&mut self, entry: &NewEntry) {
        self.moved.files += 1;
        self.moved.bytes += entry.record.seal.bytes;
    }

    /// A file has left the catalog: none of its rows has moved.
    fn remove_file(&mut self, publishing: &Publishing) {
        match publishing {
            Publishing::New { entry, .. } => {
                self.moved.files -= 1;
                self.moved.bytes -= entry.record.seal.bytes;
            }
            Publishing::Unfinished(_) => self.discarded += 1,
        }
    }
}

/// Moves rows of one table. The connection is in `MoveMode` meanwhile.
pub struct Publisher<'a> {
    pub hot: HotTable<'a>,
    pub folder: &'a Folder,
    pub run: &'a Running<'a>,
    pub layouts: &'a Layouts,
    /// The archived table, in the catalog.
    pub archived: i64,
    pub checked: &'a Checked,
    /// The most rows that one transaction moves.
    pub batch_size: usize,
}

/// What one transaction did to one file.
struct Step {
    file: i64,
    at: Position,
    tally: Tally,
}

impl Publisher<'_> {
    /// Publishes what is left of `files`, of this run or of one that was cut off. `total` grows with
    /// each transaction, so that it is right also if a later one fails.
    pub fn publish(&self, files: Vec<Publishing>, total: &mut Published) -> Result<()> {
        let mut files = files.into_iter();
        let mut pending = VecDeque::new();
        loop {
            for publishing in files.by_ref().take(OPEN_FILES - pending.len()) {
                pending.push_back(Pending::open(publishing, self.folder, self.layouts)?);
            }
            let Some(first) = pending.front_mut() else {
                return Ok(());
            };
            if first.is_done() {
                pending.pop_front();
                fault::point("publish.done")?;
                continue;
            }
            // Here rather than while the lock is held.
            let values = !self.is_unchanged(&first.publishing)?;
            first.decode(first.at.group, values)?;
            let (steps, sum) = self.transaction(&mut pending, *total)?;
            *total = sum;
            for (file, step) in pending.iter_mut().zip(steps) {
                file.id = Some(step.file);
                file.at = step.at;
            }
        }
    }

    /// Whether the rows can be deleted by their keys alone: they have rowids, what was read was
    /// committed, and nobody has committed anything since or, if other tables may refer to them, since
    /// that was checked.
    fn is_unchanged(&self, publishing: &Publishing) -> Result<bool> {
        let (Publishing::New { read_at, .. }, Key::Rowid { .. }) =
            (publishing, &self.hot.table.key)
        else {
            return Ok(false);
        };
        if sql::reads_uncommitted(self.hot.connection)? {
            return Ok(false);
        }
        let now = sql::data_version(self.hot.connection)?;
        Ok(*read_at == now && (self.hot.references.is_empty() || self.run.checked_at == now))
    }

    /// One short transaction: moves the next rows of the first files, as many as the batch size and
    /// the clock allow. What it did is for the caller to note: it may be rolled back and tried again.
    fn transaction(
        &self,
        pending: &mut VecDeque<Pending>,
        total: Published,
    ) -> Result<(Vec<Step>, Published)> {
        self.run.transaction(POINTS, |turn| {
            self.check_schema(turn)?;
            let mut mover = Mover::new(&self.hot, turn)?;
            let mut steps = Vec::new();
            let mut sum = total;
            let mut left = self.run.pace.batch(self.batch_size);
            for file in pending.iter_mut() {
                let compare = !self.is_unchanged(&file.publishing)?;
                if left == 0 || !steps.is_empty() && (compare || turn.is_over()) {
                    break;
                }
                let step = self.step(file, &mut mover, &mut left, compare)?;
                let ended = step.at.group >= file.file.row_groups();
                if let (None, Publishing::New { entry, .. }) = (file.id, &file.publishing) {
                    sum.add_file(entry);
                }
                sum.moved.rows += step.tally.rows;
                sum.kept += step.tally.kept;
                steps.push(step);
                if !ended {
                    break;
                }
            }
            let emptied = mover.burial.write()?;
            for (file, step) in pending.iter().zip(&steps) {
                if emptied.contains(&step.file) {
                    sum.remove_file(&file.publishing);
                }
            }
            Ok(Done {
                moved: sum.moved,
                rows: sum.rows() - total.rows(),
                result: (steps, sum),
            })
        })
    }

    /// Puts files into the catalog whose rows stay hot for now.
    pub fn stage(&self, entries: &[NewEntry], total: &mut Published) -> Result<()> {
        *total = self.run.transaction(POINTS, |turn| {
            self.check_schema(turn)?;
            let mut sum = *total;
            for entry in entries {
                files::insert(self.hot.connection, entry)?;
                sum.add_file(entry);
                sum.staged += entry.record.rows as u64;
            }
            fault::point("publish.catalog")?;
            Ok(Done {
                moved: sum.moved,
                rows: sum.rows() - total.rows(),
                result: sum,
            })
        })?;
        Ok(())
    }

    /// Whoever wrote meanwhile may have changed the table, or what refers to it.
    fn check_schema(&self, turn: Turn) -> Result<()> {
        if turn.quiet {
            return Ok(());
        }
        let (connection, table) = (self.hot.connection, self.hot.table);
        let same = || Ok(self.checked.all == check::references(connection, table)?);
        self.run.check_schema(table, self.archived, same)
    }

    /// Moves the next rows of one file, at most `left`. With `compare` it stays within the row group
    /// that has been decoded.
    fn step(
        &self,
        pending: &mut Pending,
        mover: &mut Mover<'_>,
        left: &mut usize,
        compare: bool,
    ) -> Result<Step> {
        let file = match (pending.id, &pending.publishing) {
            (Some(id), _) => id,
            (None, Publishing::New { entry, .. }) => files::insert(self.hot.connection, entry)?,
            (None, Publishing::Unfinished(entry)) => entry.id,
        };
        mover.tally = Tally::default();
        let mut at = pending.at;
        let comparable = pending.comparable;
        while *left > 0 && at.group < pending.file.row_groups() {
            let group = pending.decode(at.group, compare)?;
            let target = Target {
                file,
                group_start: at.group_start,
            };
            let rows = at.row..group.rows.min(at.row.saturating_add(*left));
            let reached = match compare {
                true => mover.move_compared(target, group, comparable, rows.clone())?,
                false => mover.move_unchanged(target, group, rows.clone())?,
            };
            *left -= reached - at.row;
            at = at.advance(reached - at.row, group.rows);
            if compare || reached < rows.end || mover.turn.is_over() {
                break;
            }
        }
        fault::point("publish.catalog")?;
        let before = pending.at.row_in_file();
        files::set_published(self.hot.connection, file, before, at.row_in_file())?;
        Ok(Step {
            file,
            at,
            tally: mover.tally,
        })
    }
}
