//! The archive folder as a run uses it: with its lock, and with names that only its database gives.

use std::fs::{self, DirEntry};
use std::io;
use std::time::{Duration, SystemTime};

use super::copies::Copies;
use super::folder::Folder;
use super::lock::{Lock, lock};
use super::names::portable;
use crate::error::{Error, Result};
use crate::time::clock;

/// The end of a cold file's name.
const EXTENSION: &str = ".parquet";

/// The folder as an archive run uses it.
#[derive(Debug, Clone)]
pub struct Archive {
    pub folder: Folder,
    id: String,
    owner: String,
    lock: String,
}

impl Archive {
    /// `id` is the database's. `owner` starts the names of the files that this database writes, so that databases can share a
    /// folder and never take each other's files for leftovers. `lock` names the lock; it is the same
    /// whatever path leads to the database.
    pub fn new(folder: Folder, id: String, owner: String, lock: String) -> Self {
        Self {
            folder,
            id,
            owner,
            lock,
        }
    }

    /// Takes the lock that only one archive run per database can hold, for as long as the result
    /// lives. It ends with the process, however that ends.
    pub fn lock(&self) -> Result<Lock> {
        // A table with a policy has no files yet.
        self.folder.prepare()?;
        let path = self.folder.root().join(format!(".{}.lock", self.lock));
        let busy = "another archive run is working on this database";
        lock(&path, self.folder.access(), busy)
    }

    /// The copies of this database's catalog. One that was copied to another path has its own.
    pub fn copies(&self) -> Copies {
        Copies::new(&self.folder, &self.id, &self.owner)
    }

    /// The name of the file number `sequence` of a run. `run` is never used twice.
    pub fn file_name(&self, run: &str, sequence: usize) -> String {
        format!("{}-{run}-{sequence:05}{EXTENSION}", self.owner)
    }

    /// The files that this database has written below the folder, whether the catalog knows them or
    /// not. Only for cleaning up: data is found through the catalog.
    pub fn own_files(&self) -> Result<Vec<OwnFile>> {
        let mut files = Vec::new();
        let root = self.folder.root();
        let prefix = format!("{}-", self.owner);
        let now = SystemTime::from(clock::now());
        for entry in self.entries()? {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let path = entry.path();
            let Some(rest) = name
                .strip_prefix(&prefix)
                .filter(|rest| rest.ends_with(EXTENSION))
            else {
                continue;
            };
            let metadata = entry.metadata().map_err(Error::io(&path))?;
            let modified = metadata.modified().map_err(Error::io(&path))?;
            if let Ok(relative) = path.strip_prefix(root)
                && metadata.is_file()
            {
                files.push(OwnFile {
                    path: portable(relative),
                    run: rest.split('-').next().unwrap_or_default().to_owned(),
                    bytes: metadata.len(),
                    age: now.duration_since(modified).unwrap_or_default(),
                });
            }
        }
        Ok(files)
    }

    /// Removes the folders of partitions that have nothing in them.
    pub fn remove_empty_folders(&self) -> Result<()> {
        let entries = self.entries()?;
        // Each folder comes after the one it is in.
        for entry in entries.iter().rev() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.folder.remove_if_empty(&entry.path());
            }
        }
        Ok(())
    }

    /// All that is in the folder, without following links; what is in a folder after the folder.
    fn entries(&self) -> Result<Vec<DirEntry>> {
        let mut all = Vec::new();
        let mut folders = vec![self.folder.root().to_owned()];
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Error::io(&folder)(error)),
            };
            for entry in entries {
                let entry = entry.map_err(Error::io(&folder))?;
                if entry.file_type().map_err(Error::io(&folder))?.is_dir() {
                    folders.push(entry.path());
                }
                all.push(entry);
            }
        }
        Ok(all)
    }
}

/// The token of the run that wrote the file at `path`, whose name is as [`Archive::file_name`] makes it.
pub fn run_of(path: &str) -> Option<&str> {
    path.rsplit('/').next()?.split('-').nth(1)
}

/// A file below the archive folder that this database has written.
#[derive(Debug, Clone)]
pub struct OwnFile {
    /// Relative to the archive folder.
    pub path: String,
    /// The token of the run that wrote it.
    pub run: String,
    pub bytes: u64,
    /// How long ago it was written.
    pub age: Duration,
}
