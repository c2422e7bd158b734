//! All file access: the archive folder, the cold files in it, and its lock.
//!
//! - [`access`]: who may use what is made
//! - [`copies`]: copies of catalogs
//! - [`write`](mod@write): a cold file while it is written
//! - [`read`](mod@read): a cold file that gives out only the bytes that were written
//!
//! A path in the catalog is relative to the archive folder and may not leave it: a database from a
//! stranger must not make us read or write elsewhere.

pub mod access;
pub mod copies;
pub mod read;
pub mod write;

use std::ffi::OsString;
use std::fs::{self, DirEntry, File, Metadata, TryLockError};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use once_cell::sync::OnceCell;
use xxhash_rust::xxh3::xxh3_64;

use self::access::Access;
use self::copies::Copies;
use self::write::{NewFile, Seal};
use crate::error::{Error, Result};
use crate::fault;
use crate::sqlite::fork::LockedFile;
use crate::time::clock;

/// The end of a cold file's name.
const EXTENSION: &str = ".parquet";

/// The folder that holds the cold files of a database.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
    /// The folder itself, whatever links lead to it.
    real_root: OnceCell<PathBuf>,
    access: Access,
}

impl Folder {
    /// `access` is what is made in the folder for.
    pub fn new(root: PathBuf, access: Access) -> Self {
        Self {
            root,
            real_root: OnceCell::new(),
            access,
        }
    }

    /// Makes sure that the folder is there.
    pub fn prepare(&self) -> Result<()> {
        prepare(&self.root, &self.access)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Whether the folder is there. That it cannot be looked at is an error.
    pub fn exists(&self) -> Result<bool> {
        self.root.try_exists().map_err(Error::io(&self.root))
    }

    /// Creates a new file at `relative`, with its folders.
    pub fn create(&self, relative: &str) -> Result<NewFile> {
        let path = self.root.join(checked(relative)?);
        self.check_inside(&path)?;
        let file = create_with_folders(&path, &self.access).map_err(Error::io(&path))?;
        Ok(NewFile::new(file, path, self.root.clone()))
    }

    /// Removes a folder of a partition, below this one, if it is empty.
    fn remove_if_empty(&self, folder: &Path) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let name = name.strip_prefix("archive_").unwrap_or(&name);
        if ["year=", "month=", "day="]
            .iter()
            .any(|key| name.starts_with(key))
        {
            // It fails where there is still something in it, and then there is nothing to do.
            let _ = fs::remove_dir(folder);
        }
    }

    /// The place of the file at `relative`, and which file is there now.
    pub fn identify(&self, relative: &str) -> Result<(PathBuf, Identity)> {
        let path = self.root.join(checked(relative)?);
        let metadata = fs::metadata(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => {
                let reason = "it is missing; put it back, or restore it from a backup";
                Error::damaged(&path)(reason)
            }
            _ => Error::io(&path)(source),
        })?;
        match metadata.is_file() {
            true => Ok((path, Identity::of(&metadata))),
            false => Err(Error::damaged(&path)("it is not a regular file")),
        }
    }

    /// Opens the file at `relative` for reading.
    pub fn open(&self, relative: &str) -> Result<(File, PathBuf)> {
        let (path, _) = self.identify(relative)?;
        self.check_inside(&path)?;
        let file = File::open(&path).map_err(Error::io(&path))?;
        Ok((file, path))
    }

    /// Whether the file at `relative` was written to its end: it is published only then.
    pub fn is_finished(&self, relative: &str) -> Result<bool> {
        const END: &[u8; 4] = b"PAR1";
        let (mut file, path) = self.open(relative)?;
        let mut end = [0; 4];
        let read = file.seek(SeekFrom::End(-4));
        match read.and_then(|_| file.read_exact(&mut end)) {
            Ok(()) => Ok(end == *END),
            // It is shorter than that.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(false),
            Err(error) => Err(Error::io(&path)(error)),
        }
    }

    /// What the file at `relative` is recognised by from now on.
    pub fn seal(&self, relative: &str) -> Result<Seal> {
        let (file, path) = self.open(relative)?;
        let bytes = file.metadata().map_err(Error::io(&path))?.len();
        let mut blocks = Vec::new();
        let whole = read::checksum(&file, bytes, |_, block| blocks.push(xxh3_64(block)));
        Ok(Seal {
            bytes,
            checksum: whole.map_err(Error::reading_bytes(&path))?,
            blocks,
        })
    }

    /// Removes the file at `relative`; it is fine if there is none.
    pub fn remove(&self, relative: &str) -> Result<()> {
        let path = self.root.join(checked(relative)?);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(&path)(error)),
            _ => Ok(()),
        }
    }

    /// Follows symbolic links and refuses a path that ends up outside the archive folder.
    fn check_inside(&self, path: &Path) -> Result<()> {
        let real = || self.root.canonicalize().map_err(Error::io(&self.root));
        let place = real_place(path)?;
        let is_below = |root: &Path| place.as_ref().is_some_and(|place| place.starts_with(root));
        // The folder may have been moved, and a link put in its place.
        match is_below(self.real_root.get_or_try_init(real)?) || is_below(&real()?) {
            true => Ok(()),
            false => Err(Error::refused(format!(
                "{} leads out of the archive folder",
                path.display()
            ))),
        }
    }
}

/// Where links lead that are in a path, as far as it is there; `None` if one leads to nothing.
fn real_place(path: &Path) -> Result<Option<PathBuf>> {
    for folder in path.ancestors() {
        match folder.canonicalize() {
            Ok(real) => return Ok(Some(real)),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io(folder)(error));
            }
            Err(_) if fs::symlink_metadata(folder).is_ok() => return Ok(None),
            Err(_) => {}
        }
    }
    Ok(None)
}

/// Refuses a folder beside a database from which a link leads away: the database, and the link, may be a
/// stranger's. `way_out` is what its user can do.
pub fn check_beside(folder: &Path, home: &Path, way_out: &str) -> Result<()> {
    let home = home.canonicalize().map_err(Error::io(home))?;
    match real_place(folder)?.is_some_and(|place| place.starts_with(home)) {
        true => Ok(()),
        false => Err(Error::refused(format!(
            "{} is, or is below, a link that leads away from the database; {way_out}",
            folder.display()
        ))),
    }
}

/// Keeps every other archive run away from the database while it, or a copy of it, lives.
pub type Lock = Arc<LockedFile>;

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
        let path = self.folder.root.join(format!(".{}.lock", self.lock));
        let busy = "another archive run is working on this database";
        lock(&path, &self.folder.access, busy)
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
        let root = &self.folder.root;
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
        let mut folders = vec![self.folder.root.clone()];
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

/// Locks the file `path`, which is made if it is not there, for as long as the result lives;
/// `busy` says what it means if another process has it.
pub fn lock(path: &Path, access: &Access, busy: &str) -> Result<Lock> {
    if fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(Error::refused(format!(
            "{} is not a regular file",
            path.display()
        )));
    }
    let file = access.open(path).or_else(|error| {
        // A lock needs no right to write the file: one that is there can be locked where nothing can be
        // made.
        File::open(path).map_err(|_| error)
    });
    let file = file.map_err(Error::io(path))?;
    match file.try_lock() {
        Ok(()) => Ok(Arc::new(LockedFile::new(file))),
        Err(TryLockError::WouldBlock) => Err(Error::refused(format!(
            "{busy}; try again when it has ended"
        ))),
        Err(TryLockError::Error(error)) => Err(Error::io(path)(error)),
    }
}

/// Tells a file from every other, and from itself after a change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Identity {
    pub bytes: u64,
    /// Device, inode and time of the last change to either data or metadata, where the system tells.
    place: (u64, u64, i64, i64),
    modified: Option<SystemTime>,
}

impl Identity {
    pub fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let place = {
            use std::os::unix::fs::MetadataExt;
            let changed = (metadata.ctime(), metadata.ctime_nsec());
            (metadata.dev(), metadata.ino(), changed.0, changed.1)
        };
        #[cfg(not(unix))]
        let place = (0, 0, 0, 0);
        Self {
            bytes: metadata.len(),
            place,
            modified: metadata.modified().ok(),
        }
    }
}

/// Creates a new file and the folders it is in. Another database that shares the archive folder may
/// remove an empty folder just before the file is in it: then it is made again.
fn create_with_folders(path: &Path, access: &Access) -> io::Result<File> {
    const TRIES: usize = 10;
    let parent = path.parent().unwrap_or(path);
    let create = || {
        access.create_folders(parent)?;
        fault::io_point("file.create")?;
        access.create(path)
    };
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    for _ in 1..TRIES {
        match create() {
            Err(error) if gone(&error) => {}
            outcome => return outcome,
        }
    }
    create()
}

/// Makes sure that a folder is there, and that it is on the disk in the folders that it is in.
pub fn prepare(root: &Path, access: &Access) -> Result<()> {
    /// An archive folder and the one it is in: a run may have died after it had made them.
    const OWN: usize = 2;
    let missing = |folder: &&Path| !folder.exists();
    let new = root.ancestors().take_while(missing).count();
    access.create_folders(root).map_err(Error::io(root))?;
    // Those above may not be ours to open.
    root.ancestors()
        .skip(1)
        .take(new.max(OWN))
        .for_each(|folder| drop(sync_folder(folder)));
    Ok(())
}

/// A catalog path, or an error if it could leave the archive folder.
fn checked(relative: &str) -> Result<&Path> {
    let path = Path::new(relative);
    let plain = |component: Component| matches!(component, Component::Normal(_));
    match !relative.is_empty() && path.components().all(plain) {
        true => Ok(path),
        false => Err(Error::refused(format!(
            "the catalog names a cold file outside the archive folder: {relative}"
        ))),
    }
}

fn portable(path: &Path) -> String {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

/// What tells a database file from all others, whatever path leads to it: the file itself where the
/// system tells, else its real path. In memory, the process.
pub fn file_identity(database: Option<&Path>) -> String {
    let identity = match database {
        Some(path) => place(path).map_or_else(
            || path.canonicalize().unwrap_or(path.to_owned()).into(),
            OsString::from,
        ),
        None => format!("memory of {}", std::process::id()).into(),
    };
    format!("{:016x}", xxh3_64(identity.as_encoded_bytes()))
}

#[cfg(unix)]
fn place(path: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path).ok()?;
    Some(format!("{} {}", metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn place(_path: &Path) -> Option<String> {
    None
}

/// A folder name for a table: letters and digits of any script, `_`, `-` and inner dots stay;
/// every other character becomes `%` and its code.
pub fn folder_name(table: &str) -> String {
    let mut name = String::new();
    for (index, c) in table.char_indices() {
        if c.is_alphanumeric() || "_-".contains(c) || (c == '.' && index > 0) {
            name.push(c);
        } else {
            name += &format!("%{:02X}", u32::from(c));
        }
    }
    if name.is_empty() {
        name.push('%'); // SQLite takes "" for a name.
    }
    if name.len() > 200 {
        // File systems stop at 255 bytes; the hash keeps long names apart.
        let hash = xxh3_64(table.as_bytes());
        name.truncate(name.floor_char_boundary(180));
        name += &format!("%{hash:016x}");
    }
    name
}

/// Makes the names in a folder durable.
#[cfg(unix)]
pub fn sync_folder(folder: &Path) -> Result<()> {
    let opened = File::open(folder).map_err(Error::io(folder))?;
    opened.sync_all().map_err(Error::io(folder))
}

/// Windows makes directory entries durable with the file.
#[cfg(not(unix))]
pub fn sync_folder(_folder: &Path) -> Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn catalog_paths_cannot_leave_the_folder() {
        assert!(checked("t/year=2024/a.parquet").is_ok());
        for path in ["", "/etc/passwd", "../x", "t/../../x", "t/./x/..", "."] {
            assert!(checked(path).is_err(), "{path}");
        }
    }

    #[test]
    fn folder_names_are_plain_and_distinct() {
        assert_eq!(folder_name("task_queue"), "task_queue");
        assert_eq!(folder_name("über größe"), "über%20größe");
        assert_eq!(folder_name("../x"), "%2E.%2Fx");
        assert_eq!(folder_name(""), "%");
        assert_ne!(folder_name("a/b"), folder_name("a%2Fb"));
        assert!(folder_name(&"x".repeat(1000)).len() < 220);
    }
}
