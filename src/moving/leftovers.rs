//! What runs leave behind that died or failed, and what the catalog knows of files.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use rusqlite::Connection;

use crate::catalog;
use crate::catalog::files;
use crate::catalog::runs::{self, Run};
use crate::error::Result;
use crate::sql::write_transaction;
use crate::storage::{Archive, OwnFile};
use crate::time::{clock, parse_iso8601};

/// Removes the files of `runs` that were not published. The archive's lock must be held, so that
/// none of the runs is going on.
pub fn remove_unpublished(connection: &Connection, archive: &Archive, runs: &[Run]) -> Result<()> {
    if runs.is_empty() {
        return Ok(());
    }
    let known = Known::read(connection)?;
    for file in archive.own_files()? {
        let of_run = |run: &Run| file.run == run.token;
        // A run may have published a file that has since been taken out of the catalog.
        if known.is_leftover(&file) && runs.iter().any(of_run) {
            archive.folder.remove(&file.path)?;
        }
    }
    Ok(())
}

/// Removes all files of a run that was rolled back with the caller's transaction, and its catalog rows
/// with it.
pub fn remove_undone(archive: &Archive, run: &Run) -> Result<()> {
    let files = archive.own_files()?.into_iter();
    files
        .filter(|file| file.run == run.token)
        .try_for_each(|file| archive.folder.remove(&file.path))
}

/// Closes the books on runs whose process died. The archive's lock must be held.
pub fn bury_dead_runs(connection: &Connection, archive: &Archive) -> Result<()> {
    // Written down before files are removed: that takes a transaction which sees the newest state.
    let dead = write_transaction(connection, || {
        let dead = runs::dead(connection)?;
        dead.iter()
            .try_for_each(|run| runs::mark_interrupted(connection, run))?;
        Ok(dead)
    })?;
    remove_unpublished(connection, archive, &dead)
}

/// What the catalog knows of files.
#[derive(Default)]
pub struct Known {
    /// Those that it names.
    pub published: HashSet<String>,
    /// Those that it named once, and how long ago that ended.
    pub removed: HashMap<String, Duration>,
    /// What the names of the files of its runs have in them.
    pub runs: HashSet<String>,
}

/// What the catalog has to do with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It names the file.
    Used,
    /// It knows where the file is from, and that nothing has referred to it for so long.
    Unused(Duration),
    /// It knows nothing of the file, which is so old.
    Unknown(Duration),
}

impl Known {
    /// A read could be of an old snapshot, if a statement of this connection has been running since
    /// before another process published files, and those would be taken for leftovers. A write
    /// transaction only starts on the newest state.
    pub fn read(connection: &Connection) -> Result<Self> {
        let now = clock::now_micros();
        // A time that cannot be read, or is yet to come, is no reason to remove anything.
        let age = |removed_at: &str| {
            let micros = now.saturating_sub(parse_iso8601(removed_at).unwrap_or(now));
            Duration::from_micros(u64::try_from(micros).unwrap_or(0))
        };
        write_transaction(connection, || {
            if !catalog::exists(connection)? {
                return Ok(Self::default());
            }
            let removed = files::removed(connection)?.into_iter();
            Ok(Self {
                published: files::paths(connection)?,
                removed: removed.map(|(path, at)| (path, age(&at))).collect(),
                runs: runs::tokens(connection)?,
            })
        })
    }

    /// Whether the catalog does not name a file and never did.
    fn is_leftover(&self, file: &OwnFile) -> bool {
        !self.published.contains(&file.path) && !self.removed.contains_key(&file.path)
    }

    pub fn standing(&self, file: &OwnFile) -> Standing {
        if self.published.contains(&file.path) {
            return Standing::Used;
        }
        match self.removed.get(&file.path) {
            Some(time) => Standing::Unused(*time),
            None if self.runs.contains(&file.run) => Standing::Unused(file.age),
            None => Standing::Unknown(file.age),
        }
    }
}
