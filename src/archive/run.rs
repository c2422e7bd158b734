//! One call of `archive_table`: its transaction, its lock and its line in the history.

use std::time::Instant;

use rusqlite::Connection;
use serde_json::{Value as Json, json};

use super::check;
use super::checked::Checked;
use super::ids;
use super::options::{self, Options};
use super::plan::{Plan, Rule};
use super::publish::Published;
use super::steps::{Outcome, Started, pace};
use crate::catalog;
use crate::catalog::identity;
use crate::catalog::runs::{Moved, Operation, Run, Subject};
use crate::catalog::tables;
use crate::catalog::tables::ArchivedTable;
use crate::error::{Error, Result};
use crate::fault;
use crate::moving::leftovers;
use crate::moving::mode::MoveMode;
use crate::moving::pace::Pace;
use crate::moving::read::HotReader;
use crate::moving::run::{self, Running};
use crate::options::Object;
use crate::recover::copy;
use crate::recover::lost;
use crate::recover::remains;
use crate::schema::{Column, Table};
use crate::settings::{self, Config};
use crate::sql::{self, read_transaction};
use crate::storage::{Archive, Lock, folder_name};
use crate::time::format_instant;
use crate::upkeep::expire;
use crate::value::Value;
use crate::verify::shared_ids;

/// `archive_table(table, hot_days [, options])`
pub fn archive_table(connection: &Connection, arguments: &[Value<'_>]) -> Result<Json> {
    let [table, hot_days, rest @ ..] = arguments else {
        return Err(Error::Internal("too few arguments".into()));
    };
    let options = rest.first().copied().unwrap_or(Value::Null);
    let options = Object::parse(options, &options::KNOWN)?;
    let options = Options::new(Config::read(connection)?, *hot_days, &options, 0)?;
    archive(connection, *table, &options, None)
}

/// Archives one table. `lock` is the archive's, if the caller holds it.
pub fn archive(
    connection: &Connection,
    table: Value<'_>,
    options: &Options,
    lock: Option<Lock>,
) -> Result<Json> {
    let start = Instant::now();
    let table = check::find_table(connection, table)?;
    let (time_column, format) = check::time(connection, &table, options)?;
    let rule = Rule {
        table: &table,
        time_column,
        format,
        options,
    };
    rule.check_condition(connection)?;
    let references = Checked::new(connection, &rule)?;
    let alone = lock.is_none();
    let outcome = match options.dry_run {
        true => {
            settings::check_not_query_only(connection)?;
            dry_run(connection, &rule)?
        }
        false => run(connection, &rule, &references, lock)?,
    };
    let Published {
        moved,
        kept,
        staged,
        discarded,
    } = outcome.published;
    let discarded = outcome.discarded + discarded;
    let changed = moved.rows + kept + staged + outcome.expired + outcome.restored + discarded > 0;
    let shared_ids = match shared_ids(connection, &table.name) {
        // The rows have moved, whatever the files of other runs are like; archive_verify tells.
        Err(error) if !error.is_interrupt() => None,
        counted => Some(counted?),
    };
    let mut result = json!({
        "table": table.name,
        "cutoff": format_instant(options.cutoff),
        "rows": moved.rows,
        "files": moved.files,
        "parquet_bytes": moved.bytes,
        "skipped_rows": outcome.skipped,
        "kept_rows": kept,
        "expired_rows": outcome.expired,
        "staged": staged,
        "restored_rows": outcome.restored,
        "shared_ids": shared_ids,
        "discarded_files": discarded,
        "dry_run": options.dry_run,
    });
    // `archive_run` does this itself, when all tables are done.
    result["catalog_copy"] = match alone && changed && !options.dry_run {
        true => copy::after_run(connection, &options.config),
        false => Json::Null,
    };
    result["elapsed_ms"] = json!(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX));
    Ok(result)
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
            ..Published::default()
        },
        skipped: plan.skipped,
        expired: expire_rows(connection, rule, None)?,
        discarded: 0,
        restored: would_return(connection, rule.table)?,
    })
}

/// How many cold rows a run would bring back for the sake of their ids.
fn would_return(connection: &Connection, table: &Table) -> Result<u64> {
    let archived = archived(connection, table)?;
    let endangered = archived.map(|archived| ids::endangered(connection, table, &archived));
    Ok(u64::from(endangered.transpose()?.flatten().is_some()))
}

/// How many ids a hot and a cold row have: none of a table that was renamed or dropped since its rows
/// have moved.
fn shared_ids(connection: &Connection, name: &str) -> Result<u64> {
    read_transaction(connection, || {
        let Some(table) = Table::find(connection, name)? else {
            return Ok(0);
        };
        let archived = archived(connection, &table)?;
        let shared = archived.map(|archived| shared_ids::shared(connection, &table, &archived));
        Ok(shared.transpose()?.map_or(0, |shared| shared.count))
    })
}

/// What the catalog knows of a table, if there is one.
fn archived(connection: &Connection, table: &Table) -> Result<Option<ArchivedTable>> {
    match catalog::exists(connection)? {
        true => identity::of_table(connection, &table.name),
        false => Ok(None),
    }
}

/// Moves rows. An error leaves what was published before it published, and nothing else; inside
/// the caller's transaction it leaves nothing.
fn run(
    connection: &Connection,
    rule: &Rule<'_>,
    checked: &Checked,
    lock: Option<Lock>,
) -> Result<Outcome> {
    settings::check_writable(connection)?;
    // Both fail before anything is written if the folder has no place or cannot be made.
    let folder = settings::folder(connection, &rule.options.config)?;
    folder.prepare()?;
    let _mode = MoveMode::enter(connection, rule.table)?;
    let alone = connection.is_autocommit();
    let mut trace = None;
    let run = || run_traced(connection, rule, checked, lock, &mut trace);
    run::whole(connection, run).inspect_err(|error| match error {
        // Where SQLite could not roll back, rows of the files may yet become cold.
        Error::Internal(_) if !alone => {}
        _ => remove_trace(trace, |archive, run| match alone {
            true => leftovers::remove_unpublished(connection, archive, &[run]),
            false => leftovers::remove_undone(archive, &run),
        }),
    })
}

/// What a run leaves behind if it fails: its files, which nobody else may touch while the lock is
/// held.
struct Trace {
    archive: Archive,
    run: Run,
    _lock: Lock,
}

/// Removes what was written but not published. It is only a matter of space, and the error to
/// report is the one that ended the run.
fn remove_trace(trace: Option<Trace>, remove: impl FnOnce(&Archive, Run) -> Result<()>) {
    if let Some(trace) = trace {
        let _ = remove(&trace.archive, trace.run);
    }
}

fn run_traced(
    connection: &Connection,
    rule: &Rule<'_>,
    checked: &Checked,
    lock: Option<Lock>,
    trace: &mut Option<Trace>,
) -> Result<Outcome> {
    // A savepoint that `run` opened is a transaction, too.
    let own = connection.is_autocommit();
    lost::ensure(connection)?;
    let archive = settings::archive(connection, &rule.options.config)?;
    let lock = run::lock(connection, &archive, lock)?;
    let table = rule.table;
    let cutoff = format_instant(rule.options.cutoff);
    let look = || {
        // From here on the schema is known: until now it could change after it was read.
        let found = Table::find(connection, &table.name)?;
        if found.as_ref() != Some(table) || checked.all != check::references(connection, table)? {
            return Err(Error::refused(format!(
                "another connection has just changed the schema of {}; call it again",
                table.name
            )));
        }
        let (archived, schema) = register(connection, rule)?;
        let subject = Subject {
            operation: Operation::Archive,
            table: Some(archived.id),
            name: Some(&table.name),
            cutoff: Some(&cutoff),
        };
        Ok(((archived, schema), subject))
    };
    let pace = pace(rule, own);
    let (run, (archived, schema)) = Running::begin(connection, pace, checked.at, look)?;
    if !own {
        remains::note_inside(connection, &run.run)?;
    }
    *trace = Some(Trace {
        archive: archive.clone(),
        run: run.run.clone(),
        _lock: lock,
    });
    fault::point("run.begin")?;
    let mut outcome = Outcome::default();
    let moved = Started {
        connection,
        rule,
        checked,
        archive: &archive,
        archived: &archived,
        schema,
        run: &run,
    }
    .move_rows(&mut outcome);
    fault::point("run.end")?;
    run.end(outcome.published.moved, moved)?;
    outcome.expired = expire_rows(connection, rule, Some(pace))?;
    Ok(outcome)
}

/// Drops the cold rows that are too old, if the caller wants that; without a pace it only counts those
/// that are cold now.
fn expire_rows(connection: &Connection, rule: &Rule<'_>, pace: Option<Pace>) -> Result<u64> {
    let Some(before) = rule.options.expire_before else {
        return Ok(0);
    };
    let Some(archived) = archived(connection, rule.table)? else {
        return Ok(0);
    };
    let expired = match pace {
        Some(pace) => expire::expire(connection, &archived, before, rule.options.batch_size, pace),
        None => expire::count(connection, &archived, before),
    };
    Ok(expired?.rows)
}

/// Brings what the catalog knows of the table up to date. Returns that, and the id of the columns that
/// its new files have.
fn register(connection: &Connection, rule: &Rule<'_>) -> Result<(ArchivedTable, i64)> {
    let table = rule.table;
    let mut archived = identity::register(connection, table, &folder_name(&table.name))?;
    archived
        .time_column
        .clone_from(&table.columns[rule.time_column].name);
    archived.time_format = Some(rule.format);
    tables::update(connection, &archived)?;
    let mut stored = archived.columns.clone();
    if table.stores_rowid() {
        stored.push(Column::stored_rowid());
    }
    let schema = tables::save_schema(connection, archived.id, &stored, &table.sql)?;
    Ok((archived, schema))
}
