//! The folder `.catalog` below the archive folder: copies of the catalogs of the databases whose cold
//! files are there. No table's folder can have that name.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::access::Access;
use super::durable::{prepare, sync_folder};
use super::folder::Folder;
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
    /// What their names begin with, before the number.
    owner: String,
}

impl Copies {
    /// `id` is the database's; of what it has, only letters and digits count. Databases of which one is a
    /// copy of the other have the same, and `owner` tells them apart.
    pub fn new(archive: &Folder, id: &str, owner: &str) -> Self {
        Self::named(archive, plain(id) + owner)
    }

    fn named(archive: &Folder, owner: String) -> Self {
        Self {
            folder: archive.root().join(FOLDER),
            access: archive.access().clone(),
            owner,
        }
    }

    /// Whether they are of a database with this id.
    pub fn are_of(&self, id: &str) -> bool {
        self.owner.starts_with(&plain(id))
    }

    /// The copies that there are, by their numbers; the newest last.
    pub fn list(&self) -> Result<Vec<(u64, PathBuf)>> {
        let mut copies = Vec::new();
        for path in self.entries()? {
            if let Some((owner, number)) = parts(&path)
                && owner == self.owner
                && is_file(&path)
            {
                copies.push((number, path));
            }
        }
        copies.sort_unstable();
        Ok(copies)
    }

    /// The copies of each database that has any in the folder.
    pub fn of_all(archive: &Folder) -> Result<Vec<Self>> {
        let mut owners = BTreeSet::new();
        for path in Self::named(archive, String::new()).entries()? {
            owners.extend(parts(&path).map(|(owner, _)| owner));
        }
        let copies = owners.into_iter().map(|owner| Self::named(archive, owner));
        Ok(copies.collect())
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
            .join(format!("{}-{number:08}{EXTENSION}", self.owner));
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

    /// Removes all. The archive's lock must be held.
    pub fn remove(&self) -> Result<()> {
        let mut copies = self.list()?.into_iter();
        copies.try_for_each(|(_, path)| fs::remove_file(&path).map_err(Error::io(&path)))
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

fn plain(id: &str) -> String {
    id.chars().filter(char::is_ascii_alphanumeric).collect()
}

/// The database that a copy is of, and its number, from its name.
fn parts(path: &Path) -> Option<(String, u64)> {
    let name = path.file_name()?.to_str()?.strip_suffix(EXTENSION)?;
    let (owner, number) = name.split_once('-')?;
    let number = Some(number).filter(|number| number.bytes().all(|c| c.is_ascii_digit()))?;
    Some((owner.to_owned(), number.parse().ok()?))
}

/// Whether a regular file is there. A pipe would be waited for, and a link may lead anywhere.
fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file())
}
