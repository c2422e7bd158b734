//! `archive_recover([options])`: makes a lost catalog again, in one transaction.

use std::time::Instant;

use rusqlite::Connection;
use serde_json::{Value as Json, json};

use super::fill::{self, Copy};
use super::lost::Remains;
use super::settle::Settler;
use super::{copy, found};
use crate::attach::archive_attach;
use crate::catalog;
use crate::catalog::files;
use crate::catalog::identity::{self, Location};
use crate::catalog::runs::{self, Moved, Operation, Subject};
use crate::catalog::tables::{self, ArchivedTable};
use crate::error::{Error, Result};
use crate::fault;
use crate::options::Object;
use crate::settings;
use crate::sql::{MoveMode, patiently};
use crate::storage::Lock;
use crate::table::Table;
use crate::transaction::{self, Begin};
use crate::value::Value;
use crate::verify::archive_verify;

/// What making the catalog again came to.
#[derive(Default)]
pub struct Recovered {
    copy: Option<Copy>,
    tables: Vec<String>,
    /// Files that the catalog has now, and how many of their rows count.
    pub files: u64,
    pub rows: u64,
    new_files: u64,
    /// Files that could not be taken into the catalog.
    pub unread: u64,
    hot_rows: u64,
    older_rows: u64,
    problems: Vec<String>,
    uncertain: Vec<String>,
}

/// `archive_recover([options])`
pub fn archive_recover(connection: &Connection, arguments: &[Value<'_>]) -> Result<Json> {
    let start = Instant::now();
    let options = arguments.first().copied().unwrap_or(Value::Null);
    let dry_run = Object::parse(options, &["dry_run"])?.flag("dry_run")?;
    settings::check_writable(connection)?;
    if !connection.is_autocommit() {
        return Err(Error::refused("it cannot run inside a transaction"));
    }
    let lock = lock(connection, dry_run)?;
    // Nobody else makes a catalog from here on.
    let remains = find(connection)?;
    let _mode = MoveMode::for_catalog(connection)?;
    let recover = || {
        if catalog::is_whole(connection)? {
            return Err(nothing_lost());
        }
        make(connection, &remains)
    };
    let recovered = patiently(|| match dry_run {
        true => transaction::trial(connection, recover),
        false => transaction::own(connection, Begin::Immediate, recover),
    })?;
    drop(lock);
    let catalog_copy = match dry_run {
        true => Json::Null,
        false => {
            archive_attach(connection, &[])?;
            copy::after_run(connection)
        }
    };
    Ok(json!({
        "copy": recovered.copy.as_ref().map(|copy| copy.path.to_string_lossy()),
        "copied_at": recovered.copy.as_ref().map(|copy| &copy.copied_at),
        "tables": recovered.tables,
        "files": recovered.files,
        "rows": recovered.rows,
        "new_files": recovered.new_files,
        "hot_rows": recovered.hot_rows,
        "older_rows": recovered.older_rows,
        "problems": recovered.problems,
        "uncertain": recovered.uncertain,
        "catalog_copy": catalog_copy,
        "dry_run": dry_run,
        "elapsed_ms": u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
    }))
}

fn nothing_lost() -> Error {
    Error::refused("nothing is lost: there is no catalog to make again")
}

fn find(connection: &Connection) -> Result<Remains> {
    let remains = Remains::find(connection)?.ok_or_else(nothing_lost)?;
    match remains.is_empty() && !catalog::is_damaged(connection)? {
        true => Err(nothing_lost()),
        false => Ok(remains),
    }
}

/// Keeps every run away. A dry run leaves no folder behind; where there is none, nobody works in it.
fn lock(connection: &Connection, dry_run: bool) -> Result<Option<Lock>> {
    let archive = find(connection)?.archive;
    match dry_run && !archive.folder.exists()? {
        true => Ok(None),
        false => {
            archive.folder.prepare()?;
            archive.lock().map(Some)
        }
    }
}

/// Makes the catalog. Part of the caller's write transaction; the archive's lock must be held.
pub fn make(connection: &Connection, remains: &Remains) -> Result<Recovered> {
    let mut recovered = Recovered::default();
    recovered.copy = fill::fill(connection, remains, &mut recovered.problems)?;
    fault::point("recover.tables")?;
    let new = add_files(connection, remains, &mut recovered)?;
    fault::point("recover.files")?;
    for table in tables::all(connection)? {
        settle(connection, remains, &table, &new, &mut recovered)?;
        recovered.rows += files::cold_rows(connection, table.id)?;
        recovered.tables.push(table.name);
    }
    recovered.files = files::paths(connection)?.len() as u64;
    note_uncertain(&mut recovered);
    let verified = archive_verify(connection, &[])?;
    let problems = verified["problems"].as_array().into_iter().flatten();
    for problem in problems.filter_map(Json::as_str) {
        if !recovered.problems.iter().any(|known| known == problem) {
            recovered.problems.push(problem.to_owned());
        }
    }
    let subject = Subject {
        operation: Operation::Recover,
        table: None,
        name: None,
        cutoff: None,
    };
    let run = runs::begin(connection, subject)?;
    let moved = Moved {
        rows: recovered.rows,
        files: recovered.files,
        bytes: 0,
    };
    runs::end(connection, &run, moved, None)?;
    fault::point("recover.commit")?;
    Ok(recovered)
}

/// Takes files that the catalog does not know into it; returns their ids, the newest first.
fn add_files(
    connection: &Connection,
    remains: &Remains,
    recovered: &mut Recovered,
) -> Result<Vec<i64>> {
    let mut known = files::paths(connection)?;
    let removed = files::removed(connection)?.into_iter();
    known.extend(removed.map(|(path, _)| path));
    let mut new = Vec::new();
    for file in &remains.files {
        if known.contains(&file.path) {
            continue;
        }
        match found::add(connection, remains, file) {
            Ok(id) => new.push(id),
            Err(error) => {
                recovered.problems.push(found::problem(error)?);
                recovered.unread += 1;
            }
        }
    }
    recovered.new_files = new.len() as u64;
    Ok(new)
}

/// Decides which rows of a table's files count.
fn settle(
    connection: &Connection,
    remains: &Remains,
    table: &ArchivedTable,
    new: &[i64],
    recovered: &mut Recovered,
) -> Result<()> {
    let hot = match identity::locate(connection, table)? {
        Location::Here(name) => Table::find(connection, &name)?,
        Location::Recreated => {
            let problem = identity::recreated(&table.name).to_string();
            recovered.problems.push(problem);
            None
        }
        Location::Missing => {
            let problem = identity::missing(&table.name).to_string();
            recovered.problems.push(problem);
            None
        }
    };
    let Some(hot) = hot else {
        return Ok(());
    };
    let mut entries = files::all(connection, table.id)?;
    let age = |id: i64| new.iter().position(|new| *new == id).unwrap_or(new.len());
    entries.sort_by_key(|entry| (age(entry.id), -entry.id));
    let mut settler = Settler::new(connection, &remains.archive.folder, &hot, table)?;
    for entry in &entries {
        if let Err(error) = settler.settle(entry) {
            recovered.problems.push(found::problem(error)?);
        }
    }
    let tally = settler.finish()?;
    recovered.hot_rows += tally.hot;
    recovered.older_rows += tally.older;
    if tally.doubtful > 0 {
        recovered.uncertain.push(format!(
            "{} cold rows of {} have the rowid of a hot row, or of one in a newer file, with other values: they \
             may be what that was",
            tally.doubtful, table.name
        ));
    }
    Ok(())
}

/// Says what nothing that is left can tell.
fn note_uncertain(recovered: &mut Recovered) {
    let uncertain = match &recovered.copy {
        Some(copy) => [
            format!(
                "rows that were deleted while they waited for their grace period to end may be cold; so may those \
                 that came back after {} and were then deleted, and those that expired after it",
                copy.copied_at
            ),
            format!("policies and settings are those of {}", copy.copied_at),
        ],
        None => [
            "rows that came back and were then deleted or changed in their key, or expired, are cold again"
                .to_owned(),
            "policies and settings are gone".to_owned(),
        ],
    };
    recovered.uncertain.extend(uncertain);
}
