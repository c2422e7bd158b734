//! An archive run that has its place in the catalog: what was left unfinished, then the plan's rows.

use std::time::Duration;

use rusqlite::Connection;

use super::checked::Checked;
use super::ids;
use super::layout::Layouts;
use super::mover::HotTable;
use super::pipeline::Pipeline;
use super::plan::{Plan, Rule};
use super::progress::Progress;
use super::publish::{Published, Publisher};
use super::staged;
use super::unpublished::Publishing;
use crate::catalog::files::{self, NewEntry};
use crate::catalog::tables::{self, ArchivedTable};
use crate::error::Result;
use crate::format::rows::FileRows;
use crate::format::write::{FileWriter, WrittenFile};
use crate::moving::pace::Pace;
use crate::moving::read::HotReader;
use crate::moving::run::Running;
use crate::schema::Column;
use crate::sql;
use crate::storage::Archive;
use crate::time::clock;
use crate::time::format_instant;

/// What a call came to.
#[derive(Debug, Default)]
pub struct Outcome {
    pub published: Published,
    pub skipped: u64,
    pub expired: u64,
    /// Staged files that were missing or damaged.
    pub discarded: u64,
    /// Cold rows that are hot again, so that SQLite does not hand out their ids.
    pub restored: u64,
}

/// A run that has its place in the catalog.
pub struct Started<'a> {
    pub connection: &'a Connection,
    pub rule: &'a Rule<'a>,
    pub checked: &'a Checked,
    pub archive: &'a Archive,
    pub archived: &'a ArchivedTable,
    /// Of the table's columns, in the catalog.
    pub schema: i64,
    pub run: &'a Running<'a>,
}

impl Started<'_> {
    /// Finishes what earlier runs began, and moves the rows. `outcome` grows as they move, also if it
    /// fails later.
    pub fn move_rows(&self, outcome: &mut Outcome) -> Result<()> {
        let (connection, rule) = (self.connection, self.rule);
        outcome.restored =
            ids::keep_the_lead(self.run, &rule.options.config, rule.table, self.archived)?;
        let encoding = sql::encoding(connection)?;
        let reader = HotReader::new(rule.table, encoding);
        let schemas = tables::schemas(connection, self.archived.id)?;
        let layouts = Layouts::new(rule.table, self.archived, rule.time_column, &schemas);
        let publisher = Publisher {
            hot: HotTable {
                connection,
                table: rule.table,
                rule,
                reader: &reader,
                references: &self.checked.references,
            },
            folder: &self.archive.folder,
            run: self.run,
            layouts: &layouts,
            archived: self.archived.id,
            checked: self.checked,
            batch_size: rule.options.batch_size,
        };
        let folder = &self.archive.folder;
        let staged = files::staged(connection, self.archived.id)?;
        outcome.discarded = staged::discard_damaged(connection, folder, &staged)?;
        self.finish(&publisher, &mut outcome.published)?;
        let mut plan = Plan::new(connection, rule, &reader)?;
        let staged = files::staged(connection, self.archived.id)?;
        staged::exclude(&mut plan, folder, &layouts, &staged)?;
        let planned = outcome.published.rows() + plan.rows;
        self.run.plan(planned)?;
        let moved = self.move_planned(&publisher, &reader, &mut plan, outcome);
        outcome.skipped += plan.skipped;
        outcome.published.kept += plan.kept;
        // Where SQLite has rolled the caller's transaction back, the plan's table is gone, too.
        let cleared = plan.clear();
        moved.and(cleared)
    }

    /// Reads, writes and publishes the rows of the plan.
    fn move_planned(
        &self,
        publisher: &Publisher<'_>,
        reader: &HotReader,
        plan: &mut Plan<'_>,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let (connection, rule) = (self.connection, self.rule);
        let level = rule.options.compression_level;
        let folder = self.archive.folder.clone();
        let time_column = &rule.table.columns[rule.time_column].name;
        let time = (time_column.as_str(), rule.format);
        let (names, encoding) = (reader.names(), sql::encoding(connection)?);
        let writer = FileWriter::new(folder, rule.table, time, names, encoding, level);
        let progress = Progress::new(rule.options.progress, &rule.table.name, plan.rows);
        let staged_at = (rule.options.grace_hours > 0).then(clock::stamp);
        let pipeline = Pipeline {
            publisher,
            writer: &writer,
            workers: workers(rule.options.max_workers),
            staging: staged_at.is_some(),
            progress: &progress,
            path: &|rows, sequence| self.path(rows, sequence),
            entry: &|file| self.entry(file, staged_at.as_ref()),
        };
        pipeline.run(plan, &mut outcome.published)
    }

    /// Publishes what an earlier run could not, and the staged files that are due and have rows before
    /// the cutoff.
    fn finish(&self, publisher: &Publisher<'_>, published: &mut Published) -> Result<()> {
        let waiting = staged::waiting(clock::now(), self.rule.options.grace_hours)?;
        let cutoff = format_instant(self.rule.options.cutoff);
        let unfinished = files::unfinished(self.connection, self.archived.id, &waiting, &cutoff)?;
        let unfinished = unfinished.into_iter().map(Publishing::Unfinished).collect();
        publisher.publish(unfinished, published)
    }

    fn path(&self, rows: &FileRows, sequence: usize) -> String {
        let columns = &self.rule.table.columns;
        let clashes = |column: &Column| {
            ["year", "month", "day"]
                .iter()
                .any(|key| column.name.eq_ignore_ascii_case(key))
        };
        let prefix = if columns.iter().any(clashes) {
            "archive_"
        } else {
            ""
        };
        let partition = self.rule.options.partition.folder(rows.partition, prefix);
        let name = self.archive.file_name(&self.run.run.token, sequence);
        format!("{}/{partition}/{name}", self.archived.folder)
    }

    fn entry(&self, file: WrittenFile, staged_at: Option<&String>) -> NewEntry {
        NewEntry {
            table: self.archived.id,
            schema: self.schema,
            run: self.run.run.id,
            record: file.record,
            hot_bytes: file.hot_bytes,
            staged_at: staged_at.cloned(),
            time_min: format_instant(file.time_min),
            time_max: format_instant(file.time_max),
            ranges: file.ranges,
        }
    }
}

/// How many threads write files: one core is for SQLite's thread.
fn workers(wanted: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    wanted.min(cores.saturating_sub(1).max(1))
}

/// How fast a call may work.
pub fn pace(rule: &Rule<'_>, own_transactions: bool) -> Pace {
    Pace {
        pause: Duration::from_millis(rule.options.pause_ms),
        rows_per_second: rule.options.max_rows_per_second,
        own_transactions,
    }
}
