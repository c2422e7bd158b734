//! Who may use what is made beside a database: whoever may use the database itself.
//!
//! SQLite does the same with its journal and WAL: the database file's mode counts, whatever the process's
//! umask is, and its owner, if the process may give files away.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// The database file whose mode and owner count. Without one, in memory, the umask decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    database: Option<PathBuf>,
}

impl Access {
    /// That of a database file; of one in memory if there is none.
    pub fn of(database: Option<&Path>) -> Self {
        Self {
            database: database.map(Path::to_owned),
        }
    }

    /// Creates a file that must not be there yet, for writing.
    pub fn create(&self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        let Some(database) = self.read()? else {
            return options.open(path);
        };
        private::file(&mut options);
        let file = options.open(path)?;
        private::share(&file, &database, false);
        Ok(file)
    }

    /// Opens a file for writing, which is created if it is not there.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        match self.create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                OpenOptions::new().write(true).open(path)
            }
            outcome => outcome,
        }
    }

    /// Creates a folder and those it is in, as far as they are not there.
    pub fn create_folders(&self, path: &Path) -> io::Result<()> {
        if path.as_os_str().is_empty() || path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.create_folders(parent)?;
        }
        let mut builder = DirBuilder::new();
        let database = self.read()?;
        if database.is_some() {
            private::folder(&mut builder);
        }
        match builder.create(path) {
            Ok(()) => {}
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        if let Some(database) = database {
            private::share(&File::open(path)?, &database, true);
        }
        Ok(())
    }

    /// What is known of the database file. One that was removed while it was open has no say.
    fn read(&self) -> io::Result<Option<fs::Metadata>> {
        match self.database.as_deref().map(fs::metadata).transpose() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            outcome => outcome,
        }
    }
}

/// Creates a folder that only its owner can look into.
pub fn create_private_folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    private::folder(&mut builder);
    builder.create(path)
}

/// What is made is its owner's alone at first, so that at no moment more can read it than should.
#[cfg(unix)]
mod private {
    use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};

    pub fn file(options: &mut OpenOptions) {
        options.mode(0o600);
    }

    pub fn folder(builder: &mut DirBuilder) {
        builder.mode(0o700);
    }

    /// Gives a new file to those who have the database. What the system does not allow is left out, and
    /// then fewer can use the file.
    pub fn share(file: &File, database: &Metadata, is_folder: bool) {
        let Ok(made) = file.metadata() else {
            return;
        };
        let mut mode = database.mode() & 0o777;
        if made.uid() != database.uid() {
            // Only the superuser can.
            let _ = fchown(file, Some(database.uid()), None);
        }
        if made.gid() != database.gid() && fchown(file, None, Some(database.gid())).is_err() {
            // What the database's group may is not for another.
            mode &= !0o070;
        }
        // Whoever may read a folder may go through it.
        let (own, search) = match is_folder {
            true => (0o700, (mode & 0o444) >> 2),
            false => (0o600, 0),
        };
        // A folder keeps the bit that hands its group on to what is made in it.
        let mode = made.mode() & 0o7000 | mode | own | search;
        if made.mode() & 0o7777 != mode {
            // Where a file system has no modes, there are none to set.
            let _ = file.set_permissions(Permissions::from_mode(mode));
        }
    }
}

/// Elsewhere what is made has the rights of the folder it is in.
#[cfg(not(unix))]
mod private {
    use std::fs::{DirBuilder, File, Metadata, OpenOptions};

    pub fn file(_options: &mut OpenOptions) {}

    pub fn folder(_builder: &mut DirBuilder) {}

    pub fn share(_file: &File, _database: &Metadata, _is_folder: bool) {}
}
