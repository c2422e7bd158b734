//! Files and folders that a power cut cannot take.

use std::fs::File;
use std::io;
use std::path::Path;

use super::access::Access;
use crate::error::{Error, Result};
use crate::fault;

/// Creates a new file and the folders it is in. Another database that shares the archive folder may
/// remove an empty folder just before the file is in it: then it is made again.
pub fn create_with_folders(path: &Path, access: &Access) -> io::Result<File> {
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
