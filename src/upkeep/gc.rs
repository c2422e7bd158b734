//! Leftovers: files that no catalog row names. They are invisible and only cost space.
//!
//! - Those of a run that died, or was rolled back, between writing a file and publishing it go with
//!   the next run.
//! - Those that were taken out of the catalog stay for the retention period from then on, however old
//!   they are: a backup from before may still need them.
//! - One of a run that the catalog knows, but neither of these, stays until it is that old itself.
//! - Any other is none of this catalog's business: the caller rolled back, a backup was restored, or this
//!   catalog took the place of one that was lost, and the file has the only copy of its rows. It is
//!   counted, and removed only if the caller says so.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value as Json, json};

use crate::catalog;
use crate::catalog::files;
use crate::error::{Error, Result};
use crate::moving::leftovers::{Known, Standing, bury_dead_runs};
use crate::options::Object;
use crate::recover::lost;
use crate::settings::{self, Config};
use crate::sql::write_transaction;
use crate::storage::Archive;
use crate::value::Value;

const SECONDS_PER_DAY: u64 = 86_400;

/// What a collection came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Collected {
    /// Files removed, or that would be, and what they take.
    pub files: u64,
    pub bytes: u64,
    /// Files that nothing refers to any more, but not for long enough.
    pub kept: u64,
    /// Files of this database that its catalog knows nothing of, and that stay.
    pub unknown: u64,
}

/// What is to be collected.
#[derive(Debug, Clone, Copy)]
pub struct Collection {
    /// For how many days nothing must have referred to a file.
    pub retention_days: i64,
    /// Whether files go that the catalog knows nothing of.
    pub unknown: bool,
    pub dry_run: bool,
}

/// Removes files that nothing has referred to for long enough. The archive's lock must be held.
pub fn collect(
    connection: &Connection,
    archive: &Archive,
    collection: Collection,
) -> Result<Collected> {
    let days = u64::try_from(collection.retention_days).unwrap_or(0);
    let retention = Duration::from_secs(days.saturating_mul(SECONDS_PER_DAY));
    let known = Known::read(connection)?;
    let mut collected = Collected::default();
    for file in archive.own_files()? {
        let time = match known.standing(&file) {
            Standing::Used => continue,
            Standing::Unknown(_) if !collection.unknown => {
                collected.unknown += 1;
                continue;
            }
            Standing::Unused(time) | Standing::Unknown(time) => time,
        };
        if time < retention {
            collected.kept += 1;
            continue;
        }
        collected.files += 1;
        collected.bytes += file.bytes;
        if !collection.dry_run {
            archive.folder.remove(&file.path)?;
        }
    }
    if !collection.dry_run {
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
/// retention period, which leaves time to restore a backup that still refers to them. With the option
/// `unknown_files` those go, too, that the catalog knows nothing of.
pub fn archive_gc(connection: &Connection, arguments: &[Value<'_>]) -> Result<Json> {
    let options = arguments.first().copied().unwrap_or(Value::Null);
    let options = Object::parse(options, &["retention_days", "unknown_files", "dry_run"])?;
    let retention_days = options.get("retention_days");
    let config = Config::read(connection)?;
    let collection = Collection {
        retention_days: settings::RETENTION_DAYS.number(&config, retention_days)?,
        unknown: options.flag("unknown_files")?,
        dry_run: options.flag("dry_run")?,
    };
    let mut collected = Collected::default();
    settings::check_writable(connection)?;
    lost::check(connection)?;
    if catalog::exists(connection)? {
        if !connection.is_autocommit() {
            // The caller's transaction may be about to publish, or to roll back.
            return Err(Error::refused("it cannot run inside a transaction"));
        }
        let archive = settings::archive(connection, &config)?;
        if archive.folder.exists()? {
            let _lock = archive.lock()?;
            if !collection.dry_run {
                bury_dead_runs(connection, &archive)?;
            }
            collected = collect(connection, &archive, collection)?;
        }
    }
    Ok(json!({
        "files": collected.files,
        "bytes": collected.bytes,
        "kept_files": collected.kept,
        "unknown_files": collected.unknown,
        "retention_days": collection.retention_days,
        "dry_run": collection.dry_run,
    }))
}
