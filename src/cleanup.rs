//! Leftovers: files that no catalog row names. They are invisible and only cost space.
//!
//! - Those of a run that died, or was rolled back, between writing a file and publishing it go with
//!   the next run.
//! - Those that were taken out of the catalog stay for the retention period from then on, however old
//!   they are: a backup from before may still need them.
//! - Any other (the caller rolled back, or a backup was restored) stays until it is that old itself.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value as Json, json};

use crate::catalog;
use crate::catalog::files;
use crate::catalog::runs::{self, Run};
use crate::error::{Error, Result};
use crate::options::Object;
use crate::settings;
use crate::sql::write_transaction;
use crate::storage::{Archive, OwnFile};
use crate::time::{clock, parse_iso8601};
use crate::value::Value;

const SECONDS_PER_DAY: u64 = 86_400;

/// Removes the files of `runs` that were not published. The archive's lock must be held, so that
/// none of the runs is going on.
pub fn remove_unpublished(connection: &Connection, archive: &Archive, runs: &[Run]) -> Result<()> {
    if runs.is_empty() {
        return Ok(());
    }
    let known = Known::read(connection)?;
    for file in archive.own_files()? {
        let of_run = |run: &Run| file.path.contains(&format!("-{}-", run.token));
        // A run may have published a file that has since been taken out of the catalog.
        if known.is_leftover(&file) && runs.iter().any(of_run) {
            archive.folder.remove(&file.path)?;
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

/// What the catalog knows of files.
struct Known {
    /// Those that it names.
    published: HashSet<String>,
    /// Those that it named once, and how long ago that ended.
    removed: HashMap<String, Duration>,
}

impl Known {
    /// A read could be of an old snapshot, if a statement of this connection has been running since
    /// before another process published files, and those would be taken for leftovers. A write
    /// transaction only starts on the newest state.
    fn read(connection: &Connection) -> Result<Self> {
        let now = clock::now_micros();
        // A time that cannot be read, or is yet to come, is no reason to remove anything.
        let age = |removed_at: &str| {
            let micros = now.saturating_sub(parse_iso8601(removed_at).unwrap_or(now));
            Duration::from_micros(u64::try_from(micros).unwrap_or(0))
        };
        write_transaction(connection, || {
            if !catalog::exists(connection)? {
                return Ok(Self {
                    published: HashSet::new(),
                    removed: HashMap::new(),
                });
            }
            let removed = files::removed(connection)?.into_iter();
            Ok(Self {
                published: files::paths(connection)?,
                removed: removed.map(|(path, at)| (path, age(&at))).collect(),
            })
        })
    }

    /// Whether the catalog does not name a file and never did.
    fn is_leftover(&self, file: &OwnFile) -> bool {
        !self.published.contains(&file.path) && !self.removed.contains_key(&file.path)
    }

    /// For how long nothing has referred to a file; `None` if something does.
    fn unused_for(&self, file: &OwnFile) -> Option<Duration> {
        match self.published.contains(&file.path) {
            true => None,
            false => Some(*self.removed.get(&file.path).unwrap_or(&file.age)),
        }
    }
}

/// What a collection came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Collected {
    /// Files removed, or that would be, and what they take.
    pub files: u64,
    pub bytes: u64,
    /// Files that nothing refers to any more, but not for long enough.
    pub kept: u64,
}

/// Removes files that nothing has referred to for `days`. The archive's lock must be held.
pub fn collect(
    connection: &Connection,
    archive: &Archive,
    days: i64,
    dry_run: bool,
) -> Result<Collected> {
    let days = u64::try_from(days).unwrap_or(0);
    let retention = Duration::from_secs(days.saturating_mul(SECONDS_PER_DAY));
    let known = Known::read(connection)?;
    let mut collected = Collected::default();
    for file in archive.own_files()? {
        match known.unused_for(&file) {
            None => {}
            Some(time) if time < retention => collected.kept += 1,
            Some(_) => {
                collected.files += 1;
                collected.bytes += file.bytes;
                if !dry_run {
                    archive.folder.remove(&file.path)?;
                }
            }
        }
    }
    if !dry_run {
        forget(connection, archive.folder.root(), &known, retention)?;
        archive.remove_empty_folders()?;
    }
    Ok(collected)
}

/// Takes files that are gone out of the list of removed ones: after the files themselves, so that no
/// crash leaves a file whose time is forgotten. The time must be over for those, too, that are not
/// there without our doing: their disk may only be absent.
fn forget(connection: &Connection, root: &Path, known: &Known, retention: Duration) -> Result<()> {
    let gone = |path: &&String| std::fs::symlink_metadata(root.join(path.as_str())).is_err();
    let over = known.removed.iter().filter(|(_, time)| **time >= retention);
    let gone: Vec<&String> = over.map(|(path, _)| path).filter(gone).collect();
    match gone.is_empty() {
        true => Ok(()),
        false => write_transaction(connection, || files::forget_removed(connection, &gone)),
    }
}

/// `archive_gc([options])`: removes files that nothing refers to and that are older than the
/// retention period, which leaves time to restore a backup that still refers to them.
pub fn archive_gc(connection: &Connection, arguments: &[Value<'_>]) -> Result<Json> {
    let options = arguments.first().copied().unwrap_or(Value::Null);
    let options = Object::parse(options, &["retention_days", "dry_run"])?;
    let days = settings::RETENTION_DAYS.number(connection, options.get("retention_days"))?;
    let dry_run = options.flag("dry_run")?;
    let mut collected = Collected::default();
    settings::check_writable(connection)?;
    if catalog::exists(connection)? {
        if !connection.is_autocommit() {
            // The caller's transaction may be about to publish, or to roll back.
            return Err(Error::refused("it cannot run inside a transaction"));
        }
        let archive = settings::archive(connection)?;
        if archive.folder.exists()? {
            let _lock = archive.lock()?;
            if !dry_run {
                bury_dead_runs(connection, &archive)?;
            }
            collected = collect(connection, &archive, days, dry_run)?;
        }
    }
    Ok(json!({
        "files": collected.files,
        "bytes": collected.bytes,
        "kept_files": collected.kept,
        "retention_days": days,
        "dry_run": dry_run,
    }))
}
