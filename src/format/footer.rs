//! What the footer of a cold file says: its columns, row groups and pages, and what is known of the
//! values in them.

use std::ops::Range as Span;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::datatypes::{DataType, Field, Fields};
use bytes::{Buf, Bytes};
use once_cell::sync::OnceCell;
use parquet::arrow::{FieldLevels, ProjectionMask, parquet_to_arrow_field_levels};
use parquet::data_type::ByteArray;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{
    ColumnChunkMetaData, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader,
};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::statistics::Statistics;
use rusqlite::types::Value as Owned;

use super::bounds;
use super::outline;
use super::range::{Kinds, Range};
use super::record::FileRecord;
use super::thrift::Reader;
use super::types::{Description, MAX_GROUP_ROWS, METADATA_KEY, Origin, Storage, StoredColumn};
use crate::error::{Error, Result};
use crate::storage::read::VerifiedFile;
use crate::time::canonical::MAX_LENGTH;

/// A footer, read and understood.
#[derive(Debug)]
pub struct Footer {
    /// No other footer of this process has the same.
    pub id: u64,
    path: PathBuf,
    record: FileRecord,
    pub metadata: ParquetMetaData,
    pub description: Description,
    /// The Arrow types to read columns as.
    fields: Fields,
    /// One for each column: what the reader needs to know of it.
    levels: Vec<OnceCell<FieldLevels>>,
    /// The number in the file of each row group's first row, and at the end the number of rows.
    starts: Vec<usize>,
    /// The first Parquet column of each column.
    leaves: Vec<usize>,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

impl Footer {
    /// Reads the footer of `file`, which must be what `record` says.
    pub fn read(file: &VerifiedFile, record: &FileRecord) -> Result<Self> {
        let FileRecord {
            rows, row_groups, ..
        } = *record;
        let path = file.path();
        let damaged = |reason: &str| Error::damaged(path)(reason);
        let metadata = read_metadata(file, Some(row_groups))?;
        let description = describe(&metadata).map_err(damaged)?;
        let starts = group_starts(&metadata).map_err(damaged)?;
        if (starts.len(), starts.last()) != (row_groups + 1, Some(&rows)) {
            let found = starts.last().copied().unwrap_or_default();
            let reason = format!(
                "it has {found} rows in {} row groups, the catalog says {rows} in {row_groups}",
                starts.len() - 1
            );
            return Err(damaged(&reason));
        }
        bounds::check_columns(&metadata, &description.columns, rows).map_err(damaged)?;
        let metadata = read_indexes(file, metadata)?;
        let roots = metadata.file_metadata().schema_descr();
        let leaves: Vec<usize> = (0..description.columns.len())
            .filter_map(|column| {
                (0..roots.num_columns()).find(|leaf| roots.get_column_root_idx(*leaf) == column)
            })
            .collect();
        if leaves.len() != description.columns.len() {
            return Err(damaged("a column has no values"));
        }
        let mut footer = Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            path: path.to_owned(),
            record: record.clone(),
            fields: Fields::empty(),
            levels: vec![OnceCell::new(); description.columns.len()],
            metadata,
            description,
            starts,
            leaves,
        };
        footer.fields = (0..footer.columns().len())
            .map(|column| footer.field(column))
            .collect();
        Ok(footer)
    }

    /// How many rows and row groups a file has, by its own word.
    pub fn count(file: &VerifiedFile) -> Result<(usize, usize)> {
        let starts = group_starts(&read_metadata(file, None)?);
        let starts = starts.map_err(Error::damaged(file.path()))?;
        Ok((starts.last().copied().unwrap_or(0), starts.len() - 1))
    }

    /// Where its rows are from, if it says so.
    pub fn origin(&self) -> Option<Origin> {
        Origin::from_json(description(&self.metadata)?)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn columns(&self) -> &[StoredColumn] {
        &self.description.columns
    }

    pub fn row_groups(&self) -> usize {
        self.starts.len() - 1
    }

    /// The rows of a row group, by their numbers in the file.
    pub fn rows(&self, group: usize) -> Span<usize> {
        let start = |group: usize| self.starts.get(group).copied().unwrap_or_default();
        start(group)..start(group + 1).max(start(group))
    }

    /// Whether the catalog records the file as it is here.
    pub fn is(&self, record: &FileRecord) -> bool {
        self.record == *record
    }

    /// Bytes that it takes in memory: what the parquet crate counts, and what was measured beside that.
    pub fn memory(&self) -> usize {
        const OF_FILE: usize = 4096;
        const OF_COLUMN: usize = 1024;
        self.metadata.memory_size() + OF_FILE + OF_COLUMN * self.columns().len()
    }

    /// A column as Arrow sees it. Repeated text stays a dictionary.
    fn field(&self, column: usize) -> Field {
        let stored = &self.description.columns[column];
        let repeated = self
            .chunk(0, column)
            .is_some_and(|chunk| chunk.dictionary_page_offset().is_some());
        let data_type = match stored.storage.data_type() {
            DataType::Utf8 if repeated => {
                DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
            }
            other => other,
        };
        Field::new(&stored.name, data_type, true)
    }

    /// What the reader needs to know of a column.
    pub fn levels(&self, column: usize) -> Result<&FieldLevels> {
        let cell = self
            .levels
            .get(column)
            .ok_or_else(|| Error::Internal(format!("no stored column {column}")))?;
        cell.get_or_try_init(|| {
            let schema = self.metadata.file_metadata().schema_descr();
            let mask = ProjectionMask::roots(schema, [column]);
            parquet_to_arrow_field_levels(schema, mask, Some(&self.fields))
                .map_err(Error::reading(&self.path))
        })
    }

    /// The first column chunk of a column in a row group.
    pub fn chunk(&self, group: usize, column: usize) -> Option<&ColumnChunkMetaData> {
        let leaf = *self.leaves.get(column)?;
        self.metadata.row_groups().get(group)?.columns().get(leaf)
    }

    /// The least and the greatest value of a column, or of its first field, if they are integers and the
    /// statistics of all row groups tell.
    pub fn integers(&self, column: usize) -> Option<(i64, i64)> {
        let bounds =
            (0..self.row_groups()).map(|group| match self.chunk(group, column)?.statistics()? {
                Statistics::Int64(statistics)
                    if statistics.null_count_opt() == Some(self.rows(group).len() as u64) =>
                {
                    Some((i64::MAX, i64::MIN))
                }
                Statistics::Int64(statistics) => {
                    Some((*statistics.min_opt()?, *statistics.max_opt()?))
                }
                _ => None,
            });
        bounds.reduce(|a, b| {
            let ((min, max), (least, most)) = (a?, b?);
            Some((min.min(least), max.max(most)))
        })?
    }

    fn locations(&self, group: usize, column: usize) -> &[PageLocation] {
        let locations = || {
            let leaf = *self.leaves.get(column)?;
            self.metadata.page_index()?.page_locations(group, leaf)
        };
        locations().map_or(&[], Vec::as_slice)
    }

    /// The number of pages of a column in a row group.
    pub fn pages(&self, group: usize, column: usize) -> usize {
        self.locations(group, column).len()
    }

    /// The page that has `row`, and its rows; rows are numbered within the row group. Pages of a
    /// mixed column are those of its first field.
    pub fn page_at(&self, group: usize, column: usize, row: usize) -> (usize, Span<usize>) {
        let locations = self.locations(group, column);
        let first = |page: usize| {
            let first = locations.get(page).map(|location| location.first_row_index);
            first.and_then(|first| usize::try_from(first).ok())
        };
        let page = locations
            .partition_point(|location| {
                usize::try_from(location.first_row_index).is_ok_and(|first| first <= row)
            })
            .saturating_sub(1);
        let rows = self.rows(group).len();
        let start = first(page).unwrap_or(0).min(row);
        let end = first(page + 1)
            .unwrap_or(rows)
            .clamp(row + 1, rows.max(row + 1));
        (page, start..end)
    }

    /// What is known of a column's values in a row group. `kinds` are those of the column in the
    /// whole file. `None` if too little is.
    pub fn group_range(&self, group: usize, column: usize, kinds: Kinds) -> Option<Range> {
        let storage = &self.columns().get(column)?.storage;
        let chunk = self.chunk(group, column)?;
        let statistics = chunk.statistics()?;
        let nulls = i64::try_from(statistics.null_count_opt()?).ok()?;
        let kinds = without_nulls(kinds, nulls, chunk.num_values());
        let (min, max) = match statistics {
            Statistics::Int32(s) => (
                s.min_opt().map(|n| Bound::Integer(i64::from(*n))),
                s.max_opt().map(|n| Bound::Integer(i64::from(*n))),
            ),
            Statistics::Int64(s) => (
                s.min_opt().copied().map(Bound::Integer),
                s.max_opt().copied().map(Bound::Integer),
            ),
            Statistics::Double(s) => (
                s.min_opt().copied().map(Bound::Real),
                s.max_opt().copied().map(Bound::Real),
            ),
            Statistics::ByteArray(s) => (
                s.min_opt().map(ByteArray::data).map(Bound::Bytes),
                s.max_opt().map(ByteArray::data).map(Bound::Bytes),
            ),
            _ => (None, None),
        };
        range(storage, kinds, min, max)
    }

    /// What is known of a column's values in a page, as [`Self::group_range`].
    pub fn page_range(
        &self,
        group: usize,
        column: usize,
        page: usize,
        kinds: Kinds,
    ) -> Option<Range> {
        let storage = &self.columns().get(column)?.storage;
        let leaf = *self.leaves.get(column)?;
        let index = self.metadata.page_index()?.column_index(group, leaf)?;
        if page >= usize::try_from(index.num_pages()).ok()? {
            return None;
        }
        let kinds = match index.is_null_page(page) {
            true => Kinds::NULL,
            false => without_nulls(kinds, index.null_count(page)?, i64::MAX),
        };
        let (min, max) = match index {
            ColumnIndexMetaData::INT32(i) => (
                i.min_value(page).map(|n| Bound::Integer(i64::from(*n))),
                i.max_value(page).map(|n| Bound::Integer(i64::from(*n))),
            ),
            ColumnIndexMetaData::INT64(i) => (
                i.min_value(page).copied().map(Bound::Integer),
                i.max_value(page).copied().map(Bound::Integer),
            ),
            ColumnIndexMetaData::DOUBLE(i) => (
                i.min_value(page).copied().map(Bound::Real),
                i.max_value(page).copied().map(Bound::Real),
            ),
            ColumnIndexMetaData::BYTE_ARRAY(i) => (
                i.min_value(page).map(Bound::Bytes),
                i.max_value(page).map(Bound::Bytes),
            ),
            _ => (None, None),
        };
        range(storage, kinds, min, max)
    }
}

/// A bound in Parquet's terms.
enum Bound<'a> {
    Integer(i64),
    Real(f64),
    Bytes(&'a [u8]),
}

fn without_nulls(kinds: Kinds, nulls: i64, values: i64) -> Kinds {
    match nulls {
        0 => kinds - Kinds::NULL,
        all if all == values => Kinds::NULL,
        _ => kinds,
    }
}

/// A range with Parquet's bounds as SQLite's values.
fn range(
    storage: &Storage,
    kinds: Kinds,
    min: Option<Bound<'_>>,
    max: Option<Bound<'_>>,
) -> Option<Range> {
    if matches!(storage, Storage::Mixed(_)) {
        return None;
    }
    let bound = |bound: Option<Bound<'_>>| match (bound?, storage) {
        (Bound::Integer(integer), Storage::Integer) => Some(Owned::Integer(integer)),
        (Bound::Integer(count), Storage::Timestamp(shape)) => {
            let mut buffer = [0; MAX_LENGTH];
            Some(Owned::Text(shape.format(count, &mut buffer)?.to_owned()))
        }
        (Bound::Real(real), Storage::Real | Storage::Number) => Some(Owned::Real(real)),
        (Bound::Bytes(bytes), Storage::Text) => {
            Some(Owned::Text(String::from_utf8(bytes.to_vec()).ok()?))
        }
        (Bound::Bytes(bytes), Storage::Blob) => Some(Owned::Blob(bytes.to_vec())),
        _ => None,
    };
    Some(Range {
        kinds,
        min: bound(min),
        max: bound(max),
        ascending: false,
    })
}

/// Reads the indexes of a file's pages.
fn read_indexes(file: &VerifiedFile, metadata: ParquetMetaData) -> Result<ParquetMetaData> {
    let path = file.path();
    let damaged = |reason: &'static str| Error::damaged(path)(reason);
    let bytes = file.identity().bytes;
    let span = bounds::check_chunks(&metadata, bytes).map_err(damaged)?;
    let part = FilePart::read(file, span).map_err(Error::reading(path))?;
    for chunk in metadata
        .row_groups()
        .iter()
        .flat_map(|group| group.columns())
    {
        let spans = bounds::index_spans(chunk, bytes).unwrap_or_default();
        let shapes = [&outline::OFFSET_INDEX, &outline::COLUMN_INDEX];
        for (span, shape) in spans.into_iter().zip(shapes) {
            let index = part.get(span).map_err(Error::reading(path))?;
            let passed = Reader::new(&index).pass(shape);
            passed.ok_or_else(|| damaged("an index of pages is malformed"))?;
        }
    }
    let mut reader = ParquetMetaDataReader::new_with_metadata(metadata)
        .with_page_index_policy(PageIndexPolicy::Required);
    reader
        .read_page_indexes(&part)
        .map_err(Error::reading(path))?;
    let metadata = reader.finish().map_err(Error::reading(path))?;
    bounds::check_pages(&metadata, bytes).map_err(damaged)?;
    Ok(metadata)
}

/// Some bytes of a file, which are read once.
struct FilePart {
    /// Of the whole file.
    length: u64,
    start: u64,
    bytes: Bytes,
}

impl FilePart {
    fn read(file: &VerifiedFile, span: Span<u64>) -> ParquetResult<Self> {
        let length = usize::try_from(span.end - span.start)?;
        Ok(Self {
            length: file.len(),
            start: span.start,
            bytes: file.get_bytes(span.start, length)?,
        })
    }

    fn get(&self, span: Span<u64>) -> ParquetResult<Bytes> {
        let outside = || ParquetError::EOF("an index of pages is not where it can be".to_owned());
        let within = |at: u64| {
            let at = at
                .checked_sub(self.start)
                .and_then(|at| usize::try_from(at).ok());
            at.filter(|at| *at <= self.bytes.len()).ok_or_else(outside)
        };
        let (start, end) = (within(span.start)?, within(span.end)?);
        match start <= end {
            true => Ok(self.bytes.slice(start..end)),
            false => Err(outside()),
        }
    }
}

impl Length for FilePart {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for FilePart {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        let end = self.start.saturating_add(self.bytes.len() as u64);
        Ok(self.get(start..end)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        self.get(start..start.saturating_add(length as u64))
    }
}

fn read_metadata(file: &VerifiedFile, groups: Option<usize>) -> Result<ParquetMetaData> {
    let footer = outline::read_footer(file, groups)?;
    ParquetMetaDataReader::decode_metadata(&footer).map_err(Error::reading(file.path()))
}

/// The number in the file of each row group's first row, and at the end the number of rows.
fn group_starts(metadata: &ParquetMetaData) -> Result<Vec<usize>, &'static str> {
    let mut starts = vec![0];
    for group in metadata.row_groups() {
        let rows = usize::try_from(group.num_rows()).unwrap_or(usize::MAX);
        if !(1..=MAX_GROUP_ROWS).contains(&rows) {
            return Err("a row group has an impossible size");
        }
        starts.push(starts.last().map_or(0, |start| start + rows));
    }
    Ok(starts)
}

/// The description of a file that has one.
fn description(metadata: &ParquetMetaData) -> Option<&str> {
    let mut pairs = metadata.file_metadata().key_value_metadata()?.iter();
    pairs
        .find(|pair| pair.key == METADATA_KEY)?
        .value
        .as_deref()
}

fn describe(metadata: &ParquetMetaData) -> Result<Description, &'static str> {
    let text = description(metadata).ok_or("it was not written by sqlite-cold")?;
    let description = Description::from_json(text)?;
    let root = metadata.file_metadata().schema_descr().root_schema();
    let names = root.get_fields().iter().map(|field| field.name());
    match names.eq(description.columns.iter().map(|column| &column.name)) {
        true => Ok(description),
        false => Err("its columns are not those of its description"),
    }
}
