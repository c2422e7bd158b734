//! What there is to make a lost catalog from.

use std::collections::VecDeque;
use std::path::PathBuf;

use rusqlite::Connection;

use super::copies;
use super::origin;
use crate::catalog;
use crate::catalog::files;
use crate::catalog::runs::{self, Run};
use crate::error::{Error, Result};
use crate::format::file::OpenFile;
use crate::settings::{self, Config};
use crate::sql::schema_version;
use crate::sqlite::filename::database_path;
use crate::sqlite::fork::PerProcess;
use crate::storage::{Archive, OwnFile, file_identity};

/// The last runs of this process inside a transaction of the caller's, each with its database and the
/// number of the schema that the transaction had by then. They leave no copy of the catalog. If there is neither a catalog nor a copy of
/// any, and the schema is older, the transaction that made the catalog was rolled back, and what the files have
/// never was. No COMMIT lets the number go down, so that one which was committed is never taken for such.
static INSIDE: PerProcess<VecDeque<Inside>> = PerProcess::empty();

struct Inside {
    /// Others of the process have schemas of their own.
    database: String,
    token: String,
    schema: i64,
}

/// Higher than any number: the run was rolled back for certain.
const UNDONE: i64 = i64::MAX;

/// How many of them are remembered.
const REMEMBERED: usize = 1_000;

/// Notes that a run writes files inside a transaction of the caller's.
pub fn note_inside(connection: &Connection, run: &Run) -> Result<()> {
    let schema = schema_version(connection)?;
    let mut runs = INSIDE.lock();
    if runs.len() == REMEMBERED {
        runs.pop_front();
    }
    runs.push_back(Inside {
        database: file_identity(database_path(connection).as_deref()),
        token: run.token.clone(),
        schema,
    });
    Ok(())
}

/// Notes that the transactions of this database were rolled back which had a schema with a higher number than
/// `before`.
pub fn note_undone(connection: &Connection, before: i64) {
    let database = file_identity(database_path(connection).as_deref());
    let mut runs = INSIDE.lock();
    let undone = |run: &&mut Inside| run.database == database && run.schema > before;
    runs.iter_mut()
        .filter(undone)
        .for_each(|run| run.schema = UNDONE);
}

/// What there is to make a catalog from.
pub struct Remains {
    pub archive: Archive,
    /// The database's.
    pub id: String,
    /// The newest first.
    pub copies: Vec<PathBuf>,
    pub files: Vec<OwnFile>,
    /// Whether they are of another file that was in the place of the database's.
    pub is_replaced: bool,
    /// Whether the catalog is there, and only what an earlier recovery could not take is left.
    pub is_whole: bool,
    /// When the copy was made that this one used.
    pub since: Option<String>,
}

impl Remains {
    /// `None` if the catalog is whole, or the database has no place that files could be in.
    pub fn find(connection: &Connection) -> Result<Option<Self>> {
        if database_path(connection).is_none() || is_whole(connection)? {
            return Ok(None);
        }
        let folder = match settings::folder(connection, &Config::read_remains(connection)?) {
            Ok(folder) => folder,
            Err(error @ Error::Sqlite(_)) => return Err(error),
            // Whoever needs a folder that has no place fails; a setting can still be changed.
            Err(_) => return Ok(None),
        };
        let known = match catalog::has_table(connection, "_archive_meta")? {
            true => catalog::find_meta(connection, "database_id")?,
            false => None,
        };
        let is_known = known.is_some();
        let mut id = known.unwrap_or_else(|| catalog::database_id(connection));
        let mut archive = settings::archive_in(connection, folder, &id)?;
        let mut own = archive.copies().list()?;
        let mut is_replaced = false;
        if own.is_empty()
            && let Some(former) = copies::former(connection, &archive.folder, &id, is_known)?
        {
            own = former.copies.list()?;
            is_replaced = former.id != id;
            id = former.id;
            archive = settings::archive_in(connection, archive.folder, &id)?;
        }
        let mut files = archive.own_files()?;
        if own.is_empty() {
            let now = schema_version(connection)?;
            let inside = INSIDE.lock();
            let undone = |file: &OwnFile| {
                let run = inside.iter().find(|run| run.token == file.run);
                run.is_some_and(|run| run.schema > now)
            };
            files.retain(|file| !undone(file));
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let remains = Self {
            archive,
            id,
            copies: own.into_iter().rev().map(|(_, path)| path).collect(),
            files,
            is_replaced,
            is_whole: false,
            since: None,
        };
        if catalog::is_whole(connection)? {
            // Where all files have left the catalog, none of its runs is there that it does not know.
            let published = runs::published(connection)?;
            let unknown = remains.unknown(connection)?;
            if !unknown.iter().any(|file| published.contains(&file.run)) {
                return Ok(None);
            }
        }
        Ok(Some(remains))
    }

    /// What the last recovery could not take, if no run has been at work since: files that were damaged and may
    /// have been put right. `None` if there is nothing.
    pub fn left(connection: &Connection) -> Result<Option<Self>> {
        if !is_whole(connection)? {
            return Ok(None);
        }
        let Some(since) = runs::since_recovery(connection)? else {
            return Ok(None);
        };
        let archive = settings::archive(connection, &Config::read(connection)?)?;
        let mut files = archive.own_files()?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let remains = Self {
            archive,
            id: catalog::meta(connection, "database_id")?,
            copies: Vec::new(),
            files,
            is_replaced: false,
            is_whole: true,
            since,
        };
        for file in remains.unknown(connection)? {
            let opened = OpenFile::discover(&remains.archive.folder, &file.path);
            match opened.and_then(|file| origin::of(&file)) {
                Ok(origin) if origin::is_before(&origin, remains.since.as_deref()) => {}
                Ok(_) => return Ok(Some(remains)),
                Err(error) => {
                    origin::problem(error)?;
                    return Ok(Some(remains));
                }
            }
        }
        Ok(None)
    }

    /// The files that the catalog neither names nor has named.
    pub fn unknown(&self, connection: &Connection) -> Result<Vec<&OwnFile>> {
        let mut known = files::paths(connection)?;
        let removed = files::removed(connection)?.into_iter();
        known.extend(removed.map(|(path, _)| path));
        let unknown = self.files.iter();
        Ok(unknown.filter(|file| !known.contains(&file.path)).collect())
    }

    /// Leaves out files that were never written to their end: those of a first run that was cut off.
    pub fn leave_unfinished(&mut self) -> Result<()> {
        let folder = &self.archive.folder;
        let mut finished = Vec::with_capacity(self.files.len());
        for file in self.files.drain(..) {
            match folder.is_finished(&file.path) {
                Ok(true) => finished.push(file),
                // It may be gone by now.
                Ok(false) | Err(Error::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.files = finished;
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.copies.is_empty() && self.files.is_empty()
    }
}

/// Whether there is a catalog from which nothing seems to be missing.
pub fn is_whole(connection: &Connection) -> Result<bool> {
    Ok(catalog::is_whole(connection)? && !runs::miss_files(connection)?)
}
