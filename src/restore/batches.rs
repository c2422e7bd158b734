//! The short transactions that move rows from one side to the other.

use std::sync::Arc;

use rusqlite::types::Value as Owned;
use rusqlite::{Connection, OptionalExtension};

use super::insert::{Inserted, Inserter};
use super::options::{OnConflict, Options};
use super::rows::Rows;
use super::select::Selection;
use super::survey::Survey;
use super::target::Target;
use crate::catalog::files::FileEntry;
use crate::catalog::runs::Moved;
use crate::catalog::tables::ArchivedTable;
use crate::catalog::tombstones::Burial;
use crate::error::{Error, Result};
use crate::moving::run::{Done, Points, Running, Turn};
use crate::schema::Table;
use crate::snapshot::live::LiveFile;

const POINTS: Points = Points {
    begin: None,
    commit: "restore.commit",
};

/// What a call came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome {
    /// Rows that are hot again.
    pub rows: u64,
    /// Files that have no more rows, and left the catalog.
    pub files: u64,
    /// Rows that a constraint of the hot table kept cold, or that took the place of a hot row.
    pub conflicts: u64,
    /// Rows whose rowid, which nobody chose, another row has now.
    pub renumbered: u64,
}

impl Outcome {
    /// As the history keeps it.
    pub fn moved(self) -> Moved {
        Moved {
            rows: self.rows,
            files: self.files,
            bytes: 0,
        }
    }
}

/// What was asked for, and of which table.
pub struct Call<'a> {
    pub connection: &'a Connection,
    pub archived: &'a ArchivedTable,
    pub hot: &'a Table,
    pub options: &'a Options,
}

/// A call that has its place in the history.
pub struct Started<'a> {
    pub call: &'a Call<'a>,
    pub run: &'a Running<'a>,
}

/// The rows of a row group that come back.
struct Batch<'a> {
    file: &'a LiveFile,
    group_start: usize,
    decoded: &'a Rows,
    /// Those that are left, numbered within the group.
    rows: &'a [usize],
}

/// What one transaction did.
struct Step {
    /// Rows that were looked at.
    seen: usize,
    outcome: Outcome,
}

impl Started<'_> {
    /// Moves the rows. `total` grows with each transaction, so that it is right also if a later one
    /// fails.
    pub fn restore(&self, total: &mut Outcome) -> Result<()> {
        let Call {
            connection,
            archived,
            hot,
            options,
        } = self.call;
        let selection = Selection::new(connection, archived, options)?;
        let target = Target::new(connection, hot, archived, options.on_conflict)?;
        let outcome = self.restore_selected(&selection, &target, total);
        let cleared = selection.clear();
        outcome.and(cleared)
    }

    fn restore_selected(
        &self,
        selection: &Selection<'_>,
        target: &Target<'_>,
        total: &mut Outcome,
    ) -> Result<()> {
        let Call { hot, options, .. } = self.call;
        let looks = [OnConflict::Abort, OnConflict::Renumber];
        let abort = Some(options.on_conflict).filter(|action| looks.contains(action));
        let survey = Survey::new(selection, target, abort)?;
        if let Some(first) = survey.first {
            let other = match survey.twins {
                0 => "a hot row",
                twins if twins == survey.conflicts => "another cold row",
                _ => "a hot row or another cold row",
            };
            return Err(Error::refused(format!(
                "{} of {} rows of {} cannot come back, as {other} has the same key, the first is \
                 {first}; nothing was restored; see option on_conflict, which can be ignore, \
                 replace or renumber",
                survey.conflicts, survey.rows, hot.name
            )));
        }
        self.run.plan(survey.rows)?;
        for entry in &selection.files {
            self.restore_file(selection, target, entry, total)
                .map_err(|error| self.with_count(error, *total))?;
        }
        Ok(())
    }

    /// A refusal that says how many rows came back before it.
    fn with_count(&self, error: Error, total: Outcome) -> Error {
        match error {
            Error::Refused(reason) if self.run.pace.own_transactions => Error::refused(format!(
                "{reason}; {} rows were restored before and stay so",
                total.rows
            )),
            Error::Refused(reason) => Error::refused(format!("{reason}; nothing was restored")),
            other => other,
        }
    }

    fn restore_file(
        &self,
        selection: &Selection<'_>,
        target: &Target<'_>,
        entry: &Arc<FileEntry>,
        total: &mut Outcome,
    ) -> Result<()> {
        let file = selection.open(entry)?;
        let mut wanted = target.keys();
        wanted.extend(&target.columns);
        wanted.sort_unstable();
        wanted.dedup();
        for group in 0..file.file.row_groups() {
            let rows = selection.rows(&file, group)?;
            if rows.is_empty() {
                continue;
            }
            // Here rather than while the lock is held.
            let decoded = Rows::decode(&file, &selection.shape, group, &wanted)?;
            let mut left = &rows[..];
            while !left.is_empty() {
                let batch = Batch {
                    file: &file,
                    group_start: file.group_start(group),
                    decoded: &decoded,
                    rows: left,
                };
                let step = self.transaction(target, &batch, *total)?;
                left = left.get(step.seen..).unwrap_or_default();
                total.rows += step.outcome.rows;
                total.files += step.outcome.files;
                total.conflicts += step.outcome.conflicts;
                total.renumbered += step.outcome.renumbered;
            }
        }
        Ok(())
    }

    /// One short transaction: moves the next rows, as many as the batch size and the clock allow.
    /// What it did is for the caller to note: it may be rolled back and tried again.
    fn transaction(&self, target: &Target<'_>, batch: &Batch<'_>, before: Outcome) -> Result<Step> {
        let connection = self.call.connection;
        self.run.transaction(POINTS, |turn| {
            if !turn.quiet {
                self.run
                    .check_schema(self.call.hot, self.call.archived.id, || Ok(true))?;
            }
            let sequence = sequence(connection, target.table)?;
            let step = self.insert(target, batch, turn)?;
            keep_sequence(connection, target.table, sequence.as_ref())?;
            let moved = Moved {
                rows: before.rows + step.outcome.rows,
                files: before.files + step.outcome.files,
                bytes: 0,
            };
            let rows = step.outcome.rows;
            Ok(Done {
                result: step,
                moved,
                rows,
            })
        })
    }

    /// Inserts rows and buries their copies.
    fn insert(&self, target: &Target<'_>, batch: &Batch<'_>, turn: Turn) -> Result<Step> {
        let options = self.call.options;
        let mut inserter = Inserter::new(target, options.on_conflict)?;
        let mut burial = Burial::new(self.call.connection);
        let mut step = Step {
            seen: 0,
            outcome: Outcome::default(),
        };
        for row in batch
            .rows
            .iter()
            .take(options.pace.batch(options.batch_size))
        {
            if step.seen > 0 && turn.is_over() {
                break;
            }
            let inserted = inserter.insert(batch.decoded, *row)?;
            if inserted != Inserted::Ignored {
                // Fails if it has come back before.
                burial.bury(batch.file.entry.id, batch.group_start + row)?;
                step.outcome.rows += 1;
            }
            step.outcome.conflicts += u64::from(inserted != Inserted::Alone);
            step.seen += 1;
        }
        step.outcome.files = burial.write()?.len() as u64;
        step.outcome.renumbered = inserter.renumbered;
        Ok(step)
    }
}

/// What SQLite knows of the ids that an AUTOINCREMENT table has handed out.
fn sequence(connection: &Connection, table: &Table) -> Result<Option<Owned>> {
    if !table.autoincrement {
        return Ok(None);
    }
    let sql = "SELECT seq FROM main.sqlite_sequence WHERE name = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let sequence = statement.query_row([&table.name], |row| row.get(0));
    Ok(sequence.optional()?)
}

/// Puts that back, should an application have set it lower than an id that came back.
fn keep_sequence(connection: &Connection, table: &Table, before: Option<&Owned>) -> Result<()> {
    let after = sequence(connection, table)?;
    if after.as_ref() == before {
        return Ok(());
    }
    match before {
        Some(before) => connection.execute(
            "UPDATE main.sqlite_sequence SET seq = ?2 WHERE name = ?1",
            (&table.name, before),
        )?,
        None => connection.execute(
            "DELETE FROM main.sqlite_sequence WHERE name = ?1",
            [&table.name],
        )?,
    };
    Ok(())
}
