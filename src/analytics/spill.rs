//! Where DuckDB puts what does not fit into its memory: a folder of its own beside the archive.
//!
//! It is locked while it is in use, so that what a killed process has left is told from what a living one
//! needs.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Result;
use crate::sqlite::fork;
use crate::storage::access::{Access, create_private_folder};
use crate::storage::{self, Lock};

/// The folder of all such folders, beside the archive folder.
const FOLDER: &str = "duckdb_spill";
/// The end of the name of the file that is locked, which is beside the folder it is for.
const LOCK: &str = "lock";

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A folder for one DuckDB instance. It is removed when this is dropped.
pub struct Spill {
    path: PathBuf,
    lock: Option<Lock>,
    /// The process that it belongs to.
    generation: u32,
}

impl Spill {
    /// Makes a folder beside the archive folder `root`, and removes those whose owners have ended. `None`
    /// where nothing can be written: then DuckDB has its memory and no more, and says so if it needs more.
    pub fn beside(root: &Path, access: &Access) -> Option<Self> {
        // Without an archive folder nothing may be made: the first archive run decides where it is.
        let folder = root.exists().then(|| root.parent())??.join(FOLDER);
        // Whoever put a link there must not choose what is written and removed elsewhere.
        if folder.is_symlink() {
            return None;
        }
        access.create_folders(&folder).ok()?;
        remove_leftovers(&folder, access);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("{}-{number}", std::process::id()));
        let lock = lock(&path, access).ok()?;
        // What is there has no owner, as its lock was free.
        let _ = fs::remove_dir_all(&path);
        // Nobody else needs it.
        create_private_folder(&path).ok()?;
        Some(Self {
            path,
            lock: Some(lock),
            generation: fork::generation(),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        if self.generation != fork::generation() {
            // A child closes what it has from its parent, which still needs the folder.
            return;
        }
        remove(&self.path);
        drop(self.lock.take());
        if let Some(folder) = self.path.parent() {
            // It fails while other instances have theirs in it.
            let _ = fs::remove_dir(folder);
        }
    }
}

fn lock(path: &Path, access: &Access) -> Result<Lock> {
    storage::lock(&path.with_extension(LOCK), access, "the folder is in use")
}

/// Removes a folder and, after it, its lock. What cannot be removed now is removed by the next instance.
fn remove(path: &Path) {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {}
        _ => drop(fs::remove_file(path.with_extension(LOCK))),
    }
}

/// Whether a file has the name of a lock of ours: those of a process and an instance, as numbers.
fn is_lock(path: &Path) -> bool {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit());
    let name = path.file_stem().and_then(OsStr::to_str);
    path.extension().is_some_and(|end| end == LOCK)
        && name
            .and_then(|name| name.split_once('-'))
            .is_some_and(|(process, instance)| number(process) && number(instance))
}

fn remove_leftovers(folder: &Path, access: &Access) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        let path = entry.path();
        if is_lock(&path)
            && let Ok(_owned) = storage::lock(&path, access, "")
        {
            remove(&path.with_extension(""));
        }
    }
}
