//! Where links lead: a database, and what lies beside it, may be a stranger's.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::error::{Error, Result};

/// Where links lead that are in a path, as far as it is there; `None` if one leads to nothing.
pub fn real_place(path: &Path) -> Result<Option<PathBuf>> {
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
