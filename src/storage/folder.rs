//! The folder that holds the cold files of a database.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use once_cell::sync::OnceCell;

use super::access::Access;
use super::durable::{create_with_folders, prepare};
use super::identity::Identity;
use super::names::checked;
use super::places::real_place;
use super::write::NewFile;
use crate::error::{Error, Result};

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
    pub fn remove_if_empty(&self, folder: &Path) {
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
