//! Which rows of the files count, where the catalog is older than the files and the hot table: each
//! row once.
//!
//! Of a row that only a file speaks of, the newest file has it, and a hot row is newer than all of them. What
//! the catalog, or its copy, says to count goes on counting, unless a hot row or one in a newer file is the
//! same in all its values: then it has moved.

use rusqlite::Connection;

use super::twins::{Among, Found, Group, Twins};
use crate::catalog::files::{self, FileEntry};
use crate::catalog::tables;
use crate::catalog::tombstones::{Burial, DeadRows};
use crate::error::Result;
use crate::format::file::OpenFile;
use crate::schema::{Column, Table};
use crate::sql::transaction;
use crate::storage::Folder;

/// What became of rows of files.
#[derive(Debug, Default)]
pub struct Tally {
    /// Rows that do not count, as they are hot.
    pub hot: u64,
    /// Rows that do not count, as a newer file has them.
    pub older: u64,
    /// Rows that do not count, as a hot row, or one in a newer file, has their key with other values.
    pub replaced: u64,
    /// Rows that are still to move, if it is they that are hot with other values.
    pub waiting: u64,
    /// Rows that count, although another that does has their key with other values.
    pub doubled: u64,
    /// Rows that count, although another that does has their rowid: it has other values, and nobody chose its
    /// rowid.
    pub doubtful: u64,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.hot += other.hot;
        self.older += other.older;
        self.replaced += other.replaced;
        self.waiting += other.waiting;
        self.doubled += other.doubled;
        self.doubtful += other.doubtful;
    }
}

/// The cold side of a table.
pub struct Side<'a> {
    pub folder: &'a Folder,
    /// The table's columns, as they are now where it is there, with their numbers.
    pub columns: Vec<Column>,
    /// Whether the catalog says of now which rows are still to move: it lost no files.
    pub is_current: bool,
}

/// The files of one table, the newest first.
pub struct Settler<'a> {
    connection: &'a Connection,
    side: Side<'a>,
    twins: Twins<'a>,
    tally: Tally,
}

impl<'a> Settler<'a> {
    /// `table` is where the hot rows are, if it is there.
    pub fn new(connection: &'a Connection, table: Option<&Table>, side: Side<'a>) -> Result<Self> {
        Ok(Self {
            connection,
            side,
            twins: Twins::new(connection, table)?,
            tally: Tally::default(),
        })
    }

    /// Buries the rows of a file that do not count: all or, if it fails, none. `is_new` says that nothing but the
    /// file itself says that its rows count. Where rows are still to move, but have moved since the catalog was
    /// copied, all of the file is published.
    pub fn settle(&mut self, entry: &FileEntry, is_new: bool) -> Result<()> {
        let connection = self.connection;
        let tally = transaction::part(connection, || self.bury(entry, is_new))?;
        self.tally.add(&tally);
        Ok(())
    }

    fn bury(&mut self, entry: &FileEntry, is_new: bool) -> Result<Tally> {
        let file = OpenFile::open(self.side.folder, &entry.record)?;
        let stored = tables::schema(self.connection, entry.schema)?;
        self.twins.begin(&file, &self.side.columns, &stored)?;
        let mut published = entry.published;
        let mut tally = Tally::default();
        if published < entry.record.rows && !self.side.is_current {
            match self.count_changed(&file, published)? {
                Some(changed) => tally.waiting = changed,
                None => {
                    files::set_published(self.connection, entry.id, published, entry.record.rows)?;
                    published = entry.record.rows;
                }
            }
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
                let is_new = is_new || row >= entry.published;
                match self.counts(&group, row - span.start, is_new, &mut tally)? {
                    true => self.twins.add(&group, row - span.start, is_new)?,
                    false => burial.bury(entry.id, row)?,
                }
            }
        }
        burial.write()?;
        Ok(tally)
    }

    /// Whether a row counts.
    fn counts(
        &mut self,
        group: &Group,
        row: usize,
        is_new: bool,
        tally: &mut Tally,
    ) -> Result<bool> {
        let among = match is_new {
            true => Among::All,
            // Of two that the catalog says to count, both do.
            false => Among::New,
        };
        let (tallied, counts) = match self.twins.find(group, row, among)? {
            Found::Nowhere => return Ok(true),
            Found::Hot => (&mut tally.hot, false),
            Found::Newer => (&mut tally.older, false),
            Found::OtherValues if is_new => (&mut tally.replaced, false),
            Found::OtherValues => (&mut tally.doubled, true),
            Found::SameRowid => (&mut tally.doubtful, true),
        };
        *tallied += 1;
        Ok(counts)
    }

    /// How many rows after the first `published` have other values now, or `None` if one of them has moved: it
    /// is neither hot nor in a newer file.
    fn count_changed(&mut self, file: &OpenFile, published: usize) -> Result<Option<u64>> {
        let mut changed = 0;
        for number in 0..file.row_groups() {
            let span = file.footer().rows(number);
            if span.end <= published {
                continue;
            }
            let group = Group::decode(file, number)?;
            for row in span.start.max(published)..span.end {
                match self.twins.find(&group, row - span.start, Among::All)? {
                    Found::Nowhere => return Ok(None),
                    Found::Hot | Found::Newer => {}
                    Found::OtherValues | Found::SameRowid => changed += 1,
                }
            }
        }
        Ok(Some(changed))
    }

    /// Forgets the rows.
    pub fn finish(self) -> Result<Tally> {
        self.twins.clear()?;
        Ok(self.tally)
    }
}
