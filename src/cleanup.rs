//! Leftovers: cold files that no catalog row names, because the process died, or the caller rolled
//! back, between writing a file and publishing it. They are invisible and only cost space.

use std::collections::HashSet;

use rusqlite::Connection;
use serde_json::{Value as Json, json};

use crate::catalog;
use crate::catalog::runs::{self, Run};
use crate::error::{Error, Result};
use crate::options::Object;
use crate::settings;
use crate::sql::write_transaction;
use crate::storage::Archive;
use crate::value::Value;

const SECONDS_PER_DAY: u64 = 86_400;

/// Removes the files of `runs` that were not published. The archive's lock must be held, so that
/// none of the runs is going on.
pub fn remove_unpublished(connection: &Connection, archive: &Archive, runs: &[Run]) -> Result<()> {
    if runs.is_empty() {
        return Ok(());
    }
    let mut published = published(connection)?;
    // A run that died may have published files that were restored or expired since: a backup may
    // still refer to them.
    published.extend(removed(connection)?);
    for (path, _) in archive.own_files()? {
        let of_run = |run: &Run| path.contains(&format!("-{}-", run.token));
        if !published.contains(&path) && runs.iter().any(of_run) {
            archive.folder.remove(&path)?;
        }
    }
    Ok(())
}

/// Closes the books on runs whose process died. The archive's lock must be held.
pub fn bury_dead_runs(connection: &Connection, archive: &Archive) -> Result<()> {
    // Written down before files are removed: that takes a transaction which sees the newest state.
    let dead = write_transaction(connection, || {
        let dead = runs::dead(connection)?;
        dead.iter()
            .try_for_each(|run| runs::mark_interrupted(connection, run))?;
        Ok(dead)
    })?;
    remove_unpublished(connection, archive, &dead)
}

/// The files that the catalog names.
///
/// A read could be of an old snapshot, if a statement of this connection has been running since
/// before another process published files, and those would be taken for leftovers. A write
/// transaction only starts on the newest state.
fn published(connection: &Connection) -> Result<HashSet<String>> {
    write_transaction(connection, || {
        if !catalog::exists(connection)? {
            return Ok(HashSet::new());
        }
        let mut statement = connection.prepare("SELECT path FROM main._archive_file")?;
        let paths = statement.query_map([], |row| row.get(0))?;
        Ok(paths.collect::<Result<_, _>>()?)
    })
}

/// The files that were in the catalog and are no more.
fn removed(connection: &Connection) -> Result<Vec<String>> {
    if !catalog::exists(connection)? {
        return Ok(Vec::new());
    }
    let mut statement = connection.prepare("SELECT path FROM main._archive_removed")?;
    let paths = statement.query_map([], |row| row.get(0))?;
    Ok(paths.collect::<Result<_, _>>()?)
}

/// `archive_gc([options])`: removes files that nothing refers to and that are older than the
/// retention period, which leaves time to restore a backup that still refers to them.
pub fn archive_gc(connection: &Connection, arguments: &[Value<'_>]) -> Result<Json> {
    let options = arguments.first().copied().unwrap_or(Value::Null);
    let options = Object::parse(options, &["retention_days", "dry_run"])?;
    let days = settings::RETENTION_DAYS.number(connection, options.get("retention_days"))?;
    let dry_run = options.flag("dry_run")?;
    let (mut files, mut kept) = (0, 0);
    if catalog::exists(connection)? {
        settings::check_writable(connection)?;
        if !connection.is_autocommit() {
            // The caller's transaction may be about to publish, or to roll back.
            return Err(Error::refused("it cannot run inside a transaction"));
        }
        let archive = settings::archive(connection)?;
        if archive.folder.root().exists() {
            let _lock = archive.lock()?;
            if !dry_run {
                bury_dead_runs(connection, &archive)?;
            }
            let published = published(connection)?;
            let retention = u64::try_from(days)
                .unwrap_or(0)
                .saturating_mul(SECONDS_PER_DAY);
            for (path, age) in archive.own_files()? {
                if published.contains(&path) {
                    continue;
                }
                if age < retention {
                    kept += 1;
                    continue;
                }
                files += 1;
                if !dry_run {
                    archive.folder.remove(&path)?;
                }
            }
        }
    }
    Ok(json!({
        "files": files,
        "kept_files": kept,
        "retention_days": days,
        "dry_run": dry_run,
    }))
}
