//! Whether the catalog is lost: a migration tool that does not know its tables has dropped or emptied
//! them, and the rows of the cold files are nowhere else.
//!
//! A new catalog in its place would show none of them. So whatever would make one asks here first. While
//! the catalog is whole that is one look at the schema.

use rusqlite::Connection;

use super::copies;
use super::remains::{self, Remains, is_whole};
use super::run;
use crate::catalog;
use crate::error::{Error, Result};
use crate::moving::mode::MoveMode;
use crate::settings::{self};
use crate::sql::{patiently, transaction};

/// Creates the catalog, or brings an older one up to date, unless it is lost.
pub fn ensure(connection: &Connection) -> Result<()> {
    check(connection)?;
    if let Some(before) = catalog::ensure(connection)? {
        // The new catalog raises the number again.
        remains::note_undone(connection, before);
    }
    Ok(())
}

/// Fails if the catalog is lost: if making it again would bring rows back. Files of a transaction that
/// was rolled back, in which a table was archived for the first time, have hot rows only.
pub fn check(connection: &Connection) -> Result<()> {
    let Some(mut remains) = Remains::find(connection)? else {
        return Ok(());
    };
    remains.leave_unfinished()?;
    if remains.is_empty() {
        return Ok(());
    }
    match settings::check_writable(connection) {
        Ok(()) => {}
        // Who cannot write makes no catalog.
        Err(Error::Refused(_)) => return Ok(()),
        Err(error) => return Err(error),
    }
    // A copy that says that rows were cold is enough; else all that there is has to be read.
    if let Some((files, rows)) = copies::count(&remains.copies)?
        && rows > 0
    {
        return Err(lost(&remains, files, rows));
    }
    let _lock = remains.archive.lock()?;
    let _mode = MoveMode::for_catalog(connection)?;
    let trial = || {
        transaction::trial(connection, || match is_whole(connection)? {
            // Another process was faster.
            true => Ok(None),
            false => run::make(connection, &remains).map(Some),
        })
    };
    let found = match connection.is_autocommit() {
        true => patiently(trial)?,
        // Who holds the lock may wait for the end of the caller's transaction.
        false => trial()?,
    };
    match found {
        Some(found) if found.rows > 0 => {
            Err(lost(&remains, found.files + found.unread, found.rows))
        }
        // Whether its rows were ever cold it cannot say.
        Some(found) if found.unread > 0 => Err(Error::refused(format!(
            "{}; there is no catalog that knows it: put it right or take it out of the archive folder, or call \
             archive_recover() to go on without it",
            found
                .problems
                .first()
                .map_or("a cold file cannot be read", |problem| problem)
        ))),
        _ => Ok(()),
    }
}

fn lost(remains: &Remains, files: u64, rows: u64) -> Error {
    let replaced = match remains.is_replaced {
        true => {
            ". If another database took the place of the one they are of, set ARCHIVE_DIR to a folder of its own"
        }
        false => "",
    };
    Error::refused(format!(
        "the archive catalog is lost: {} has {files} cold files with {rows} rows of this database that are \
         nowhere else; call archive_recover() to make it again{replaced}",
        remains.archive.folder.root().display(),
    ))
}
