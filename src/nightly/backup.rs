//! `archive_backup([path])`: a checked copy of the database file, made while it is in use.
//!
//! A copy is written under a name of its own, opened, checked and synced; only then it gets its real
//! name, and only then older ones go. Cold files are not part of it: they never change, and
//! `archive_gc` keeps those that a backup may need for the retention period.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rusqlite::{Connection, OpenFlags};
use serde_json::{Value as Json, json};

use super::{copy, database_file, is_unreadable, open};
use crate::catalog;
use crate::error::{Error, Result};
use crate::settings::{self, BACKUP_KEEP, Config};
use crate::sql::patiently;
use crate::sqlite::statement::is_writing;
use crate::storage::access::Access;
use crate::storage::{self, Lock};
use crate::time::clock;
use crate::value::Value;

/// The folder for backups, beside the database file.
const FOLDER: &str = "backup";

/// A backup that was made.
#[derive(Debug)]
pub struct Backup {
    pub path: PathBuf,
    pub bytes: u64,
    pub elapsed_ms: u64,
    /// How many there are now; `None` if it was made where the caller said: those are not counted.
    pub kept: Option<usize>,
    /// Older ones that had to go.
    pub removed: Vec<PathBuf>,
}

impl Backup {
    /// As `archive_backup` shows it.
    pub fn to_json(&self) -> Json {
        let removed = self.removed.iter().map(|path| path.display().to_string());
        json!({
            "path": self.path.display().to_string(),
            "bytes": self.bytes,
            "elapsed_ms": self.elapsed_ms,
            "kept": self.kept,
            "removed": removed.collect::<Vec<_>>(),
        })
    }
}

/// `archive_backup([path])`
pub fn archive_backup(connection: &Connection, arguments: &[Value<'_>]) -> Result<Json> {
    let path = match arguments.first() {
        None | Some(Value::Null) => None,
        Some(Value::Text(path)) if !path.is_empty() => Some(Path::new(*path)),
        Some(_) => {
            return Err(Error::refused(
                "the path must be text: a new file, or a folder",
            ));
        }
    };
    settings::check_writable(connection)?;
    let config = patiently(|| Config::read(connection))?;
    if path.is_none() && keep(&config)? == 0 {
        return Err(Error::refused(
            "no backups are kept, as backup_keep is 0; give a path, or set it with \
             archive_config('backup_keep', 3)",
        ));
    }
    let _lock = patiently(|| lock_archive(connection, &config))?;
    Ok(backup(connection, &config, path)?.to_json())
}

/// How many backups are to be kept.
pub fn keep(config: &Config) -> Result<usize> {
    BACKUP_KEEP.count(config)
}

/// No archive run may be half way: its rows would be in the copy as those of a run that died.
fn lock_archive(connection: &Connection, config: &Config) -> Result<Option<Lock>> {
    if !catalog::exists(connection)? {
        return Ok(None);
    }
    match settings::archive(connection, config) {
        Ok(archive) if archive.folder.exists()? => match archive.lock() {
            // Where nothing can be written nobody is archiving, and there is no lock to take.
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::ReadOnlyFilesystem => {
                Ok(None)
            }
            lock => lock.map(Some),
        },
        Ok(_) => Ok(None),
        // In memory, without a place for cold files: there are none.
        Err(_) if database_file(connection)?.is_none() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes a backup: the new file `path`, or one in the folder `path`; without a path one of those beside
/// the database, of which the newest are kept. The archive's lock must be held.
pub fn backup(connection: &Connection, config: &Config, path: Option<&Path>) -> Result<Backup> {
    let start = Instant::now();
    if !connection.is_autocommit() {
        return Err(Error::refused("it cannot run inside a transaction"));
    }
    if is_writing(connection) {
        // Its lock would be waited for, in vain.
        return Err(Error::refused(
            "it cannot run inside a statement that writes",
        ));
    }
    let database = database_file(connection)?;
    if let Some(database) = &database {
        refuse_encrypted(database)?;
    }
    let keep = keep(config)?;
    let place = Place::new(database.as_deref(), path)?;
    let _lock = storage::lock(
        &place.hidden("lock"),
        &Access::of(database.as_deref()),
        "another backup is being written to this folder",
    )?;
    let partial = place.hidden("partial");
    // Of a run that died: the lock says that nobody is writing it.
    remove_with_companions(&partial)?;
    let target = place.target()?;
    let written = write(connection, database.as_deref(), &partial, &target);
    let bytes = written.inspect_err(|_| {
        // Only a matter of space; the first error is the one to report.
        let _ = remove_with_companions(&partial);
    })?;
    let (kept, removed) = match path {
        Some(_) => (None, Vec::new()),
        None => rotate(&place, &target, keep)?,
    };
    Ok(Backup {
        path: target,
        bytes,
        elapsed_ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
        kept,
        removed,
    })
}

/// A copy goes through the application's own connection, which may decrypt what it reads.
fn refuse_encrypted(database: &Path) -> Result<()> {
    match open(database, OpenFlags::SQLITE_OPEN_READ_ONLY) {
        Err(error) if is_unreadable(&error) => Err(Error::refused(
            "the database is encrypted and the backup would not be; make it with the means of what \
             encrypts it, and switch this one off with archive_config('backup_keep', 0)",
        )),
        _ => Ok(()),
    }
}

/// Makes the copy; it counts once this has returned.
fn write(
    connection: &Connection,
    database: Option<&Path>,
    partial: &Path,
    target: &Path,
) -> Result<u64> {
    let access = Access::of(database);
    access.create(partial).map_err(Error::io(partial))?;
    copy::copy(connection, partial)?;
    copy::check(partial)?;
    let file = File::open(partial).map_err(Error::io(partial))?;
    file.sync_all().map_err(Error::io(partial))?;
    let bytes = file.metadata().map_err(Error::io(partial))?.len();
    drop(file);
    let folder = target.parent().unwrap_or(target);
    storage::sync_folder(folder)?;
    refuse_present(target)?;
    fs::rename(partial, target).map_err(Error::io(target))?;
    storage::sync_folder(folder)?;
    Ok(bytes)
}

fn refuse_present(target: &Path) -> Result<()> {
    match fs::symlink_metadata(target) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io(target)(error)),
        Ok(_) => Err(Error::refused(format!(
            "{} is already there; give the path of a new file, or of a folder",
            target.display()
        ))),
    }
}

/// SQLite would take a backup of such a name for its own journal, and remove it.
fn refuse_companion(database: Option<&Path>, target: &Path) -> Result<()> {
    let Some(database) = database else {
        return Ok(());
    };
    let is_companion = ["-journal", "-wal", "-shm"].into_iter().any(|end| {
        let mut name = database.as_os_str().to_owned();
        name.push(end);
        target == Path::new(&name)
    });
    match is_companion {
        true => Err(Error::refused(format!(
            "{} is a file of SQLite's own; give another path",
            target.display()
        ))),
        false => Ok(()),
    }
}

/// Where a backup goes, and what it is called.
struct Place {
    folder: PathBuf,
    /// The database's file name.
    name: OsString,
    /// The file that the caller asked for.
    file: Option<PathBuf>,
}

impl Place {
    fn new(database: Option<&Path>, path: Option<&Path>) -> Result<Self> {
        let name = database
            .and_then(Path::file_name)
            .unwrap_or("memory.db".as_ref())
            .to_owned();
        let Some(path) = path else {
            let folder = own_folder(database)?;
            return Ok(Self {
                folder,
                name,
                file: None,
            });
        };
        let path = std::path::absolute(path).map_err(Error::io(path))?;
        if path.is_dir() {
            return Ok(Self {
                folder: path,
                name,
                file: None,
            });
        }
        refuse_companion(database, &path)?;
        refuse_present(&path)?;
        let folder = path.parent().unwrap_or(&path).to_owned();
        Ok(Self {
            folder,
            name,
            file: Some(path),
        })
    }

    /// A file of our own in the folder; each database has another.
    fn hidden(&self, what: &str) -> PathBuf {
        self.folder.join(joined(&[
            ".".as_ref(),
            &self.name,
            ".".as_ref(),
            what.as_ref(),
        ]))
    }

    /// What stands before and after the time in the name of a backup.
    fn affixes(&self) -> (OsString, OsString) {
        let path = Path::new(&self.name);
        let stem = path.file_stem().unwrap_or_default();
        let end = path.extension().map(|end| joined(&[".".as_ref(), end]));
        (joined(&[stem, "-".as_ref()]), end.unwrap_or_default())
    }

    /// A name that no file has yet, if the caller gave none.
    fn target(&self) -> Result<PathBuf> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let (start, end) = self.affixes();
        let time = clock::now().format("%Y%m%dT%H%M%SZ").to_string();
        let others = (2..1000).map(|n| format!("{time}-{n}"));
        let times = std::iter::once(time.clone()).chain(others);
        times
            .map(|time| joined(&[&start, time.as_ref(), &end]))
            .map(|name| self.folder.join(name))
            .find(|path| fs::symlink_metadata(path).is_err())
            .ok_or_else(|| Error::refused("there are too many backups of this second"))
    }

    /// When a backup of this database was made, from its name; and which of that second it is.
    fn order(&self, name: &OsStr) -> Option<(String, u32)> {
        let (start, end) = self.affixes();
        let middle = name.as_encoded_bytes();
        let middle = middle.strip_prefix(start.as_encoded_bytes())?;
        let middle = middle.strip_suffix(end.as_encoded_bytes())?;
        let middle = std::str::from_utf8(middle).ok()?;
        let (time, number) = middle.split_once('-').unwrap_or((middle, "1"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let (day, clock) = time.strip_suffix('Z')?.split_once('T')?;
        let is_time = day.len() == 8 && clock.len() == 6 && digits(day) && digits(clock);
        let number = number.parse().ok().filter(|_| digits(number))?;
        is_time.then(|| (time.to_owned(), number))
    }
}

/// A file name of several parts.
fn joined(parts: &[&OsStr]) -> OsString {
    parts.iter().copied().collect()
}

/// The folder beside the database, which is made if it is not there.
fn own_folder(database: Option<&Path>) -> Result<PathBuf> {
    let Some(home) = database.and_then(Path::parent) else {
        return Err(Error::refused(
            "the database is in memory, so its backups have no place; give a path",
        ));
    };
    let folder = home.join(FOLDER);
    storage::check_beside(&folder, home, "give the path of the folder")?;
    storage::prepare(&folder, &Access::of(database))?;
    Ok(folder)
}

/// Removes all but the newest `keep` backups; returns how many there are then, and which went. `new` is
/// the one that was just made: it stays. One that is named by a later time was made before it all the same,
/// while the clock was wrong: such names go first, or they would keep the place of true ones for ever.
fn rotate(place: &Place, new: &Path, keep: usize) -> Result<(Option<usize>, Vec<PathBuf>)> {
    let mut older = Vec::new();
    for entry in fs::read_dir(&place.folder).map_err(Error::io(&place.folder))? {
        let entry = entry.map_err(Error::io(&place.folder))?;
        let order = place.order(&entry.file_name());
        if let Some(order) = order
            && entry.path() != new
            && entry.file_type().is_ok_and(|kind| kind.is_file())
        {
            older.push((order, entry.path()));
        }
    }
    let latest = new.file_name().and_then(|name| place.order(name));
    older.sort_by_cached_key(|(order, _)| (latest.as_ref() >= Some(order), order.clone()));
    let surplus = (older.len() + 1).saturating_sub(keep.max(1));
    let mut removed = Vec::new();
    for (_, path) in older.iter().take(surplus) {
        // The new backup counts all the same; what is left shows in how many there are.
        if remove_with_companions(path).is_ok() {
            removed.push(path.clone());
        }
    }
    Ok((Some(older.len() + 1 - removed.len()), removed))
}

/// Removes a database file, if it is there, and what SQLite may have left beside it.
fn remove_with_companions(path: &Path) -> Result<()> {
    for end in ["-journal", "-wal", "-shm", ""] {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        let path = Path::new(&name);
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::io(path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}
