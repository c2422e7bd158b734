//! An open cold file, and pages of it as columns in memory.

use std::ops::Range as Span;
use std::path::Path;
use std::sync::Arc;

use arrow::error::ArrowError;
use once_cell::sync::OnceCell;
use parquet::arrow::arrow_reader::{
    ParquetRecordBatchReader, RowGroups, RowSelection, RowSelector,
};
use parquet::bloom_filter::Sbbf;
use parquet::column::page::{PageIterator, PageReader};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

use super::bounds::Limits;
use super::decode::DecodedColumn;
use super::footer::Footer;
use super::pages::CheckedPages;
use super::record::FileRecord;
use super::types::{Description, StoredColumn};
use crate::error::{Error, Result};
use crate::sqlite::panic::guard;
use crate::storage::read::{self, VerifiedFile};
use crate::storage::{Folder, Identity};

/// A cold file whose footer is known. The file itself is opened when a page of it is needed.
pub struct OpenFile {
    folder: Folder,
    record: FileRecord,
    footer: Arc<Footer>,
    /// Which file the footer was read from.
    identity: Identity,
    bytes: OnceCell<Arc<VerifiedFile>>,
}

impl OpenFile {
    /// Opens the file that the catalog records.
    pub fn open(folder: &Folder, record: &FileRecord) -> Result<Self> {
        let bytes = VerifiedFile::open(folder, &record.path, &record.seal)?;
        let footer = unharmed(bytes.path(), || Footer::read(&bytes, record))?;
        Ok(Self {
            identity: bytes.identity(),
            bytes: OnceCell::with_value(Arc::new(bytes)),
            ..Self::known(folder, record, Arc::new(footer), Identity::default())
        })
    }

    /// Opens a file that no catalog records, and takes it for what it says. What is made of it is bounded
    /// as for every other file.
    pub fn discover(folder: &Folder, path: &str) -> Result<Self> {
        let seal = read::seal(folder, path)?;
        let bytes = VerifiedFile::open(folder, path, &seal)?;
        let (rows, row_groups) = unharmed(bytes.path(), || Footer::count(&bytes))?;
        let record = FileRecord {
            path: path.to_owned(),
            rows,
            row_groups,
            seal,
        };
        Self::open(folder, &record)
    }

    pub fn record(&self) -> &FileRecord {
        &self.record
    }

    /// A file whose footer was read before, when it was the file `identity`.
    pub fn known(
        folder: &Folder,
        record: &FileRecord,
        footer: Arc<Footer>,
        identity: Identity,
    ) -> Self {
        Self {
            folder: folder.clone(),
            record: record.clone(),
            footer,
            identity,
            bytes: OnceCell::new(),
        }
    }

    pub fn footer(&self) -> &Arc<Footer> {
        &self.footer
    }

    pub fn identity(&self) -> Identity {
        self.identity
    }

    pub fn path(&self) -> &Path {
        self.footer.path()
    }

    pub fn columns(&self) -> &[StoredColumn] {
        self.footer.columns()
    }

    pub fn row_groups(&self) -> usize {
        self.footer.row_groups()
    }

    /// The number of rows of a row group.
    pub fn rows(&self, group: usize) -> usize {
        self.footer.rows(group).len()
    }

    /// How many bytes were read from it.
    pub fn bytes_read(&self) -> u64 {
        self.bytes.get().map_or(0, |bytes| bytes.bytes_read())
    }

    /// The XXH3-128 of the whole file.
    pub fn checksum(&self) -> Result<[u8; 16]> {
        self.bytes()?.checksum()
    }

    fn bytes(&self) -> Result<&Arc<VerifiedFile>> {
        self.bytes.get_or_try_init(|| {
            let bytes = VerifiedFile::open(&self.folder, &self.record.path, &self.record.seal)?;
            match bytes.identity() == self.identity {
                true => Ok(Arc::new(bytes)),
                false => Err(Error::damaged(self.path())(
                    "it was replaced while it was read",
                )),
            }
        })
    }

    /// Reads a column of a row group.
    pub fn decode(&self, group: usize, column: usize) -> Result<DecodedColumn> {
        self.decode_rows(group, column, 0..self.rows(group))
    }

    /// Reads all columns of a row group.
    pub fn decode_all(&self, group: usize) -> Result<Vec<DecodedColumn>> {
        let mut bytes = 0;
        let mut decode = |column: usize| {
            let decoded = self.decode(group, column)?;
            bytes += decoded.memory();
            self.check_group(bytes)?;
            Ok(decoded)
        };
        (0..self.columns().len()).map(&mut decode).collect()
    }

    /// Fails if the decoded pages of a row group take more than those of an honest file can.
    pub fn check_group(&self, bytes: usize) -> Result<()> {
        match bytes as u64 <= Limits::of(self.record.seal.bytes).group {
            true => Ok(()),
            false => Err(Error::damaged(self.path())(
                "a row group has more bytes than its file can have",
            )),
        }
    }

    /// Reads some rows of a column, which are numbered within the row group: decompresses the pages
    /// that have them.
    pub fn decode_rows(
        &self,
        group: usize,
        column: usize,
        rows: Span<usize>,
    ) -> Result<DecodedColumn> {
        let pages = GroupPages {
            file: Arc::clone(self.bytes()?),
            metadata: &self.footer.metadata,
            group,
        };
        let all = self.rows(group);
        let selection = (rows.len() < all).then(|| {
            let skip = RowSelector::skip(rows.start);
            let select = RowSelector::select(rows.len());
            RowSelection::from(vec![skip, select])
        });
        let levels = self.footer.levels(column)?;
        let batch = unharmed(self.path(), || {
            ParquetRecordBatchReader::try_new_with_row_groups(levels, &pages, rows.len(), selection)
                .map_err(Error::reading(self.path()))?
                .next()
                .ok_or("a page is empty")
                .map_err(Error::damaged(self.path()))?
                .map_err(|error| self.arrow_error(error))
        })?;
        let Description { encoding, columns } = &self.footer.description;
        let stored = columns.get(column);
        let decoded = stored
            .filter(|_| batch.num_columns() == 1 && batch.num_rows() == rows.len())
            .and_then(|stored| DecodedColumn::new(batch.column(0), &stored.storage, *encoding));
        decoded.ok_or_else(|| {
            let name = stored.map_or("", |stored| &stored.name);
            let reason = format!("column {name} is not what its description says");
            Error::damaged(self.path())(reason)
        })
    }

    fn arrow_error(&self, error: ArrowError) -> Error {
        match error {
            ArrowError::ExternalError(source) => match source.downcast::<ParquetError>() {
                Ok(error) => Error::reading(self.path())(*error),
                Err(other) => Error::damaged(self.path())(other),
            },
            other => Error::damaged(self.path())(other),
        }
    }

    /// The filter that tells which values are surely not in a column of a row group, if it has one.
    pub fn bloom_filter(&self, group: usize, column: usize) -> Result<Option<Sbbf>> {
        match self.footer.chunk(group, column) {
            Some(chunk) if chunk.bloom_filter_offset().is_some() => {
                let bytes = self.bytes()?;
                let filter = unharmed(self.path(), || {
                    Sbbf::read_from_column_chunk(chunk, &**bytes)
                        .map_err(Error::reading(self.path()))
                })?;
                match filter
                    .as_ref()
                    .is_some_and(|filter| filter.num_blocks() == 0)
                {
                    false => Ok(filter),
                    true => Err(Error::damaged(self.path())("a bloom filter is empty")),
                }
            }
            _ => Ok(None),
        }
    }
}

/// Calls the Parquet reader, which panics at some of what a file must not say.
fn unharmed<T>(path: &Path, read: impl FnOnce() -> Result<T>) -> Result<T> {
    guard(read).map_err(|error| match error {
        Error::Internal(reason) => {
            Error::damaged(path)(format!("the Parquet reader gave up ({reason})"))
        }
        other => other,
    })
}

/// The pages of one row group, as the Parquet reader asks for them.
struct GroupPages<'a> {
    file: Arc<VerifiedFile>,
    metadata: &'a ParquetMetaData,
    group: usize,
}

impl RowGroups for GroupPages<'_> {
    fn num_rows(&self) -> usize {
        let rows = self.metadata.row_group(self.group).num_rows();
        usize::try_from(rows).unwrap_or(0)
    }

    fn column_chunks(&self, leaf: usize) -> ParquetResult<Box<dyn PageIterator>> {
        let chunk = self.metadata.row_group(self.group).column(leaf);
        let index = self.metadata.page_index_for_row_group(self.group);
        let locations = index.page_locations(leaf).cloned().unwrap_or_default();
        let most = Limits::of(self.file.identity().bytes).pages;
        let pages = CheckedPages::new(&self.file, chunk, self.num_rows(), locations, most)?;
        Ok(Box::new(OneChunk(Some(Box::new(pages)))))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(self.metadata.row_groups().get(self.group).into_iter())
    }

    fn metadata(&self) -> &ParquetMetaData {
        self.metadata
    }
}

struct OneChunk(Option<Box<dyn PageReader>>);

impl Iterator for OneChunk {
    type Item = ParquetResult<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.take().map(Ok)
    }
}

impl PageIterator for OneChunk {}
