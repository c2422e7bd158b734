//! The folder `.catalog` below the archive folder: copies of the catalogs of the databases whose cold
//! files are there. No table's folder can have that name.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::access::Access;
use super::{Folder, prepare, sync_folder};
use crate::error::{Error, Result};
use crate::fault;

const FOLDER: &str = ".catalog";
const EXTENSION: &str = ".db";
/// The end of the name of a copy that is being written.
const UNFINISHED: &str = ".new";
/// How many copies of a catalog are kept.
const KEPT: usize = 3;

/// The copies of the catalog of one database.
pub struct Copies {
    folder: PathBuf,
    access: Access,
    /// What their names begin with.
    prefix: String,
}

impl Copies {
    /// `id` tells the database from others; of what it has, only letters and digits count.
    pub fn new(archive: &Folder, id: &str) -> Self {
        let id: String = id.chars().filter(char::is_ascii_alphanumeric).collect();
        Self {
            folder: archive.root().join(FOLDER),
            access: archive.access().clone(),
            prefix: format!("{id}-"),
        }
    }

    /// The copies that there are, by their numbers; the newest last.
    pub fn list(&self) -> Result<Vec<(u64, PathBuf)>> {
        let mut copies = Vec::new();
        for path in self.entries()? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let number = name
                .strip_prefix(&self.prefix)
                .and_then(|rest| rest.strip_suffix(EXTENSION));
            let digits = |rest: &&str| rest.bytes().all(|c| c.is_ascii_digit());
            if let Some(Ok(number)) = number.filter(digits).map(str::parse)
                && is_file(&path)
            {
                copies.push((number, path));
            }
        }
        copies.sort_unstable();
        Ok(copies)
    }

    /// The newest copy of each database that has any in the folder.
    pub fn newest_of_all(archive: &Folder) -> Result<Vec<PathBuf>> {
        let mut newest: BTreeMap<String, (u64, PathBuf)> = BTreeMap::new();
        // Whoever's they are: the name begins with an id, and has nothing else before the number.
        for path in Self::new(archive, "").entries()? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let Some((id, number)) = name
                .strip_suffix(EXTENSION)
                .and_then(|name| name.split_once('-'))
            else {
                continue;
            };
            let is_newer = |number: u64| newest.get(id).is_none_or(|(last, _)| *last < number);
            if let Ok(number) = number.parse()
                && is_newer(number)
                && is_file(&path)
            {
                newest.insert(id.to_owned(), (number, path));
            }
        }
        Ok(newest.into_values().map(|(_, path)| path).collect())
    }

    fn entries(&self) -> Result<Vec<PathBuf>> {
        if self.folder.is_symlink() {
            let folder = self.folder.display();
            return Err(Error::refused(format!(
                "{folder} is a link, which may lead anywhere; put a folder in its place"
            )));
        }
        let entries = match fs::read_dir(&self.folder) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(Vec::new());
            }
            entries => entries.map_err(Error::io(&self.folder))?,
        };
        entries
            .map(|entry| Ok(entry.map_err(Error::io(&self.folder))?.path()))
            .collect()
    }

    /// Makes a new copy: `write` fills the empty file. It has its name, and older ones go, only when it is
    /// whole and durable. The archive's lock must be held.
    pub fn add(&self, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let copies = self.list()?;
        prepare(&self.folder, &self.access)?;
        let last = copies.last().map_or(0, |(number, _)| *number);
        let number = last.checked_add(1).ok_or_else(|| {
            let folder = self.folder.display();
            Error::refused(format!(
                "{folder} has a copy with the last number that there is"
            ))
        })?;
        let path = self
            .folder
            .join(format!("{}{number:08}{EXTENSION}", self.prefix));
        let unfinished = path.with_extension(format!("{}{UNFINISHED}", &EXTENSION[1..]));
        let remove = || match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io(&unfinished)(error))
            }
            _ => Ok(()),
        };
        // One that a process left which died.
        remove()?;
        let written = self
            .access
            .create(&unfinished)
            .map_err(Error::io(&unfinished))
            .and_then(|_| write(&unfinished))
            .and_then(|()| self.publish(&unfinished, &path));
        if written.is_err() {
            // The first error is the one to report.
            let _ = remove();
            return written;
        }
        let old = copies.len().saturating_sub(KEPT - 1);
        for (_, path) in copies.iter().take(old) {
            fs::remove_file(path).map_err(Error::io(path))?;
        }
        Ok(())
    }

    fn publish(&self, unfinished: &Path, path: &Path) -> Result<()> {
        fault::point("catalog.copy")?;
        let file = File::open(unfinished).map_err(Error::io(unfinished))?;
        file.sync_all().map_err(Error::io(unfinished))?;
        fs::rename(unfinished, path).map_err(Error::io(path))?;
        fault::point("catalog.rename")?;
        sync_folder(&self.folder)
    }
}

/// Whether a regular file is there. A pipe would be waited for, and a link may lead anywhere.
fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file())
}
