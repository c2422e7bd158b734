//! What a Parquet footer, the index of pages and a page's header claim, before they are parsed for good.
//!
//! The parquet crate reads the schema in a footer, which is a tree, by recursion, and makes room for as many
//! children of a group, row groups, or pages in an index as a file says there are. A crafted file of
//! a few kilobytes could overflow the stack, or ask for more memory than there is, which no error
//! handling survives. So all of it is walked here first, without recursion and without making anything.
//!
//! Format: <https://parquet.apache.org/docs/file-format/metadata/>

use bytes::Bytes;

use super::thrift::{Reader, Shape};
use super::types::{MAX_GROUP_ROWS, MAX_GROUPS};
use crate::error::{Error, Result};
use crate::storage::read::VerifiedFile;

/// The root, and the groups of mixed columns.
const MAX_LEVELS: usize = 2;
/// The most elements of a schema: SQLite allows 32,767 columns, and a mixed one has up to six elements,
/// but not in so wide a table.
const MAX_ELEMENTS: u64 = 1 << 16;
/// The most column chunks of a file; wide tables have few row groups.
const MAX_CHUNKS: u64 = 1 << 16;
/// The most bytes of a footer: a column chunk takes 200 to 500 of it.
const MAX_FOOTER: u32 = 8 << 20;
/// The most elements of a list whose length does not depend on the table.
const FEW: u64 = 64;
/// A page has a row at least, and a row has up to three levels.
const MAX_LEVEL_COUNTS: u64 = 3 * MAX_GROUP_ROWS as u64;
/// The footer's length and the magic bytes at the end of a file.
const TAIL: usize = 8;

const EMPTY: Shape = Shape::Struct(&[]);
const STATISTICS: Shape = Shape::Struct(&[
    (1, Shape::Binary),
    (2, Shape::Binary),
    (3, Shape::I64),
    (4, Shape::I64),
    (5, Shape::Binary),
    (6, Shape::Binary),
    (7, Shape::Bool),
    (8, Shape::Bool),
    (9, Shape::I64),
]);

const SCHEMA_OF_FILE: i64 = 2;
const GROUPS_OF_FILE: i64 = 4;
const FILE: &[(i64, Shape)] = &[
    (1, Shape::I32),
    (SCHEMA_OF_FILE, Shape::List(MAX_ELEMENTS, &SCHEMA_ELEMENT)),
    (3, Shape::I64),
    (GROUPS_OF_FILE, Shape::List(MAX_GROUPS as u64, &ROW_GROUP)),
    (5, Shape::List(FEW, &PAIR)),
    (6, Shape::Binary),
    (7, Shape::List(MAX_ELEMENTS, &COLUMN_ORDER)),
];
const PAIR: Shape = Shape::Struct(&[(1, Shape::Binary), (2, Shape::Binary)]);
const COLUMN_ORDER: Shape = Shape::Struct(&[(1, EMPTY), (2, EMPTY)]);

const CHILDREN_OF_ELEMENT: i64 = 5;
const SCHEMA_ELEMENT: Shape = Shape::Struct(ELEMENT);
const ELEMENT: &[(i64, Shape)] = &[
    (1, Shape::I32),
    (2, Shape::I32),
    (3, Shape::I32),
    (4, Shape::Binary),
    (CHILDREN_OF_ELEMENT, Shape::I32),
    (6, Shape::I32),
    (7, Shape::I32),
    (8, Shape::I32),
    (9, Shape::I32),
    (10, LOGICAL_TYPE),
];
/// STRING, DATE and TIMESTAMP are all that there is.
const LOGICAL_TYPE: Shape = Shape::Struct(&[(1, EMPTY), (6, EMPTY), (8, TIMESTAMP)]);
const TIMESTAMP: Shape = Shape::Struct(&[
    (1, Shape::Bool),
    (2, Shape::Struct(&[(1, EMPTY), (2, EMPTY), (3, EMPTY)])),
]);

const COLUMNS_OF_GROUP: i64 = 1;
const ROW_GROUP: Shape = Shape::Struct(GROUP);
const GROUP: &[(i64, Shape)] = &[
    (COLUMNS_OF_GROUP, Shape::List(MAX_CHUNKS, &CHUNK)),
    (2, Shape::I64),
    (3, Shape::I64),
    (5, Shape::I64),
    (6, Shape::I64),
    (7, Shape::I16),
];
const CHUNK: Shape = Shape::Struct(&[
    (1, Shape::Binary),
    (2, Shape::I64),
    (3, COLUMN),
    (4, Shape::I64),
    (5, Shape::I32),
    (6, Shape::I64),
    (7, Shape::I32),
]);
const COLUMN: Shape = Shape::Struct(&[
    (1, Shape::I32),
    (2, Shape::List(FEW, &Shape::I32)),
    (3, Shape::List(FEW, &Shape::Binary)),
    (4, Shape::I32),
    (5, Shape::I64),
    (6, Shape::I64),
    (7, Shape::I64),
    (9, Shape::I64),
    (10, Shape::I64),
    (11, Shape::I64),
    (12, STATISTICS),
    (13, Shape::List(FEW, &ENCODING_COUNT)),
    (14, Shape::I64),
    (15, Shape::I32),
    (16, SIZES),
]);
const ENCODING_COUNT: Shape = Shape::Struct(&[(1, Shape::I32), (2, Shape::I32), (3, Shape::I32)]);
const SIZES: Shape = Shape::Struct(&[
    (1, Shape::I64),
    (2, Shape::List(FEW, &Shape::I64)),
    (3, Shape::List(FEW, &Shape::I64)),
]);

const MAX_PAGES: u64 = MAX_GROUP_ROWS as u64;
/// Where the pages of a column chunk are.
pub const OFFSET_INDEX: Shape = Shape::Struct(&[
    (1, Shape::List(MAX_PAGES, &LOCATION)),
    (2, Shape::List(MAX_PAGES, &Shape::I64)),
]);
const LOCATION: Shape = Shape::Struct(&[(1, Shape::I64), (2, Shape::I32), (3, Shape::I64)]);
/// What is known of the values of each page of a column chunk.
pub const COLUMN_INDEX: Shape = Shape::Struct(&[
    (1, Shape::List(MAX_PAGES, &Shape::Bool)),
    (2, Shape::List(MAX_PAGES, &Shape::Binary)),
    (3, Shape::List(MAX_PAGES, &Shape::Binary)),
    (4, Shape::I32),
    (5, Shape::List(MAX_PAGES, &Shape::I64)),
    (6, Shape::List(MAX_LEVEL_COUNTS, &Shape::I64)),
    (7, Shape::List(MAX_LEVEL_COUNTS, &Shape::I64)),
    (8, Shape::List(MAX_PAGES, &Shape::I64)),
]);

const UNCOMPRESSED_OF_PAGE: i64 = 2;
const COMPRESSED_OF_PAGE: i64 = 3;
/// A page of our files is one of values, version 1, or a dictionary.
const PAGE: &[(i64, Shape)] = &[
    (1, Shape::I32),
    (UNCOMPRESSED_OF_PAGE, Shape::I32),
    (COMPRESSED_OF_PAGE, Shape::I32),
    (4, Shape::I32),
    (5, VALUES_PAGE),
    (7, DICTIONARY_PAGE),
];
const VALUES_PAGE: Shape = Shape::Struct(&[
    (1, Shape::I32),
    (2, Shape::I32),
    (3, Shape::I32),
    (4, Shape::I32),
    (5, STATISTICS),
]);
const DICTIONARY_PAGE: Shape = Shape::Struct(&[(1, Shape::I32), (2, Shape::I32), (3, Shape::Bool)]);

/// The footer of a file, if it can be one of a file of ours. It fails if the schema in it nests deeper,
/// or if there is more of anything than such a file can have, or not as many row groups as `groups` says,
/// where that is known.
pub fn read_footer(file: &VerifiedFile, groups: Option<usize>) -> Result<Bytes> {
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
    let start = start.ok_or_else(malformed)?;
    if length > MAX_FOOTER {
        return Err(damaged("its footer is larger than that of a file of ours"));
    }
    let footer = read(start, usize::try_from(length).map_err(|_| malformed())?)?;
    let outline = Outline::of(&footer).ok_or_else(malformed)?;
    if outline.levels > MAX_LEVELS {
        return Err(damaged("its schema is nested too deeply"));
    }
    if let Some(groups) = groups
        && outline.groups != groups as u64
    {
        let reason = format!(
            "it has {} row groups, the catalog says {groups}",
            outline.groups
        );
        return Err(Error::damaged(file.path())(reason));
    }
    match outline.chunks <= MAX_CHUNKS {
        true => Ok(footer),
        false => Err(damaged("its footer is larger than that of a file of ours")),
    }
}

/// How large a page is, as its header claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageSize {
    pub compressed: usize,
    pub uncompressed: usize,
}

/// The size of the page that is `bytes`, header and all; `None` if it cannot be one of a file of ours.
pub fn page_size(bytes: &[u8]) -> Option<PageSize> {
    let (mut compressed, mut uncompressed) = (None, None);
    let mut reader = Reader::new(bytes);
    reader.fields(PAGE, |reader, id, shape| {
        match id {
            COMPRESSED_OF_PAGE => compressed = Some(usize::try_from(reader.i32()?).ok()?),
            UNCOMPRESSED_OF_PAGE => uncompressed = Some(usize::try_from(reader.i32()?).ok()?),
            _ => reader.pass(shape)?,
        }
        Some(())
    })?;
    let size = PageSize {
        compressed: compressed?,
        uncompressed: uncompressed?,
    };
    (size.compressed == reader.rest().len()).then_some(size)
}

/// What a footer has.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outline {
    /// Of groups in the schema.
    levels: usize,
    groups: u64,
    chunks: u64,
}

impl Outline {
    /// Of a whole footer; `None` if it is malformed.
    fn of(footer: &[u8]) -> Option<Self> {
        let mut outline = Self::default();
        Reader::new(footer).fields(FILE, |reader, id, shape| match id {
            SCHEMA_OF_FILE => {
                outline.levels = schema_levels(reader)?;
                Some(())
            }
            GROUPS_OF_FILE => reader.list(MAX_GROUPS as u64, &ROW_GROUP, |reader| {
                outline.groups += 1;
                reader.fields(GROUP, |reader, id, shape| match id {
                    COLUMNS_OF_GROUP => reader.list(MAX_CHUNKS, &CHUNK, |reader| {
                        outline.chunks += 1;
                        reader.pass(&CHUNK)
                    }),
                    _ => reader.pass(shape),
                })
            }),
            _ => reader.pass(shape),
        })?;
        (outline.levels > 0).then_some(outline)
    }
}

/// Reads a schema, and returns how many levels of groups it has. No group may have more children than there
/// are elements.
fn schema_levels(reader: &mut Reader<'_>) -> Option<usize> {
    // The children that are still to come of each group that is open.
    let mut open: Vec<u64> = Vec::new();
    let mut levels = 0;
    let mut promised = 1;
    let mut found = 0;
    reader.list(MAX_ELEMENTS, &SCHEMA_ELEMENT, |reader| {
        if let Some(children) = open.last_mut() {
            *children -= 1;
        }
        let children = element_children(reader)?;
        found += 1;
        promised += children;
        if children > 0 {
            open.push(children);
            levels = levels.max(open.len());
        }
        while open.last() == Some(&0) {
            open.pop();
        }
        Some(())
    })?;
    (promised == found).then_some(levels)
}

/// Reads an element of the schema and returns its number of children.
fn element_children(reader: &mut Reader<'_>) -> Option<u64> {
    let mut children = 0;
    reader.fields(ELEMENT, |reader, id, shape| match id {
        CHILDREN_OF_ELEMENT => {
            children = u64::try_from(reader.i32()?).ok()?;
            Some(())
        }
        _ => reader.pass(shape),
    })?;
    Some(children)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A footer with a version and elements that have these numbers of children.
    fn footer(children: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x15, 0x02, 0x19];
        bytes.push(u8::try_from(children.len()).unwrap() << 4 | 12);
        for count in children {
            bytes.extend([0x48, 1, b'x', 0x15, count << 1, 0]);
        }
        bytes.push(0);
        bytes
    }

    #[test]
    fn levels_are_counted() {
        for (children, levels) in [
            (&[2, 0, 0][..], 1),
            (&[2, 2, 0, 0, 0][..], 2),
            (&[1, 1, 1, 0][..], 3),
        ] {
            let outline = Outline::of(&footer(children));
            assert_eq!(outline.map(|outline| outline.levels), Some(levels));
        }
    }

    #[test]
    fn more_children_than_elements_are_malformed() {
        assert_eq!(Outline::of(&footer(&[4, 0, 0, 0])), None);
        assert_eq!(Outline::of(&footer(&[2, 63, 0])), None);
    }

    #[test]
    fn cut_footers_are_malformed() {
        let whole = footer(&[2, 0, 0]);
        for length in 0..whole.len() {
            assert_eq!(Outline::of(&whole[..length]), None);
        }
    }

    #[test]
    fn an_index_has_what_it_claims() {
        let passes = |bytes: &[u8]| Reader::new(bytes).pass(&OFFSET_INDEX).is_some();
        let location = [0x16, 8, 0x15, 4, 0x16, 0, 0];
        assert!(passes(&[&[0x19, 0x1C][..], &location, &[0]].concat()));
        assert!(!passes(&[&[0x19, 0x2C][..], &location, &[0]].concat()));
        let many = [0x19, 0xFC, 0xFF, 0xFF, 0xFF, 0xFF, 0x07];
        assert!(!passes(&[&many[..], &location, &[0]].concat()));
    }

    #[test]
    fn a_page_is_as_long_as_its_header_says() {
        let header = [0x15, 0, 0x15, 200, 1, 0x15, 6, 0];
        let page = [&header[..], &[1, 2, 3]].concat();
        let size = PageSize {
            compressed: 3,
            uncompressed: 100,
        };
        assert_eq!(page_size(&page), Some(size));
        assert_eq!(page_size(&page[..page.len() - 1]), None);
        assert_eq!(page_size(&header[..5]), None);
    }
}
