//! A cold file while it is written.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::durable::sync_folder;
use super::seal::{BLOCK_BYTES, Seal};
use crate::error::{Error, Result};
use crate::fault;

/// A cold file while it is written: counts and hashes what passes.
pub struct NewFile {
    file: File,
    path: PathBuf,
    /// The archive folder.
    root: PathBuf,
    bytes: u64,
    checksum: Xxh3,
    blocks: BlockSums,
}

impl NewFile {
    /// `root` is the archive folder.
    pub fn new(file: File, path: PathBuf, root: PathBuf) -> Self {
        Self {
            file,
            path,
            root,
            bytes: 0,
            checksum: Xxh3::new(),
            blocks: BlockSums::default(),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the file and its name durable: after this returned, a power cut cannot take it.
    pub fn sync(&mut self) -> Result<Seal> {
        fault::point("file.sync")?;
        self.file.sync_all().map_err(Error::io(&self.path))?;
        fault::point("folder.sync")?;
        // Each folder may be new, or left by a run that died before it came to this.
        for folder in self.path.ancestors().skip(1) {
            sync_folder(folder)?;
            if folder == self.root {
                break;
            }
        }
        Ok(Seal {
            bytes: self.bytes,
            checksum: self.checksum.digest128().to_be_bytes(),
            blocks: self.blocks.finish(),
        })
    }
}

impl Write for NewFile {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        fault::io_point("file.write")?;
        let written = self.file.write(buffer)?;
        self.checksum.update(&buffer[..written]);
        self.blocks.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Hashes a stream block by block.
#[derive(Default)]
struct BlockSums {
    done: Vec<u64>,
    hash: Xxh3,
    /// Bytes of the current block so far.
    length: usize,
}

impl BlockSums {
    fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.length));
            self.hash.update(part);
            self.length += part.len();
            bytes = rest;
            if self.length == BLOCK_BYTES {
                self.close();
            }
        }
    }

    fn close(&mut self) {
        self.done.push(self.hash.digest());
        self.hash.reset();
        self.length = 0;
    }

    fn finish(&mut self) -> Vec<u64> {
        if self.length > 0 {
            self.close();
        }
        std::mem::take(&mut self.done)
    }
}
