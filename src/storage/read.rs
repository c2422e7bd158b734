//! A cold file that gives out only the bytes that were written.
//!
//! The catalog has a checksum for each block of a file. Whatever is read is checked against it first,
//! so that a flipped bit is an error and never another value, and a query need not read a whole file
//! to be sure.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, Bytes};
use once_cell::sync::OnceCell;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::folder::Folder;
use super::identity::Identity;
use super::seal::{BLOCK_BYTES, Seal};
use crate::error::{Error, Result};

/// A file up to this size is read at once: one call to the system is cheaper than one per page.
const WHOLE_BYTES: u64 = 4 * BLOCK_BYTES as u64;

/// An open cold file.
pub struct VerifiedFile {
    file: File,
    path: PathBuf,
    identity: Identity,
    blocks: Vec<u64>,
    whole: OnceCell<Bytes>,
    bytes_read: AtomicU64,
}

impl VerifiedFile {
    /// Opens the file at `relative`, which must be as long as `seal` says.
    pub fn open(folder: &Folder, relative: &str, seal: &Seal) -> Result<Self> {
        let Seal { bytes, blocks, .. } = seal;
        let (file, path) = folder.open(relative)?;
        let metadata = file.metadata().map_err(Error::io(&path))?;
        let identity = Identity::of(&metadata);
        if identity.bytes != *bytes {
            let reason = format!("it has {} bytes, the catalog says {bytes}", identity.bytes);
            return Err(Error::damaged(&path)(reason));
        }
        if blocks.len() as u64 != bytes.div_ceil(BLOCK_BYTES as u64) {
            return Err(Error::damaged(&path)("the catalog has no checksums for it"));
        }
        Ok(Self {
            file,
            path,
            identity,
            blocks: blocks.clone(),
            whole: OnceCell::new(),
            bytes_read: AtomicU64::new(0),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// How many bytes were asked of the system so far.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// The XXH3-128 of the whole file.
    pub fn checksum(&self) -> Result<[u8; 16]> {
        let whole = checksum(&self.file, self.identity.bytes, |_, _| {});
        whole.map_err(Error::reading_bytes(&self.path))
    }

    /// Checks every byte of the file: against the checksum of the whole, and of its block.
    pub fn check(&self, expected: [u8; 16]) -> Result<()> {
        let mut wrong = None;
        let found = checksum(&self.file, self.identity.bytes, |number, block| {
            if self.blocks.get(number) != Some(&xxh3_64(block)) {
                wrong.get_or_insert(number * BLOCK_BYTES);
            }
        });
        let found = found.map_err(Error::reading_bytes(&self.path))?;
        let reason = match (found == expected, wrong) {
            (true, None) => return Ok(()),
            (false, None) => "its checksum is not the catalog's".to_owned(),
            (true, Some(_)) => "the catalog's checksums of its blocks are wrong".to_owned(),
            (false, Some(place)) => {
                format!("its bytes from {place} on are not those that were written")
            }
        };
        Err(Error::damaged(&self.path)(reason))
    }

    /// The bytes from `start` on.
    pub fn read(&self, start: u64, length: usize) -> io::Result<Bytes> {
        let outside = || io::Error::new(ErrorKind::InvalidData, "a page lies outside of it");
        let end = start.checked_add(length as u64).ok_or_else(outside)?;
        if end > self.identity.bytes {
            return Err(outside());
        }
        let block = BLOCK_BYTES as u64;
        let (source, first) = match self.identity.bytes <= WHOLE_BYTES {
            true => {
                let whole = || self.read_blocks(0, self.identity.bytes);
                (self.whole.get_or_try_init(whole)?.clone(), 0)
            }
            false => {
                let first = start / block * block;
                let last = end.next_multiple_of(block).min(self.identity.bytes);
                (self.read_blocks(first, last)?, first)
            }
        };
        let offset = usize::try_from(start - first).map_err(|_| outside())?;
        Ok(source.slice(offset..offset + length))
    }

    /// Reads from the start of a block to the end of a block, and checks each.
    fn read_blocks(&self, start: u64, end: u64) -> io::Result<Bytes> {
        let length = usize::try_from(end - start).map_err(io::Error::other)?;
        let mut buffer = vec![0; length];
        read_exact_at(&self.file, &mut buffer, start)?;
        self.bytes_read.fetch_add(end - start, Ordering::Relaxed);
        let first = usize::try_from(start / BLOCK_BYTES as u64).map_err(io::Error::other)?;
        let known = self.blocks.iter().skip(first);
        match buffer
            .chunks(BLOCK_BYTES)
            .map(xxh3_64)
            .eq(known.take(length.div_ceil(BLOCK_BYTES)).copied())
        {
            true => Ok(buffer.into()),
            false => Err(io::Error::new(
                ErrorKind::InvalidData,
                "its bytes are not those that were written",
            )),
        }
    }
}

/// The XXH3-128 of the first `bytes` of a file, whose blocks are shown to `see` with their numbers.
pub fn checksum(
    file: &File,
    bytes: u64,
    mut see: impl FnMut(usize, &[u8]),
) -> io::Result<[u8; 16]> {
    let mut hash = Xxh3::new();
    let mut buffer = vec![0; BLOCK_BYTES];
    let (mut start, mut number) = (0, 0);
    while start < bytes {
        let length =
            usize::try_from(bytes - start).map_or(BLOCK_BYTES, |left| left.min(BLOCK_BYTES));
        let block = &mut buffer[..length];
        read_exact_at(file, block, start)?;
        hash.update(block);
        see(number, block);
        start += length as u64;
        number += 1;
    }
    Ok(hash.digest128().to_be_bytes())
}

#[cfg(unix)]
fn read_exact_at(file: &File, buffer: &mut [u8], start: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, start)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut buffer: &mut [u8], mut start: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buffer, start)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => {
                buffer = &mut buffer[count..];
                start += count as u64;
            }
        }
    }
    Ok(())
}

impl Length for VerifiedFile {
    fn len(&self) -> u64 {
        self.identity.bytes
    }
}

impl ChunkReader for VerifiedFile {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let rest = usize::try_from(self.identity.bytes.saturating_sub(start));
        let rest = rest.map_err(|error| ParquetError::External(Box::new(error)))?;
        Ok(self.get_bytes(start, rest)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.read(start, length)
            .map_err(|error| ParquetError::External(Box::new(error)))
    }
}

/// What the file at `relative` is recognised by from now on.
pub fn seal(folder: &Folder, relative: &str) -> Result<Seal> {
    let (file, path) = folder.open(relative)?;
    let bytes = file.metadata().map_err(Error::io(&path))?.len();
    let mut blocks = Vec::new();
    let whole = checksum(&file, bytes, |_, block| blocks.push(xxh3_64(block)));
    Ok(Seal {
        bytes,
        checksum: whole.map_err(Error::reading_bytes(&path))?,
        blocks,
    })
}
