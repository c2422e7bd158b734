//! A copy of a database with a rollback journal, whose writers must wait while it is read.
//!
//! It is read again and again from the beginning to the end, in short turns, until nobody has committed
//! anything during a pass. From the second pass on nearly all is as it was: it is only read, and compared by
//! its hash, which is many times faster than copying it. The turns grow with each pass that a writer has
//! ended, so that there is an end even if writers never stop: at most a writer waits for as long as it takes
//! to read all of it once.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ffi};
use xxhash_rust::xxh3::xxh3_64;

use super::turns::{FIRST_TURN, PAUSE, Patience};
use crate::error::{Error, Result};
use crate::sql::{data_version, journal_mode, read_transaction};
use crate::sqlite::file::DatabaseFile;

/// What is read and compared at once, a multiple of every page size.
const CHUNK_BYTES: usize = 64 << 10;
/// Where SQLite has its locks. The page there is never used, and some systems do not let it be read.
const LOCKS_AT: u64 = 1 << 30;

/// The copy, as far as it has come.
struct Copy<'c> {
    source: DatabaseFile<'c>,
    target: File,
    path: &'c Path,
    /// The hash of each chunk that was copied.
    hashes: Vec<u64>,
    /// Whether the first pass is over, which goes on whatever others commit.
    is_whole: bool,
    buffer: Vec<u8>,
}

/// What a pass has found so far.
struct Pass {
    /// `sql::data_version` at its last turn.
    version: i64,
    /// Whether that was another before, so that not all is of one state.
    is_torn: bool,
    page_size: usize,
    /// Of the whole database.
    bytes: u64,
    /// Up to where it has been read.
    done: u64,
}

/// Copies `main` to the empty file `target`; `false`, and the file is empty, if it cannot be read so, or no
/// longer, as it is in WAL mode by now.
pub fn copy(connection: &Connection, target: &Path) -> Result<bool> {
    let Some(source) = DatabaseFile::of(connection) else {
        return Ok(false);
    };
    let file = OpenOptions::new().write(true).open(target);
    let mut copy = Copy {
        source,
        target: file.map_err(Error::io(target))?,
        path: target,
        hashes: Vec::new(),
        is_whole: false,
        buffer: vec![0; CHUNK_BYTES],
    };
    let mut turn = FIRST_TURN;
    let mut patience = Patience::start();
    let mut pass: Option<Pass> = None;
    loop {
        let before = pass.as_ref().map(|pass| pass.version);
        let step = read_transaction(connection, || {
            if journal_mode(connection)? == "wal" {
                return Ok(None);
            }
            refuse_written(connection)?;
            let mut pass = copy.begin_or_go_on(connection, pass.take())?;
            copy.read(&mut pass, turn)?;
            refuse_written(connection)?;
            Ok(Some(pass))
        });
        match step {
            Ok(None) => return copy.end(0).map(|()| false),
            Ok(Some(done)) if done.is_over() && !done.is_torn => {
                return copy.end(done.bytes).map(|()| true);
            }
            Ok(Some(stopped)) => {
                patience.renew();
                if copy.is_whole && before.is_some_and(|before| before != stopped.version) {
                    turn = turn.saturating_mul(2);
                }
                copy.is_whole |= stopped.is_over();
                pass = Some(stopped).filter(|pass| !pass.is_over());
            }
            Err(error) => patience.bear(error)?,
        }
        std::thread::sleep(PAUSE);
    }
}

/// Fails if another connection of the process writes, with which this one shares its cache: the file may
/// have pages that are not committed, and SQLite's locks do not keep them apart. Its backup can tell.
fn refuse_written(connection: &Connection) -> Result<()> {
    let mut memory = Connection::open_in_memory()?;
    match Backup::new(connection, &mut memory)?.step(0)? {
        StepResult::Busy | StepResult::Locked => {
            let code = ffi::Error::new(ffi::SQLITE_BUSY);
            let message = Some("database is locked".to_owned());
            Err(rusqlite::Error::SqliteFailure(code, message).into())
        }
        _ => Ok(()),
    }
}

impl Pass {
    /// In a read transaction.
    fn new(connection: &Connection, version: i64) -> Result<Self> {
        let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, u64>(0));
        let pages = number("PRAGMA main.page_count")?;
        let page_size = number("PRAGMA main.page_size")?;
        let too_large = || Error::Internal("the database has an impossible size".into());
        Ok(Self {
            version,
            is_torn: false,
            page_size: usize::try_from(page_size).map_err(|_| too_large())?,
            bytes: pages.checked_mul(page_size).ok_or_else(too_large)?,
            done: 0,
        })
    }

    fn is_over(&self) -> bool {
        self.done >= self.bytes
    }
}

impl Copy<'_> {
    /// The pass that was stopped, unless somebody has committed something since.
    fn begin_or_go_on(&self, connection: &Connection, stopped: Option<Pass>) -> Result<Pass> {
        let version = data_version(connection)?;
        match stopped {
            Some(pass) if pass.version == version => Ok(pass),
            Some(pass) if !self.is_whole => Ok(Pass {
                is_torn: true,
                done: pass.done,
                ..Pass::new(connection, version)?
            }),
            _ => Pass::new(connection, version),
        }
    }

    /// Goes on with a pass until the turn is over.
    fn read(&mut self, pass: &mut Pass, turn: Duration) -> Result<()> {
        let start = Instant::now();
        while !pass.is_over() && start.elapsed() < turn {
            let left = usize::try_from(pass.bytes - pass.done).unwrap_or(usize::MAX);
            let length = left.min(CHUNK_BYTES);
            self.chunk(pass, length)?;
            pass.done += length as u64;
        }
        Ok(())
    }

    /// Reads the next chunk, and writes it if it is another than before.
    fn chunk(&mut self, pass: &Pass, length: usize) -> Result<()> {
        let missing = || Error::Internal("a part of the database is out of range".into());
        let chunk = self.buffer.get_mut(..length).ok_or_else(missing)?;
        let skip = match pass.done == LOCKS_AT {
            true => pass.page_size.min(length),
            false => 0,
        };
        let (locks, pages) = chunk.split_at_mut(skip);
        locks.fill(0);
        if !pages.is_empty() {
            self.source.read(pages, pass.done + skip as u64)?;
        }
        let number = usize::try_from(pass.done / CHUNK_BYTES as u64).map_err(|_| missing())?;
        let hash = xxh3_64(chunk);
        match self.hashes.get_mut(number) {
            Some(known) if *known == hash => return Ok(()),
            Some(known) => *known = hash,
            None => self.hashes.push(hash),
        }
        let written = self.target.seek(SeekFrom::Start(pass.done));
        let written = written.and_then(|_| self.target.write_all(chunk));
        written.map_err(Error::io(self.path))
    }

    /// The database may have been longer in an earlier pass.
    fn end(&self, bytes: u64) -> Result<()> {
        self.target.set_len(bytes).map_err(Error::io(self.path))
    }
}
