//! `archive_recover([options])`: makes a lost catalog again, in one transaction.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use rusqlite::Connection;
use serde_json::{Value as Json, json};

use super::copies::Copy;
use super::found::Discovered;
use super::remains::Remains;
use super::settle::{Settler, Side};
use super::{copy, fill, found, origin, remains};
use crate::attach::archive_attach;
use crate::catalog;
use crate::catalog::files::{self, FileEntry};
use crate::catalog::identity::{self, Location};
use crate::catalog::runs::{self, Moved, Operation, Subject};
use crate::catalog::tables::{self, ArchivedTable};
use crate::error::{Error, Result};
use crate::fault;
use crate::format::file::OpenFile;
use crate::moving::mode::MoveMode;
use crate::options::Object;
use crate::schema::{Column, Table};
use crate::settings::{self, Config};
use crate::sql::patiently;
use crate::sql::transaction::{self, Begin};
use crate::storage::Lock;
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
    pub problems: Vec<String>,
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
        if remains::is_whole(connection)? != remains.is_whole {
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
            copy::after_run(connection, &Config::read(connection)?)
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
    let remains = match Remains::find(connection)? {
        None => Remains::left(connection)?,
        Some(remains) if remains.is_empty() && !catalog::is_damaged(connection)? => None,
        lost => lost,
    };
    remains.ok_or_else(nothing_lost)
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
    let filled = fill::fill(connection, remains, &mut recovered.problems)?;
    recovered.copy = filled.copy;
    let copied_at = recovered.copy.as_ref().map(|copy| copy.copied_at.clone());
    let since = copied_at.or_else(|| remains.since.clone());
    let mut by_name = filled.by_name;
    let registered: Vec<i64> = tables::all(connection)?
        .iter()
        .map(|table| table.id)
        .collect();
    fault::point("recover.tables")?;
    let mut files = Files {
        known: filled.known,
        are_current: filled.is_current,
        written: HashMap::new(),
    };
    add_files(
        connection,
        remains,
        since.as_deref(),
        &mut files,
        &mut recovered,
    )?;
    fault::point("recover.files")?;
    for table in tables::all(connection)? {
        if !registered.contains(&table.id)
            && let Location::Here(name) = identity::locate(connection, &table)?
        {
            by_name.push(name);
        }
        settle(connection, remains, &table, &mut files, &mut recovered)?;
        recovered.rows += files::cold_rows(connection, table.id)?;
        recovered.tables.push(table.name);
    }
    recovered.new_files = files.written.len() as u64;
    recovered.files = files::paths(connection)?.len() as u64;
    note_uncertain(remains, &by_name, &mut recovered);
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
        cutoff: since.as_deref(),
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

/// What is known of the files in the catalog, by their ids.
struct Files {
    /// Those of which it, or its copy, says which of their rows count.
    known: HashSet<i64>,
    /// Whether it says so of now, and not of when it was copied.
    are_current: bool,
    /// When the others that were found were written.
    written: HashMap<i64, String>,
}

/// Takes files that the catalog does not know into it, unless they are older than what it was made from.
fn add_files(
    connection: &Connection,
    remains: &Remains,
    since: Option<&str>,
    files: &mut Files,
    recovered: &mut Recovered,
) -> Result<()> {
    let mut leftovers: Vec<(&str, usize)> = Vec::new();
    for file in remains.unknown(connection)? {
        match found::add(connection, remains, file, since) {
            Ok(Discovered::New { id, written }) => {
                files.written.insert(id, written);
            }
            Ok(Discovered::Leftover { rows }) => leftovers.push((&file.path, rows)),
            Err(error) => {
                recovered.problems.push(origin::problem(error)?);
                recovered.unread += 1;
            }
        }
    }
    if let (Some((path, _)), Some(since)) = (leftovers.first(), since) {
        let rows: usize = leftovers.iter().map(|(_, rows)| rows).sum();
        recovered.uncertain.push(format!(
            "{} cold files with {rows} rows are from before {since}, when the catalog did not know them: their \
             runs came to nothing, or they had left the catalog, so none of their rows counts. The first is {path}",
            leftovers.len()
        ));
    }
    Ok(())
}

/// Decides which rows of a table's files count.
fn settle(
    connection: &Connection,
    remains: &Remains,
    table: &ArchivedTable,
    files: &mut Files,
    recovered: &mut Recovered,
) -> Result<()> {
    let (hot, columns) = match present(connection, table) {
        Ok((hot, columns)) => (Some(hot), columns),
        Err(error @ Error::Refused(_)) => {
            recovered.problems.push(error.to_string());
            (None, table.columns.clone())
        }
        Err(error) => return Err(error),
    };
    let side = Side {
        folder: &remains.archive.folder,
        columns,
        is_current: files.are_current,
    };
    let mut settler = Settler::new(connection, hot.as_ref(), side)?;
    for entry in newest_first(connection, remains, table, files)? {
        let is_new = !files.known.contains(&entry.id);
        if let Err(error) = settler.settle(&entry, is_new) {
            recovered.problems.push(origin::problem(error)?);
            // Its rows may be somewhere else, too.
            if files.written.remove(&entry.id).is_some() {
                found::take_out(connection, &entry)?;
                recovered.unread += 1;
            }
        }
    }
    let tally = settler.finish()?;
    recovered.hot_rows += tally.hot;
    recovered.older_rows += tally.older;
    let name = &table.name;
    let uncertain = [
        (
            tally.doubtful,
            "have the rowid of a hot row, or of one in a newer file, with other values: they may be what that was",
        ),
        (
            tally.doubled,
            "have the key of a hot row, or of one in a newer file, with other values: they may be what that was, and \
             all of them count",
        ),
        (
            tally.replaced,
            "do not count, as a hot row, or one in a newer file, has their key with other values: they may have been \
             rows of their own",
        ),
        (
            tally.waiting,
            "wait for their grace period to end, and the hot rows with their key or rowid have other values: they do \
             not count, but may have been rows of their own",
        ),
    ];
    let uncertain = uncertain.iter().filter(|(count, _)| *count > 0);
    recovered
        .uncertain
        .extend(uncertain.map(|(count, what)| format!("{count} cold rows of {name} {what}")));
    Ok(())
}

/// The hot table that an archived one is, and its columns with their numbers: ALTER TABLE may have changed them
/// since it was last looked at.
fn present(connection: &Connection, table: &ArchivedTable) -> Result<(Table, Vec<Column>)> {
    let name = match identity::locate(connection, table)? {
        Location::Here(name) => name,
        Location::Recreated => return Err(identity::recreated(&table.name)),
        Location::Missing => return Err(identity::missing(&table.name)),
    };
    let hot = Table::find(connection, &name)?;
    let hot = hot.ok_or_else(|| identity::missing(&table.name))?;
    let columns = identity::numbered(connection, table, &hot)?;
    Ok((hot, columns))
}

/// The files of a table in the order in which they were written, which the files themselves say. Those that the
/// catalog knows are older than any that it does not, but for those which an earlier recovery could not take.
fn newest_first(
    connection: &Connection,
    remains: &Remains,
    table: &ArchivedTable,
    files: &Files,
) -> Result<Vec<FileEntry>> {
    let mut entries = Vec::new();
    for entry in files::all(connection, table.id)? {
        let written = match files.written.get(&entry.id) {
            Some(written) => written.clone(),
            None if files.known.contains(&entry.id) && !remains.is_whole => String::new(),
            // One that cannot be read is not compared with any.
            None => OpenFile::open(&remains.archive.folder, &entry.record)
                .and_then(|file| origin::of(&file))
                .map(|origin| origin.written)
                .or_else(|error| origin::problem(error).map(|_| String::new()))?,
        };
        entries.push((written, entry));
    }
    entries.sort_by(|(a, x), (b, y)| (b, y.id).cmp(&(a, x.id)));
    Ok(entries.into_iter().map(|(_, entry)| entry).collect())
}

/// Says what nothing that is left can tell.
fn note_uncertain(remains: &Remains, by_name: &[String], recovered: &mut Recovered) {
    let uncertain = match &recovered.copy {
        Some(copy) => vec![
            format!(
                "rows that were deleted while they waited for their grace period to end may be cold; so may those \
                 that came back after {} and were then deleted, those that expired after it, and those that were \
                 deleted after a transaction that had archived them was rolled back",
                copy.copied_at
            ),
            format!("policies and settings are those of {}", copy.copied_at),
        ],
        None if remains.is_whole => Vec::new(),
        None => vec![
            "rows that came back and were then deleted or changed in their key, that expired, or that were deleted \
             after a transaction that had archived them was rolled back, are cold again"
                .to_owned(),
            "policies and settings are gone".to_owned(),
        ],
    };
    recovered.uncertain.extend(uncertain);
    if !by_name.is_empty() {
        recovered.uncertain.push(format!(
            "{} are told by their names: one that was dropped and created again since has the cold rows of the old \
             one; archive_rename(table, new_name) keeps them apart",
            by_name.join(", ")
        ));
    }
}
