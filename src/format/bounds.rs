//! What a cold file may claim, held against what a file of ours can have.
//!
//! Whoever writes a file can write the catalog and its checksums, too, so neither says that a file is honest.
//! What the library itself writes has bounds: a file ends when its rows take 32 MiB, a row group when
//! they take 16 MiB or are 64 Ki rows, so that only a single huge row makes either larger, and such a row is
//! not compressed ([`MAX_COMPRESSED`]). So whatever asks for more memory than a constant has bytes in the file to
//! show for it.

use std::ops::Range as Span;

use parquet::basic::{Compression, ConvertedType, Type};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};

use super::types::{MAX_VALUES, Storage, StoredColumn};

/// Bytes of a row group's values from which on its file is not compressed.
pub const MAX_COMPRESSED: usize = 30 << 20;
/// The most bytes that the pages read at once may have beyond those of the file: when they are decompressed,
/// as a dictionary, and as values.
const PAGES_BYTES: u64 = 32 << 20;
/// The most bytes that the decoded pages of a row group may have beyond four times those of the file. Each page
/// has a dictionary of its own, of up to 1 MiB, and a row group of 16 MiB up to 80 such pages.
const GROUP_BYTES: u64 = 112 << 20;
/// The most bytes of an index of pages: a page has a row at least, and bounds of 64 bytes each.
const INDEX_BYTES: u64 = 1024;
const INDEX_BYTES_OF_ROW: u64 = 256;
/// The magic bytes, which are where a file begins.
const HEAD: u64 = 4;

/// How much may be decoded of a file.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the pages that are read at once.
    pub pages: u64,
    /// Bytes of the decoded pages of a row group.
    pub group: u64,
}

impl Limits {
    /// Of a file of so many bytes.
    pub fn of(bytes: u64) -> Self {
        Self {
            pages: PAGES_BYTES.saturating_add(bytes),
            group: GROUP_BYTES.saturating_add(bytes.saturating_mul(4)),
        }
    }
}

/// What a chunk takes of its file; `None` if it says what cannot be.
fn span(start: i64, length: i64, within: &Span<u64>) -> Option<Span<u64>> {
    let (start, length) = (u64::try_from(start).ok()?, u64::try_from(length).ok()?);
    let end = start.checked_add(length)?;
    (length > 0 && within.start <= start && end <= within.end).then_some(start..end)
}

/// The bytes of a column chunk's pages, without those of its header in the footer.
fn pages(chunk: &ColumnChunkMetaData, within: &Span<u64>) -> Option<Span<u64>> {
    let values = chunk.data_page_offset();
    let start = chunk.dictionary_page_offset().unwrap_or(values);
    let bytes = span(start, chunk.compressed_size(), within)?;
    let first = u64::try_from(values).ok()?;
    let distinct = chunk.dictionary_page_offset().is_none_or(|at| at < values);
    (distinct && bytes.contains(&first)).then_some(bytes)
}

/// The Parquet types that a column's values are stored as, one for each chunk, and whether it is marked as text: if
/// not, the reader does not look whether text is UTF-8.
fn types(storage: &Storage) -> Vec<(Type, bool)> {
    match storage {
        Storage::Integer => vec![(Type::INT64, false)],
        Storage::Real | Storage::Number => vec![(Type::DOUBLE, false)],
        Storage::Text => vec![(Type::BYTE_ARRAY, true)],
        Storage::Blob => vec![(Type::BYTE_ARRAY, false)],
        Storage::Timestamp(shape) if shape.unit().is_none() => vec![(Type::INT32, false)],
        Storage::Timestamp(_) => vec![(Type::INT64, false)],
        Storage::Mixed(fields) => fields
            .iter()
            .flat_map(|field| types(&field.storage()))
            .collect(),
    }
}

/// Checks the columns of a file against their description.
pub fn check_columns(
    metadata: &ParquetMetaData,
    columns: &[StoredColumn],
    rows: usize,
) -> Result<(), &'static str> {
    if rows.saturating_mul(columns.len()) > MAX_VALUES.max(columns.len()) {
        return Err("it has more values than a file of ours can have");
    }
    let schema = metadata.file_metadata().schema_descr();
    let described = columns.iter().enumerate().flat_map(|(root, column)| {
        let types = types(&column.storage).into_iter();
        types.map(move |(physical, text)| (root, physical, text))
    });
    let found = schema.columns().iter().enumerate().map(|(leaf, column)| {
        let root = schema.get_column_root_idx(leaf);
        let text = column.converted_type() == ConvertedType::UTF8;
        (root, column.physical_type(), text)
    });
    let flat = |column: &parquet::schema::types::ColumnDescPtr| {
        column.max_rep_level() == 0 && (1..=2).contains(&column.max_def_level())
    };
    match found.eq(described) && schema.columns().iter().all(flat) {
        true => Ok(()),
        false => Err("its columns are not what their description says"),
    }
}

/// Checks where the column chunks of a file of `bytes` bytes are: one after the other, within it. Returns the
/// bytes that have the indexes of their pages.
pub fn check_chunks(metadata: &ParquetMetaData, bytes: u64) -> Result<Span<u64>, &'static str> {
    let outside = "a column chunk is not where it can be";
    let mut free = HEAD..bytes;
    let mut indexes: Option<Span<u64>> = None;
    let mut index_bytes = 0_u64;
    for group in metadata.row_groups() {
        let rows = u64::try_from(group.num_rows()).map_err(|_| outside)?;
        for chunk in group.columns() {
            let known = matches!(
                chunk.compression(),
                Compression::ZSTD(_) | Compression::UNCOMPRESSED
            );
            if !known || chunk.num_values() != group.num_rows() {
                return Err("a column chunk is not like those of our files");
            }
            free.start = pages(chunk, &free).ok_or(outside)?.end;
            for index in index_spans(chunk, bytes).ok_or("an index of pages is missing")? {
                let length = index.end - index.start;
                if length > INDEX_BYTES + INDEX_BYTES_OF_ROW * rows {
                    return Err("an index of pages is larger than its row group can have");
                }
                index_bytes += length;
                indexes = Some(match indexes {
                    Some(all) => all.start.min(index.start)..all.end.max(index.end),
                    None => index,
                });
            }
            let filter = chunk.bloom_filter_offset().map(|start| {
                let length = chunk.bloom_filter_length().unwrap_or(1);
                span(start, i64::from(length), &(HEAD..bytes))
            });
            if filter == Some(None) {
                return Err("a bloom filter is not where it can be");
            }
        }
    }
    match index_bytes <= bytes {
        true => Ok(indexes.unwrap_or(bytes..bytes)),
        false => Err("its indexes of pages are larger than it is"),
    }
}

/// Where the indexes of a chunk's pages are: that of where they are, and that of their values, if there is one.
pub fn index_spans(chunk: &ColumnChunkMetaData, bytes: u64) -> Option<Vec<Span<u64>>> {
    let within = HEAD..bytes;
    let offsets = span(
        chunk.offset_index_offset()?,
        chunk.offset_index_length()?.into(),
        &within,
    )?;
    let values = match (chunk.column_index_offset(), chunk.column_index_length()) {
        (None, None) => None,
        (start, length) => Some(span(start?, length?.into(), &within)?),
    };
    Some([offsets].into_iter().chain(values).collect())
}

/// Checks where the pages of a file are: one after the other within their column chunk, each with rows.
pub fn check_pages(metadata: &ParquetMetaData, bytes: u64) -> Result<(), &'static str> {
    let index = metadata.page_index().ok_or("it has no index of pages")?;
    for (number, group) in metadata.row_groups().iter().enumerate() {
        for (leaf, chunk) in group.columns().iter().enumerate() {
            let locations = index.page_locations(number, leaf);
            let chunk = pages(chunk, &(HEAD..bytes));
            let all = locations.zip(chunk).and_then(|(locations, chunk)| {
                let dictionary = locations.first()?.offset > i64::try_from(chunk.start).ok()?;
                let mut free = chunk;
                let mut rows = 0..u64::try_from(group.num_rows()).ok()?;
                for location in locations {
                    let length = i64::from(location.compressed_page_size);
                    free.start = span(location.offset, length, &free)?.end;
                    let first = u64::try_from(location.first_row_index).ok()?;
                    if !rows.contains(&first) || rows.start == 0 && first != 0 {
                        return None;
                    }
                    rows.start = first + 1;
                }
                (dictionary
                    == group
                        .columns()
                        .get(leaf)?
                        .dictionary_page_offset()
                        .is_some())
                .then_some(())
            });
            all.ok_or("a page is not where it can be")?;
        }
    }
    Ok(())
}
