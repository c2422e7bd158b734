//! How deep the schema in a Parquet footer is, before the footer is parsed for good.
//!
//! The schema in a footer is a tree, and the parquet crate reads it by recursion: a crafted file of a
//! few kilobytes could overflow the stack, which no error handling survives. Our files are two levels
//! deep (the mixed columns), so the tree is walked here first, without recursion.
//!
//! Formats: <https://parquet.apache.org/docs/file-format/metadata/>,
//! <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>

use crate::error::{Error, Result};
use crate::storage::read::VerifiedFile;

/// The root, and the groups of mixed columns.
const MAX_LEVELS: usize = 2;
/// How deep the values of other fields may nest; the format needs three.
const MAX_SKIP: usize = 8;
/// The footer's length and the magic bytes at the end of a file.
const TAIL: usize = 8;

/// Fails if the schema in the file's footer nests deeper than that of a file of ours.
pub fn check(file: &VerifiedFile) -> Result<()> {
    let damaged = |reason: &'static str| Error::damaged(file.path())(reason);
    let malformed = || damaged("its footer is malformed");
    let read = |position: u64, length: usize| {
        let bytes = file.read(position, length);
        bytes.map_err(Error::reading_bytes(file.path()))
    };
    let bytes = file.identity().bytes;
    let tail = read(bytes.checked_sub(TAIL as u64).ok_or_else(malformed)?, TAIL)?;
    let Some((&[a, b, c, d], b"PAR1")) = tail.split_first_chunk::<4>() else {
        return Err(malformed());
    };
    let length = u32::from_le_bytes([a, b, c, d]);
    let start = bytes.checked_sub(TAIL as u64 + u64::from(length));
    let footer = read(
        start.ok_or_else(malformed)?,
        usize::try_from(length).map_err(|_| malformed())?,
    )?;
    match Reader(&footer).schema_levels().ok_or_else(malformed)? {
        levels if levels <= MAX_LEVELS => Ok(()),
        _ => Err(damaged("its schema is nested too deeply")),
    }
}

/// The types of the compact protocol.
mod kind {
    pub const STOP: u8 = 0;
    pub const TRUE: u8 = 1;
    pub const FALSE: u8 = 2;
    pub const BYTE: u8 = 3;
    pub const I16: u8 = 4;
    pub const I32: u8 = 5;
    pub const I64: u8 = 6;
    pub const DOUBLE: u8 = 7;
    pub const BINARY: u8 = 8;
    pub const LIST: u8 = 9;
    pub const SET: u8 = 10;
    pub const STRUCT: u8 = 12;
}

/// The fields that matter.
const SCHEMA_OF_FILE: i64 = 2;
const CHILDREN_OF_ELEMENT: i64 = 5;

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    /// How many levels of groups the schema has.
    fn schema_levels(&mut self) -> Option<usize> {
        let mut id = 0;
        loop {
            let kind = self.field(&mut id)?;
            if kind == kind::STOP {
                return None;
            }
            if id != SCHEMA_OF_FILE || kind != kind::LIST {
                self.skip(kind, MAX_SKIP)?;
                continue;
            }
            let (count, element) = self.list()?;
            if element != kind::STRUCT {
                return None;
            }
            // The children that are still to come of each group that is open.
            let mut open: Vec<i64> = Vec::new();
            let mut levels = 0;
            for _ in 0..count {
                if let Some(children) = open.last_mut() {
                    *children -= 1;
                }
                let children = self.element_children()?;
                if children > 0 {
                    open.push(children);
                    levels = levels.max(open.len());
                    if levels > MAX_LEVELS {
                        return Some(levels);
                    }
                }
                while open.last() == Some(&0) {
                    open.pop();
                }
            }
            return Some(levels);
        }
    }

    /// Reads an element of the schema and returns its number of children.
    fn element_children(&mut self) -> Option<i64> {
        let (mut id, mut children) = (0, 0);
        loop {
            match self.field(&mut id)? {
                kind::STOP => return Some(children),
                kind::I32 if id == CHILDREN_OF_ELEMENT => children = self.zigzag()?,
                kind => self.skip(kind, MAX_SKIP)?,
            }
        }
    }

    /// Reads a field's header: its type, and its id by the one before.
    fn field(&mut self, id: &mut i64) -> Option<u8> {
        let header = self.byte()?;
        let (delta, kind) = (header >> 4, header & 0xF);
        if kind == kind::STOP {
            return Some(kind);
        }
        *id = match delta {
            0 => self.zigzag()?,
            delta => id.checked_add(i64::from(delta))?,
        };
        Some(kind)
    }

    fn list(&mut self) -> Option<(u64, u8)> {
        let header = self.byte()?;
        let count = match header >> 4 {
            15 => self.varint()?,
            count => u64::from(count),
        };
        Some((count, header & 0xF))
    }

    /// Passes over a value.
    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match kind {
            kind::TRUE | kind::FALSE => Some(()),
            kind::BYTE => self.take(1),
            kind::I16 | kind::I32 | kind::I64 => self.varint().map(|_| ()),
            kind::DOUBLE => self.take(8),
            kind::BINARY => {
                let length = self.varint()?;
                self.take(usize::try_from(length).ok()?)
            }
            kind::LIST | kind::SET => {
                let (count, element) = self.list()?;
                for _ in 0..count {
                    match element {
                        kind::TRUE | kind::FALSE => self.take(1)?,
                        element => self.skip(element, depth)?,
                    }
                }
                Some(())
            }
            kind::STRUCT => {
                let mut id = 0;
                loop {
                    match self.field(&mut id)? {
                        kind::STOP => return Some(()),
                        kind => self.skip(kind, depth)?,
                    }
                }
            }
            _ => None,
        }
    }

    fn take(&mut self, count: usize) -> Option<()> {
        self.0 = self.0.get(count..)?;
        Some(())
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn zigzag(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A footer with a version and elements that have these numbers of children.
    fn footer(children: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x15, 0x02, 0x19];
        bytes.push(u8::try_from(children.len()).unwrap() << 4 | kind::STRUCT);
        for count in children {
            bytes.extend([0x48, 1, b'x', 0x15, count << 1, 0]);
        }
        bytes
    }

    #[test]
    fn levels_are_counted() {
        for (children, levels) in [
            (&[2, 0, 0][..], 1),
            (&[2, 2, 0, 0, 0][..], 2),
            (&[1, 1, 1, 0][..], 3),
        ] {
            assert_eq!(Reader(&footer(children)).schema_levels(), Some(levels));
        }
    }

    #[test]
    fn cut_footers_are_malformed() {
        let whole = footer(&[2, 0, 0]);
        for length in 0..whole.len() {
            assert_eq!(Reader(&whole[..length]).schema_levels(), None);
        }
    }
}
