//! Which rows of the files count, where the catalog is older than the files and the hot table: each
//! row once. The newest file of a row has it; a hot row is newer than all of them.

use rusqlite::Connection;

use super::twins::{Found, Group, Twins};
use crate::catalog::files::{self, FileEntry};
use crate::catalog::tables::{self, ArchivedTable};
use crate::catalog::tombstones::{Burial, DeadRows};
use crate::cold::file::OpenFile;
use crate::error::Result;
use crate::storage::Folder;
use crate::table::Table;

/// What became of rows of files.
#[derive(Debug, Default)]
pub struct Tally {
    /// Rows that do not count, as they are hot.
    pub hot: u64,
    /// Rows that do not count, as a newer file has them.
    pub older: u64,
    /// Rows that count, although another that does has their rowid: it has other values, and nobody chose its
    /// rowid.
    pub doubtful: u64,
}

/// The files of one table, the newest first.
pub struct Settler<'a> {
    connection: &'a Connection,
    folder: &'a Folder,
    archived: &'a ArchivedTable,
    twins: Twins<'a>,
    tally: Tally,
}

impl<'a> Settler<'a> {
    pub fn new(
        connection: &'a Connection,
        folder: &'a Folder,
        table: &'a Table,
        archived: &'a ArchivedTable,
    ) -> Result<Self> {
        Ok(Self {
            connection,
            folder,
            archived,
            twins: Twins::new(connection, table)?,
            tally: Tally::default(),
        })
    }

    /// Buries the rows of a file that do not count. Where rows are still to move, but have moved since the
    /// catalog was copied, all of the file is published.
    pub fn settle(&mut self, entry: &FileEntry) -> Result<()> {
        let file = OpenFile::open(self.folder, &entry.record)?;
        let stored = tables::schema(self.connection, entry.schema)?;
        self.twins.begin(&file, &self.archived.columns, &stored)?;
        let mut published = entry.published;
        if published < entry.record.rows && self.has_moved(&file, published)? {
            files::set_published(self.connection, entry.id, published, entry.record.rows)?;
            published = entry.record.rows;
        }
        let dead = DeadRows::read(self.connection, entry)?;
        let mut burial = Burial::new(self.connection);
        for number in 0..file.row_groups() {
            let span = file.footer().rows(number);
            let rows: Vec<usize> = dead.live(span.start..span.end.min(published)).collect();
            if rows.is_empty() {
                continue;
            }
            let group = Group::decode(&file, number)?;
            for row in rows {
                match self.twins.find(&group, row - span.start)? {
                    Found::Hot => self.tally.hot += 1,
                    Found::Newer => self.tally.older += 1,
                    found => {
                        self.tally.doubtful += u64::from(found == Found::SameRowid);
                        self.twins.add(&group, row - span.start)?;
                        continue;
                    }
                }
                burial.bury(entry.id, row)?;
            }
        }
        burial.write()?;
        Ok(())
    }

    /// Whether a row after the first `published` is neither hot nor in a newer file.
    fn has_moved(&mut self, file: &OpenFile, published: usize) -> Result<bool> {
        for number in 0..file.row_groups() {
            let span = file.footer().rows(number);
            if span.end <= published {
                continue;
            }
            let group = Group::decode(file, number)?;
            for row in span.start.max(published)..span.end {
                if self.twins.find(&group, row - span.start)? == Found::Nowhere {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Forgets the rows.
    pub fn finish(self) -> Result<Tally> {
        self.twins.clear()?;
        Ok(self.tally)
    }
}
