//! One call of `archive_restore`: all steps in order.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use rusqlite::types::Value as Owned;
use rusqlite::{Connection, OptionalExtension};
use serde_json::{Value as Json, json};

use super::insert::{Inserted, Inserter, Probe, Rows};
use super::options::{OnConflict, Options};
use super::select::{Selection, cold_name};
use super::target::Target;
use crate::attach;
use crate::catalog;
use crate::catalog::files::{self, FileEntry};
use crate::catalog::runs::{self, Moved, Operation, Run, Subject};
use crate::catalog::tables::{self, ArchivedTable};
use crate::cleanup;
use crate::cold::live::LiveFile;
use crate::condition;
use crate::error::{Error, Result};
use crate::fault;
use crate::settings;
use crate::sql::{self, MoveMode, unquote, write_transaction};
use crate::sqlite::panic::guard;
use crate::table::{Column, Table};
use crate::value::Value;

/// What a call came to.
#[derive(Debug, Clone, Copy, Default)]
struct Outcome {
    /// Rows that are hot again.
    rows: u64,
    /// Files that have no more rows, and left the catalog.
    files: u64,
    /// Rows that a constraint of the hot table kept cold, or that took the place of a hot row.
    conflicts: u64,
    /// Rows whose rowid, which nobody chose, another row has now.
    renumbered: u64,
}

impl Outcome {
    fn moved(self) -> Moved {
        Moved {
            rows: self.rows,
            files: self.files,
            bytes: 0,
        }
    }
}

/// `archive_restore(table [, options])`
pub fn archive_restore(connection: &Connection, arguments: &[Value<'_>]) -> Result<Json> {
    let start = Instant::now();
    let [table, rest @ ..] = arguments else {
        return Err(Error::Internal("too few arguments".into()));
    };
    let archived = find_archived(connection, *table)?;
    let hot = find_hot(connection, &archived)?;
    let options = Options::new(connection, rest.first().copied().unwrap_or(Value::Null))?;
    if options.condition.is_some() {
        attach::attach_table(connection, &archived.name)?;
        let source = cold_name(&archived.name);
        condition::check(connection, &source, options.condition.as_deref())?;
    }
    let call = Call {
        connection,
        archived: &archived,
        hot: &hot,
        options: &options,
    };
    let outcome = match options.dry_run {
        true => call.dry_run()?,
        false => call.run()?,
    };
    Ok(json!({
        "table": archived.name,
        "rows": outcome.rows,
        "files": outcome.files,
        "conflicts": outcome.conflicts,
        "renumbered_rows": outcome.renumbered,
        "cold_rows": files::cold_rows(connection, archived.id)?,
        "dry_run": options.dry_run,
        "elapsed_ms": u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
    }))
}

/// Finds the archived table that the caller means.
fn find_archived(connection: &Connection, argument: Value<'_>) -> Result<ArchivedTable> {
    let Value::Text(text) = argument else {
        return Err(Error::refused("the table's name must be text"));
    };
    let name = unquote(text);
    let found = match catalog::exists(connection)? {
        true => tables::find(connection, &name)?,
        false => None,
    };
    found.ok_or_else(|| Error::refused(format!("{name} has never been archived")))
}

/// Finds the table that the rows go back to.
fn find_hot(connection: &Connection, archived: &ArchivedTable) -> Result<Table> {
    let name = &archived.name;
    let sql = "SELECT type, sql FROM main.sqlite_schema
               WHERE name = ?1 COLLATE NOCASE AND type IN ('table', 'view')";
    let found: Option<(String, bool)> = connection
        .query_row(sql, [name], |row| {
            Ok((row.get(0)?, catalog::is_virtual(row.get_ref(1)?)))
        })
        .optional()?;
    match found {
        Some((kind, false)) if kind == "table" => {}
        Some(_) => {
            return Err(Error::refused(format!(
                "{name} is a view or a virtual table now; rows can only go back to an ordinary \
                 table; rename it, and create the table {name} again"
            )));
        }
        None => {
            let columns = tables::schemas(connection, archived.id)?.pop_last();
            let columns = columns.map(|(_, columns)| columns).unwrap_or_default();
            return Err(Error::refused(format!(
                "there is no table {name} for the rows to go back to; create it again with the \
                 columns {}; its cold rows stay readable as cold_{name}",
                visible(&columns)
            )));
        }
    }
    Table::find(connection, name)?.ok_or_else(|| Error::refused(format!("no such table: {name}")))
}

fn visible(columns: &[Column]) -> String {
    let names = columns.iter().map(|column| column.name.as_str());
    let names: Vec<&str> = names
        .filter(|name| !name.starts_with(catalog::PREFIX))
        .collect();
    names.join(", ")
}

/// What was asked for, and of which table.
struct Call<'a> {
    connection: &'a Connection,
    archived: &'a ArchivedTable,
    hot: &'a Table,
    options: &'a Options,
}

impl Call<'_> {
    /// Counts what would come back.
    fn dry_run(&self) -> Result<Outcome> {
        let selection = Selection::new(self.connection, self.archived, self.options)?;
        let target = Target::new(self.connection, self.hot)?;
        let survey = Survey::new(&selection, &target, true)?;
        selection.clear()?;
        let conflicts = survey.conflicts;
        let (rows, files) = match self.options.on_conflict {
            OnConflict::Replace => (survey.rows, survey.emptied),
            _ => (survey.rows - conflicts, survey.emptied_alone),
        };
        Ok(Outcome {
            rows,
            files,
            conflicts,
            renumbered: 0,
        })
    }

    /// Moves rows. An error leaves those hot that were committed before it; inside the caller's
    /// transaction it leaves nothing.
    fn run(&self) -> Result<Outcome> {
        settings::check_writable(self.connection)?;
        if self.connection.is_autocommit() {
            return self.run_locked(true);
        }
        self.connection
            .execute_batch("SAVEPOINT sqlite_cold_restore")?;
        let outcome = guard(|| self.run_locked(false));
        self.connection.execute_batch(match outcome {
            Ok(_) => "RELEASE sqlite_cold_restore",
            Err(_) => "ROLLBACK TO sqlite_cold_restore; RELEASE sqlite_cold_restore",
        })?;
        outcome
    }

    fn run_locked(&self, own: bool) -> Result<Outcome> {
        let connection = self.connection;
        catalog::ensure(connection)?;
        let archive = settings::archive(connection)?;
        let _lock = archive.lock()?;
        if own {
            cleanup::bury_dead_runs(connection, &archive)?;
        }
        let checked_at = sql::data_version(connection)?;
        let (run, schema_version) = write_transaction(connection, || {
            // From here on the catalog and the schema are known: until now they could change.
            let found = Table::find(connection, &self.hot.name)?;
            let known = tables::find(connection, &self.archived.name)?;
            if found.as_ref() != Some(self.hot)
                || known.map(|table| table.id) != Some(self.archived.id)
            {
                return Err(Error::refused(format!(
                    "another connection has just changed the schema of {}; call it again",
                    self.hot.name
                )));
            }
            let subject = Subject {
                operation: Operation::Restore,
                table: Some(self.archived.id),
                name: Some(&self.archived.name),
                cutoff: None,
            };
            let run = runs::begin(connection, subject)?;
            Ok((run, sql::schema_version(connection)?))
        })?;
        let mut total = Outcome::default();
        let restored = Started {
            call: self,
            run: &run,
            checked_at,
            schema_version,
            own,
        }
        .restore(&mut total);
        let message = restored.as_ref().err().map(ToString::to_string);
        let ended = write_transaction(connection, || {
            runs::end(connection, &run, total.moved(), message.as_deref())
        });
        restored.and(ended)?;
        Ok(total)
    }
}

/// What is to come, found out before anything moves; that also shows that all files are there.
#[derive(Default)]
struct Survey {
    rows: u64,
    /// Rows that a hot row has a key of, and what the first of them is called.
    conflicts: u64,
    first: Option<String>,
    /// Files that would have no more rows, if conflicts are replaced, and if they stay cold.
    emptied: u64,
    emptied_alone: u64,
}

impl Survey {
    fn new(selection: &Selection<'_>, target: &Target<'_>, probe: bool) -> Result<Self> {
        let mut survey = Self::default();
        let keys = target.keys();
        let mut probe = probe.then(|| Probe::new(target)).transpose()?;
        for entry in &selection.files {
            let file = selection.open(entry)?;
            let (mut found, mut conflicts) = (0_usize, 0_u64);
            for group in 0..file.file.row_groups() {
                let rows = selection.rows(&file, group)?;
                found += rows.len();
                let Some(probe) = probe.as_mut().filter(|_| !rows.is_empty()) else {
                    continue;
                };
                let decoded = Rows::decode(&file, &selection.shape, group, &keys)?;
                for row in rows {
                    if let Some(name) = probe.conflict(&decoded, row)? {
                        conflicts += 1;
                        survey.first.get_or_insert(name);
                    }
                }
            }
            survey.rows += found as u64;
            survey.conflicts += conflicts;
            let emptied = found > 0 && file.is_empty_after(found);
            survey.emptied += u64::from(emptied);
            survey.emptied_alone += u64::from(emptied && conflicts == 0);
        }
        Ok(survey)
    }
}

/// A call that has its place in the history.
struct Started<'a> {
    call: &'a Call<'a>,
    run: &'a Run,
    /// `sql::data_version` when it began.
    checked_at: i64,
    /// `sql::schema_version` when the table was looked at.
    schema_version: i64,
    own: bool,
}

/// The rows of a row group that come back.
struct Batch<'a> {
    file: &'a LiveFile,
    group_start: usize,
    decoded: &'a Rows,
    /// Those that are left, numbered within the group.
    rows: &'a [usize],
    /// How many of the file's have come back before.
    restored: usize,
}

/// What one transaction did.
struct Step {
    /// Rows that were looked at.
    seen: usize,
    outcome: Outcome,
}

impl Started<'_> {
    fn restore(&self, total: &mut Outcome) -> Result<()> {
        let Call {
            connection,
            archived,
            hot,
            options,
        } = self.call;
        let selection = Selection::new(connection, archived, options)?;
        let target = Target::new(connection, hot)?;
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
        let Call {
            connection,
            hot,
            options,
            ..
        } = self.call;
        let abort = options.on_conflict == OnConflict::Abort;
        let survey = Survey::new(selection, target, abort)?;
        if let Some(first) = survey.first {
            return Err(Error::refused(format!(
                "{} of {} rows of {} cannot come back, as a hot row has the same key, the first is \
                 {first}; nothing was restored; see option on_conflict, which can be ignore or \
                 replace",
                survey.conflicts, survey.rows, hot.name
            )));
        }
        write_transaction(connection, || runs::plan(connection, self.run, survey.rows))?;
        let columns = tables::schemas(connection, self.call.archived.id)?;
        let columns: HashMap<i64, Vec<Column>> = columns.into_iter().collect();
        let _mode = MoveMode::enter(connection)?;
        for entry in &selection.files {
            self.restore_file(selection, target, entry, &columns, total)
                .map_err(|error| self.with_count(error, *total))?;
        }
        Ok(())
    }

    /// A refusal that says how many rows came back before it.
    fn with_count(&self, error: Error, total: Outcome) -> Error {
        match error {
            Error::Refused(reason) if self.own => Error::refused(format!(
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
        columns: &HashMap<i64, Vec<Column>>,
        total: &mut Outcome,
    ) -> Result<()> {
        let file = selection.open(entry)?;
        let stored = columns.get(&entry.schema).map_or(&[][..], Vec::as_slice);
        let mut wanted = target.keys();
        wanted.extend(&target.columns);
        wanted.sort_unstable();
        wanted.dedup();
        let mut restored = 0;
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
                    restored,
                };
                let step = self.transaction(target, &batch, stored, *total)?;
                left = left.get(step.seen..).unwrap_or_default();
                restored += usize::try_from(step.outcome.rows).unwrap_or(usize::MAX);
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
    fn transaction(
        &self,
        target: &Target<'_>,
        batch: &Batch<'_>,
        stored: &[Column],
        before: Outcome,
    ) -> Result<Step> {
        let (connection, options) = (self.call.connection, self.call.options);
        let mut began = Instant::now();
        let mut quiet = true;
        let step = write_transaction(connection, || {
            began = Instant::now();
            quiet = self.checked_at == sql::data_version(connection)?;
            if !quiet && sql::schema_version(connection)? != self.schema_version {
                return Err(Error::refused(
                    "another connection changed the schema during the run; call it again",
                ));
            }
            let deadline = options.pace.deadline(began, quiet);
            let sequence = sequence(connection, target.table)?;
            let mut step = self.insert(target, batch, deadline)?;
            keep_sequence(connection, target.table, sequence.as_ref())?;
            let restored = usize::try_from(step.outcome.rows).unwrap_or(usize::MAX);
            if batch
                .file
                .is_empty_after(batch.restored.saturating_add(restored))
            {
                files::remove(connection, &batch.file.entry, stored)?;
                step.outcome.files = 1;
            }
            let moved = Moved {
                rows: before.rows + step.outcome.rows,
                files: before.files + step.outcome.files,
                bytes: 0,
            };
            runs::advance(connection, self.run.id, moved)?;
            fault::point("restore.commit")?;
            Ok(step)
        })?;
        let pace = &options.pace;
        pace.give_way(began.elapsed(), quiet, step.outcome.rows);
        Ok(step)
    }

    /// Inserts rows and buries their copies.
    fn insert(
        &self,
        target: &Target<'_>,
        batch: &Batch<'_>,
        deadline: Option<Instant>,
    ) -> Result<Step> {
        let options = self.call.options;
        let mut inserter = Inserter::new(target, options.on_conflict)?;
        let mut bury = files::bury(self.call.connection)?;
        let mut step = Step {
            seen: 0,
            outcome: Outcome::default(),
        };
        for row in batch
            .rows
            .iter()
            .take(options.pace.batch(options.batch_size))
        {
            if step.seen > 0 && deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                break;
            }
            let inserted = inserter.insert(batch.decoded, *row)?;
            if inserted != Inserted::Ignored {
                // A second tombstone for the same row is an error: it has come back before.
                if bury.execute((batch.file.entry.id, batch.group_start + row))? != 1 {
                    return Err(Error::refused(
                        "an authorizer is in the way of the archive catalog",
                    ));
                }
                step.outcome.rows += 1;
            }
            step.outcome.conflicts += u64::from(inserted != Inserted::Alone);
            step.seen += 1;
        }
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
