//! One call of `archive_table`: all steps in order.

use std::fs::File;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::{Value as Json, json};

use super::check::{self, Reference};
use super::expire;
use super::mover::HotTable;
use super::options::{self, Options};
use super::pending::Publishing;
use super::pipeline::Pipeline;
use super::plan::{FileRows, Plan, Rule};
use super::progress::Progress;
use super::publish::{Published, Publisher};
use super::read::HotReader;
use super::write::{FileWriter, WrittenFile};
use crate::catalog::files::NewEntry;
use crate::catalog::runs::{self, Moved, Operation, Run, Subject};
use crate::catalog::{self, files, tables};
use crate::cleanup;
use crate::error::{Error, Result};
use crate::fault;
use crate::options::Object;
use crate::pace::Pace;
use crate::settings::{self, Config};
use crate::sql::{self, MoveMode, write_transaction};
use crate::sqlite::panic::guard;
use crate::storage::{self, Archive, folder_name};
use crate::stored::ROWID_COLUMN;
use crate::table::{Column, Table, columns_to_json};
use crate::time::{TimeFormat, clock, format_instant};
use crate::value::Value;

/// What a call came to.
#[derive(Debug, Default)]
struct Outcome {
    published: Published,
    skipped: u64,
    expired: u64,
}

/// `archive_table(table, hot_days [, options])`
pub fn archive_table(connection: &Connection, arguments: &[Value<'_>]) -> Result<Json> {
    let start = Instant::now();
    let [table, hot_days, rest @ ..] = arguments else {
        return Err(Error::Internal("too few arguments".into()));
    };
    let table = check::find_table(connection, *table)?;
    let options = Object::parse(
        rest.first().copied().unwrap_or(Value::Null),
        &options::KNOWN,
    )?;
    let options = Options::new(connection, *hot_days, &options, 0)?;
    let time_column = check::time_column(&table, &options)?;
    let format = check::time_format(connection, &table, time_column, &options)?;
    let rule = Rule {
        table: &table,
        time_column,
        // Without a single time there is nothing to archive, whatever the format.
        format: format.unwrap_or(TimeFormat::Iso8601),
        options: &options,
    };
    rule.check_condition(connection)?;
    let references = Checked::new(connection, &rule)?;
    let outcome = match options.dry_run {
        true => dry_run(connection, &rule)?,
        false => run(connection, &rule, &references)?,
    };
    Ok(json!({
        "table": table.name,
        "cutoff": format_instant(options.cutoff),
        "rows": outcome.published.moved.rows,
        "files": outcome.published.moved.files,
        "parquet_bytes": outcome.published.moved.bytes,
        "skipped_rows": outcome.skipped,
        "kept_rows": outcome.published.kept,
        "expired_rows": outcome.expired,
        "staged": 0,
        "dry_run": options.dry_run,
        "elapsed_ms": u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
    }))
}

/// Foreign keys that no row which goes is referred to by, at the time of the check.
struct Checked {
    /// All that point at the table.
    all: Vec<Reference>,
    /// Those that count: none if the caller says so.
    references: Vec<Reference>,
    /// `sql::data_version` before the check.
    at: i64,
}

impl Checked {
    fn new(connection: &Connection, rule: &Rule<'_>) -> Result<Self> {
        let at = sql::data_version(connection)?;
        let all = check::references(connection, rule.table)?;
        let references = match rule.options.ignore_foreign_keys {
            true => Vec::new(),
            false => all.clone(),
        };
        rule.check_references(connection, &references)?;
        Ok(Self {
            all,
            references,
            at,
        })
    }
}

/// Counts what would move; `files` is the number of folders it would go to.
fn dry_run(connection: &Connection, rule: &Rule<'_>) -> Result<Outcome> {
    let reader = HotReader::new(rule.table, sql::encoding(connection)?);
    let plan = Plan::new(connection, rule, &reader)?;
    plan.clear()?;
    Ok(Outcome {
        published: Published {
            moved: Moved {
                rows: plan.rows,
                files: plan.partitions() as u64,
                bytes: 0,
            },
            kept: plan.kept,
        },
        skipped: plan.skipped,
        expired: expire_rows(connection, rule, None)?,
    })
}

/// Moves rows. An error leaves what was published before it published, and nothing else; inside
/// the caller's transaction it leaves nothing.
fn run(connection: &Connection, rule: &Rule<'_>, checked: &Checked) -> Result<Outcome> {
    settings::check_writable(connection)?;
    // Both fail before anything is written if the folder has no place or cannot be made.
    let folder = settings::folder(connection, &Config::read(connection)?)?;
    storage::prepare(folder.root())?;
    let own_transactions = connection.is_autocommit();
    let mut trace = None;
    if own_transactions {
        let outcome = run_traced(connection, rule, checked, &mut trace);
        return outcome.inspect_err(|_| remove_trace(connection, trace));
    }
    connection.execute_batch("SAVEPOINT sqlite_cold_run")?;
    let outcome = guard(|| run_traced(connection, rule, checked, &mut trace));
    connection.execute_batch(match outcome {
        Ok(_) => "RELEASE sqlite_cold_run",
        Err(_) => "ROLLBACK TO sqlite_cold_run; RELEASE sqlite_cold_run",
    })?;
    outcome.inspect_err(|_| remove_trace(connection, trace))
}

/// What a run leaves behind if it fails: its files, which nobody else may touch while the lock is
/// held.
struct Trace {
    archive: Archive,
    run: Run,
    _lock: File,
}

/// Removes what was written but not published. It is only a matter of space, and the error to
/// report is the one that ended the run.
fn remove_trace(connection: &Connection, trace: Option<Trace>) {
    if let Some(trace) = trace {
        let _ = cleanup::remove_unpublished(connection, &trace.archive, &[trace.run]);
    }
}

fn run_traced(
    connection: &Connection,
    rule: &Rule<'_>,
    checked: &Checked,
    trace: &mut Option<Trace>,
) -> Result<Outcome> {
    // A savepoint that `run` opened is a transaction, too.
    let own = connection.is_autocommit();
    catalog::ensure(connection)?;
    let archive = settings::archive(connection)?;
    let lock = archive.lock()?;
    if own {
        cleanup::bury_dead_runs(connection, &archive)?;
    }
    let table = rule.table;
    let folder = folder_name(&table.name);
    let (id, schema, run, schema_version) = write_transaction(connection, || {
        // From here on the schema is known: until now it could change after it was read.
        let found = Table::find(connection, &table.name)?;
        if found.as_ref() != Some(table) || checked.all != check::references(connection, table)? {
            return Err(Error::refused(format!(
                "another connection has just changed the schema of {}; call it again",
                table.name
            )));
        }
        let time_column = &table.columns[rule.time_column].name;
        let id = tables::save(connection, &table.name, &folder, time_column, rule.format)?;
        let schema = tables::save_schema(connection, id, &stored_columns(table))?;
        let cutoff = format_instant(rule.options.cutoff);
        let subject = Subject {
            operation: Operation::Archive,
            table: Some(id),
            name: Some(&table.name),
            cutoff: Some(&cutoff),
        };
        let run = runs::begin(connection, subject)?;
        Ok((id, schema, run, sql::schema_version(connection)?))
    })?;
    *trace = Some(Trace {
        archive: archive.clone(),
        run: run.clone(),
        _lock: lock,
    });
    fault::point("run.begin")?;
    let mut outcome = Outcome::default();
    let moved = Started {
        connection,
        rule,
        checked,
        archive: &archive,
        folder: &folder,
        ids: (id, schema),
        run: &run,
        schema_version,
        own_transactions: own,
    }
    .move_rows(&mut outcome);
    let message = moved.as_ref().err().map(ToString::to_string);
    fault::point("run.end")?;
    let ended = write_transaction(connection, || {
        runs::end(
            connection,
            &run,
            outcome.published.moved,
            message.as_deref(),
        )
    });
    moved.and(ended)?;
    outcome.expired = expire_rows(connection, rule, Some(pace(rule, own)))?;
    Ok(outcome)
}

/// How fast a call may work.
fn pace(rule: &Rule<'_>, own_transactions: bool) -> Pace {
    Pace {
        pause: Duration::from_millis(rule.options.pause_ms),
        rows_per_second: rule.options.max_rows_per_second,
        own_transactions,
    }
}

/// Drops the cold rows that are too old, if the caller wants that; without a pace it only counts those
/// that are cold now.
fn expire_rows(connection: &Connection, rule: &Rule<'_>, pace: Option<Pace>) -> Result<u64> {
    let Some(before) = rule.options.expire_before else {
        return Ok(0);
    };
    if !catalog::exists(connection)? {
        return Ok(0);
    }
    let Some(archived) = tables::find(connection, &rule.table.name)? else {
        return Ok(0);
    };
    let expired = match pace {
        Some(pace) => expire::expire(connection, &archived, before, rule.options.batch_size, pace),
        None => expire::count(connection, &archived, before),
    };
    Ok(expired?.rows)
}

/// The columns of the files as the catalog remembers them.
fn stored_columns(table: &Table) -> String {
    let mut columns = table.columns.clone();
    if table.stores_rowid() {
        columns.push(Column {
            name: ROWID_COLUMN.to_owned(),
            declared_type: "INTEGER".to_owned(),
            collation: "BINARY".to_owned(),
            default: None,
        });
    }
    columns_to_json(&columns)
}

/// A run that has its place in the catalog.
struct Started<'a> {
    connection: &'a Connection,
    rule: &'a Rule<'a>,
    checked: &'a Checked,
    archive: &'a Archive,
    folder: &'a str,
    /// Of the table and of its columns, in the catalog.
    ids: (i64, i64),
    run: &'a Run,
    /// `sql::schema_version` when the table was looked at.
    schema_version: i64,
    own_transactions: bool,
}

impl Started<'_> {
    fn move_rows(&self, outcome: &mut Outcome) -> Result<()> {
        let (connection, rule) = (self.connection, self.rule);
        let encoding = sql::encoding(connection)?;
        let reader = HotReader::new(rule.table, encoding);
        let publisher = Publisher {
            hot: HotTable {
                connection,
                table: rule.table,
                reader: &reader,
                references: &self.checked.references,
            },
            folder: &self.archive.folder,
            checked_at: self.checked.at,
            schema_version: self.schema_version,
            batch_size: rule.options.batch_size,
            pace: pace(rule, self.own_transactions),
        };
        let mode = MoveMode::enter(connection)?;
        let unfinished = files::unfinished(connection, self.ids.0, &clock::stamp())?;
        let unfinished = unfinished.into_iter().map(Publishing::Unfinished).collect();
        publisher.publish(unfinished, &mut outcome.published)?;
        drop(mode);
        let mut plan = Plan::new(connection, rule, &reader)?;
        let moved = MoveMode::enter(connection).and_then(|_mode| {
            let level = rule.options.compression_level;
            let folder = self.archive.folder.clone();
            let names = reader.names();
            let writer = FileWriter::new(folder, rule.table, names, encoding, level);
            let progress = Progress::new(rule.options.progress, &rule.table.name, plan.rows);
            let pipeline = Pipeline {
                publisher: &publisher,
                writer: &writer,
                progress: &progress,
                path: &|rows, sequence| self.path(rows, sequence),
                entry: &|file| self.entry(file),
            };
            pipeline.run(&mut plan, &mut outcome.published)
        });
        outcome.skipped += plan.skipped;
        outcome.published.kept += plan.kept;
        plan.clear()?;
        moved
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
        let name = self.archive.file_name(&self.run.token, sequence);
        format!("{}/{partition}/{name}", self.folder)
    }

    fn entry(&self, file: WrittenFile) -> NewEntry {
        let (table, schema) = self.ids;
        NewEntry {
            table,
            schema,
            run: self.run.id,
            record: file.record,
            hot_bytes: file.hot_bytes,
            staged_at: None,
            time_min: format_instant(file.time_min),
            time_max: format_instant(file.time_max),
            ranges: file.ranges,
        }
    }
}
