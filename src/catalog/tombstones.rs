//! Rows of cold files that do not count: which they are, and how a transaction adds to them.
//!
//! A cold file never changes. A row of it that came back, that expired, or whose hot row had changed before
//! it could move, gets a tombstone: it is dead. `_archive_tombstone` has the dead rows of a file as
//! Roaring bitmaps in their portable format, one for each 65,536 rows, and `_archive_file.dead` their
//! number, so that rows are counted without reading a bitmap. A dead row stays dead.

use std::collections::BTreeMap;
use std::ops::Range;

use roaring::RoaringBitmap;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension};

use super::files::{self, FileEntry};
use crate::error::{Error, Result};

/// How many rows of a file share a bitmap: as many as one container of a Roaring bitmap has.
const CHUNK_ROWS: u32 = 1 << 16;
/// The most bytes that a bitmap of one container takes, and more than the header before it.
const MAX_BYTES: usize = (8 << 10) + 64;

/// The rows of a file that do not count.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeadRows(RoaringBitmap);

impl DeadRows {
    /// Those of a file, as the connection's present snapshot has them.
    pub fn read(connection: &Connection, file: &FileEntry) -> Result<Self> {
        let sql = "SELECT f.dead, f.published, t.chunk, t.rows
                   FROM main._archive_file f LEFT JOIN main._archive_tombstone t ON t.file_id = f.id
                   WHERE f.id = ?1 AND f.path = ?2";
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query((file.id, &file.record.path))?;
        let mut dead = RoaringBitmap::new();
        let mut counts = None;
        while let Some(row) = rows.next()? {
            counts = Some((row.get::<_, u64>(0)?, row.get::<_, u64>(1)?));
            let chunk = (row.get_ref(2)?, row.get_ref(3)?);
            if chunk != (ValueRef::Null, ValueRef::Null) {
                dead |= from_values(chunk)
                    .ok_or_else(|| damaged(file, "has tombstones that cannot be read"))?;
            }
        }
        match counts {
            // This connection has taken the file out of the catalog since it began to read it.
            None => Ok(Self::all(file.record.rows)),
            Some((count, _)) if count != dead.len() => {
                let reason = format!("has {} tombstones where dead is {count}", dead.len());
                Err(damaged(file, &reason))
            }
            Some((_, published)) if dead.max().is_some_and(|last| u64::from(last) >= published) => {
                Err(damaged(file, "has tombstones for rows that are hot"))
            }
            Some(_) => Ok(Self(dead)),
        }
    }

    /// All rows of a file that has so many.
    fn all(rows: usize) -> Self {
        let mut all = RoaringBitmap::new();
        all.insert_range(0..number(rows));
        Self(all)
    }

    /// How many of the first `rows` rows are dead.
    pub fn among_first(&self, rows: usize) -> usize {
        let dead = self.0.range_cardinality(0..number(rows));
        usize::try_from(dead).unwrap_or(usize::MAX)
    }

    /// The dead rows of a span, in ascending order.
    pub fn within(&self, span: Range<usize>) -> impl Iterator<Item = usize> {
        let (start, end) = (number(span.start), number(span.end));
        self.0.range(start..end.max(start)).map(|row| row as usize)
    }

    /// The rows of a span that count, in ascending order.
    pub fn live(&self, span: Range<usize>) -> impl Iterator<Item = usize> {
        let mut dead = self.within(span.clone()).peekable();
        span.filter(move |row| dead.next_if_eq(row).is_none())
    }
}

/// A row's number as a bitmap has it. A file has fewer rows than 2^32: so much place their numbers have in
/// the rowids of `cold_t`.
fn number(row: usize) -> u32 {
    u32::try_from(row).unwrap_or(u32::MAX)
}

fn damaged(file: &FileEntry, reason: &str) -> Error {
    let path = &file.record.path;
    Error::refused(format!("the archive catalog is damaged: {path} {reason}"))
}

/// What a row of `_archive_tombstone` says: the chunk, and its dead rows; `None` if that cannot be.
fn from_values((chunk, rows): (ValueRef<'_>, ValueRef<'_>)) -> Option<RoaringBitmap> {
    let chunk = u32::try_from(chunk.as_i64().ok()?).ok()?;
    from_bytes(chunk, rows.as_blob().ok()?)
}

/// The rows of a chunk, as the catalog has them; `None` if these are no rows of it.
fn from_bytes(chunk: u32, bytes: &[u8]) -> Option<RoaringBitmap> {
    if bytes.len() > MAX_BYTES {
        return None;
    }
    let mut left = bytes;
    let rows = RoaringBitmap::deserialize_from(&mut left).ok()?;
    let ends = [rows.min()?, rows.max()?];
    let inside = ends.iter().all(|row| row / CHUNK_ROWS == chunk);
    (inside && left.is_empty()).then_some(rows)
}

fn to_bytes(rows: &RoaringBitmap) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(rows.serialized_size());
    rows.serialize_into(&mut bytes)
        .map_err(|error| Error::Internal(format!("a bitmap was not written: {error}")))?;
    Ok(bytes)
}

/// Removes tombstones of a file that cannot be read, and returns how many bitmaps these were.
pub fn remove_unreadable(connection: &Connection, file: &FileEntry) -> Result<usize> {
    let unreadable = split(connection, file)?.1;
    let sql = "DELETE FROM main._archive_tombstone WHERE rowid = ?1";
    for rowid in &unreadable {
        connection.execute(sql, [rowid])?;
    }
    Ok(unreadable.len())
}

/// Adds the tombstones that a copy of the catalog has of a file, of those 65,536 rows of which there are none.
/// Says whether there were any.
pub fn copy(from: &Connection, to: &Connection, file: &FileEntry) -> Result<bool> {
    let sql = "SELECT t.chunk, t.rows
               FROM main._archive_tombstone t JOIN main._archive_file f ON f.id = t.file_id
               WHERE f.path = ?1";
    let mut statement = from.prepare_cached(sql)?;
    let mut rows = statement.query([&file.record.path])?;
    let sql =
        "INSERT OR IGNORE INTO main._archive_tombstone (file_id, chunk, rows) VALUES (?1, ?2, ?3)";
    let mut insert = to.prepare_cached(sql)?;
    let mut copied = 0;
    while let Some(row) = rows.next()? {
        let (chunk, bitmap) = (row.get_ref(0)?, row.get_ref(1)?);
        if from_values((chunk, bitmap)).is_some_and(|dead| is_of(file, &dead)) {
            copied += insert.execute((file.id, chunk.as_i64().ok(), bitmap.as_blob().ok()))?;
        }
    }
    Ok(copied > 0)
}

/// Makes the catalog's row of a file agree with its tombstones, one of which may be older than the other:
/// rows before a dead one have been published.
pub fn recount(connection: &Connection, file: &FileEntry) -> Result<()> {
    let dead = split(connection, file)?.0;
    let published = dead.max().map_or(0, |last| last as usize + 1);
    let sql = "UPDATE main._archive_file SET published = ?2, dead = ?3 WHERE id = ?1";
    let published = published.max(file.published);
    connection.execute(sql, (file.id, published, dead.len()))?;
    Ok(())
}

/// The dead rows of a file, and the rowids of tombstones that cannot be read.
fn split(connection: &Connection, file: &FileEntry) -> Result<(RoaringBitmap, Vec<i64>)> {
    let sql = "SELECT chunk, rows, rowid FROM main._archive_tombstone WHERE file_id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([file.id])?;
    let mut dead = RoaringBitmap::new();
    let mut unreadable = Vec::new();
    while let Some(row) = rows.next()? {
        match from_values((row.get_ref(0)?, row.get_ref(1)?)) {
            Some(chunk) if is_of(file, &chunk) => dead |= chunk,
            _ => unreadable.push(row.get(2)?),
        }
    }
    Ok((dead, unreadable))
}

/// Whether a file has all these rows.
fn is_of(file: &FileEntry, rows: &RoaringBitmap) -> bool {
    rows.max() < Some(number(file.record.rows))
}

/// The rows that a transaction buries. They are collected, and written down at its end: however many
/// they are, each bitmap is read and written once.
pub struct Burial<'c> {
    connection: &'c Connection,
    /// By file and chunk.
    rows: BTreeMap<(i64, u32), RoaringBitmap>,
}

impl<'c> Burial<'c> {
    pub fn new(connection: &'c Connection) -> Self {
        Self {
            connection,
            rows: BTreeMap::new(),
        }
    }

    /// Notes that a row of a file is to count no more. Nothing knows of it before [`Self::write`].
    pub fn bury(&mut self, file: i64, row: usize) -> Result<()> {
        let row = u32::try_from(row)
            .map_err(|_| Error::Internal(format!("file {file} has no row {row}")))?;
        let chunk = self.rows.entry((file, row / CHUNK_ROWS)).or_default();
        match chunk.insert(row) {
            true => Ok(()),
            false => Err(buried_before()),
        }
    }

    /// Writes down what was noted since the last time. A file of which no row counts any more, and none
    /// is still on its way, leaves the catalog. Returns the ids of those that did.
    pub fn write(&mut self) -> Result<Vec<i64>> {
        let mut buried: BTreeMap<i64, u64> = BTreeMap::new();
        for ((file, chunk), rows) in std::mem::take(&mut self.rows) {
            *buried.entry(file).or_default() += rows.len();
            self.write_chunk(file, chunk, rows)?;
        }
        let mut emptied = Vec::new();
        for (file, rows) in buried {
            files::add_dead(self.connection, file, rows)?;
            if files::remove_if_empty(self.connection, file)? {
                emptied.push(file);
            }
        }
        Ok(emptied)
    }

    fn write_chunk(&self, file: i64, chunk: u32, mut rows: RoaringBitmap) -> Result<()> {
        let sql = "SELECT chunk, rows FROM main._archive_tombstone
                   WHERE file_id = ?1 AND chunk = ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let known = statement.query_row((file, chunk), |row| {
            Ok(from_values((row.get_ref(0)?, row.get_ref(1)?)))
        });
        if let Some(known) = known.optional()? {
            let known = known.ok_or_else(|| {
                let reason = format!("tombstones of file {file} cannot be read");
                Error::refused(format!("the archive catalog is damaged: {reason}"))
            })?;
            if !known.is_disjoint(&rows) {
                return Err(buried_before());
            }
            rows |= known;
        }
        rows.optimize();
        let sql = "INSERT OR REPLACE INTO main._archive_tombstone (file_id, chunk, rows)
                   VALUES (?1, ?2, ?3)";
        let mut statement = self.connection.prepare_cached(sql)?;
        let before = self.connection.total_changes();
        statement.execute((file, chunk, to_bytes(&rows)?))?;
        match self.connection.total_changes() == before + 1 {
            true => Ok(()),
            false => Err(files::in_the_way()),
        }
    }
}

fn buried_before() -> Error {
    Error::refused("a row did not count any more before; another run has been at work")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn dead(rows: impl IntoIterator<Item = u32>) -> DeadRows {
        DeadRows(rows.into_iter().collect())
    }

    #[test]
    fn live_rows_are_the_others() {
        let dead = dead([0, 3, 4, 70_000]);
        assert_eq!(dead.live(0..6).collect::<Vec<_>>(), [1, 2, 5]);
        assert_eq!(dead.live(3..5).count(), 0);
        assert_eq!(dead.live(5..5).count(), 0);
        assert_eq!(dead.within(1..70_001).collect::<Vec<_>>(), [3, 4, 70_000]);
        assert_eq!(
            [0, 1, 70_000, 70_001].map(|rows| dead.among_first(rows)),
            [0, 1, 3, 4]
        );
        assert_eq!(DeadRows::all(3).live(0..4).collect::<Vec<_>>(), [3]);
    }

    proptest! {
        #[test]
        fn they_are_a_set(
            rows in prop::collection::btree_set(0_u32..200_000, 0..300),
            runs in prop::collection::vec((0_u32..200_000, 1_u32..70_000), 0..3),
            spans in prop::collection::vec((0_usize..300_000, 0_usize..70_000), 1..8),
        ) {
            let mut set: BTreeSet<u32> = rows;
            set.extend(runs.into_iter().flat_map(|(first, count)| first..first + count));
            let dead = dead(set.iter().copied());
            for (start, length) in spans {
                let span = start..start + length;
                let (from, to) = (number(span.start), number(span.end));
                let expected: Vec<usize> = set.range(from..to).map(|row| *row as usize).collect();
                prop_assert_eq!(dead.within(span.clone()).collect::<Vec<_>>(), &expected[..]);
                prop_assert_eq!(dead.among_first(start), set.range(..from).count());
                let live = span.clone().filter(|row| expected.binary_search(row).is_err());
                prop_assert!(dead.live(span.clone()).eq(live));
            }
        }

        #[test]
        fn a_chunk_comes_back(chunk in 0_u32..4, rows in prop::collection::btree_set(0_u32..CHUNK_ROWS, 1..9000), optimize: bool) {
            let mut chunk_rows: RoaringBitmap = rows.iter().map(|row| chunk * CHUNK_ROWS + row).collect();
            if optimize {
                chunk_rows.optimize();
            }
            let bytes = to_bytes(&chunk_rows).unwrap();
            prop_assert!(bytes.len() <= MAX_BYTES);
            prop_assert_eq!(from_bytes(chunk, &bytes), Some(chunk_rows));
            prop_assert_eq!(from_bytes(chunk + 1, &bytes), None);
            prop_assert_eq!(from_bytes(chunk, &bytes[..bytes.len() - 1]), None);
            prop_assert_eq!(from_bytes(chunk, &[&bytes[..], &[0]].concat()), None);
        }

        #[test]
        fn damage_is_an_answer(chunk in 0_u32..3, bytes in prop::collection::vec(any::<u8>(), 0..64), run: bool) {
            let cookie: [u8; 4] = if run { [0x3b, 0x30, 0, 0] } else { [0x3a, 0x30, 0, 0] };
            for bytes in [bytes.clone(), [&cookie[..], &bytes].concat(), [&cookie[..], &[1, 0, 0, 0], &bytes].concat()] {
                if let Some(rows) = from_bytes(chunk, &bytes) {
                    prop_assert!(rows.iter().all(|row| row / CHUNK_ROWS == chunk));
                    prop_assert_eq!(rows.iter().count() as u64, rows.len());
                }
            }
        }
    }
}
