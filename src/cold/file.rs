//! An open cold file.

use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::statistics::Statistics;
use rusqlite::types::Value as Owned;

use super::decode::DecodedColumn;
use super::footer;
use super::range::{Kinds, Range};
use crate::error::{Error, Result};
use crate::storage::Archive;
use crate::stored::{Description, MAX_GROUP_ROWS, METADATA_KEY, Storage, StoredColumn};
use crate::time::canonical::{MAX_LENGTH, Shape};

/// A cold file, its footer read and understood.
pub struct ColdFile {
    file: File,
    path: PathBuf,
    footer: ArrowReaderMetadata,
    description: Description,
}

impl ColdFile {
    /// Opens the file at `relative`, which must have `bytes` bytes and `rows` rows.
    pub fn open(archive: &Archive, relative: &str, bytes: u64, rows: usize) -> Result<Self> {
        let (mut file, path) = archive.open(relative)?;
        let found = file.metadata().map_err(Error::io(&path))?.len();
        if found != bytes {
            let reason = format!("it has {found} bytes, the catalog says {bytes}");
            return Err(Error::damaged(&path)(reason));
        }
        footer::check(&mut file, bytes).map_err(Error::damaged(&path))?;
        // The Arrow types follow from the Parquet types; the description says the rest.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let footer = ArrowReaderMetadata::load(&file, options).map_err(Error::reading(&path))?;
        let description = describe(&footer).map_err(Error::damaged(&path))?;
        let opened = Self {
            file,
            path,
            footer,
            description,
        };
        let groups = opened.footer.metadata().row_groups();
        let most = i64::try_from(MAX_GROUP_ROWS).unwrap_or(i64::MAX);
        if groups
            .iter()
            .any(|group| !(1..=most).contains(&group.num_rows()))
        {
            return Err(Error::damaged(&opened.path)(
                "a row group has an impossible size",
            ));
        }
        let found: usize = (0..opened.row_groups())
            .map(|group| opened.rows(group))
            .sum();
        if found != rows {
            let reason = format!("it has {found} rows, the catalog says {rows}");
            return Err(Error::damaged(&opened.path)(reason));
        }
        Ok(opened)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The handle itself, for reading every byte.
    pub fn handle(&mut self) -> &mut File {
        &mut self.file
    }

    pub fn columns(&self) -> &[StoredColumn] {
        &self.description.columns
    }

    pub fn row_groups(&self) -> usize {
        self.footer.metadata().num_row_groups()
    }

    /// The number of rows of a row group.
    pub fn rows(&self, group: usize) -> usize {
        self.group(group)
            .map_or(0, |group| usize::try_from(group.num_rows()).unwrap_or(0))
    }

    fn group(&self, group: usize) -> Option<&RowGroupMetaData> {
        self.footer.metadata().row_groups().get(group)
    }

    /// What the footer says of a column's values in a row group. `kinds` are those of the column in
    /// the whole file. `None` if the footer does not say enough.
    pub fn range(&self, group: usize, column: usize, kinds: Kinds) -> Option<Range> {
        let storage = &self.columns().get(column)?.storage;
        if matches!(storage, Storage::Mixed(_)) {
            return None;
        }
        let leaf = self
            .footer
            .parquet_schema()
            .columns()
            .iter()
            .position(|leaf| leaf.path().parts().first() == Some(&self.columns()[column].name))?;
        let chunk = self.group(group)?.columns().get(leaf)?;
        let statistics = chunk.statistics()?;
        let mut kinds = kinds;
        let nulls = statistics.null_count_opt()?;
        if nulls == 0 {
            kinds -= Kinds::NULL;
        } else if i64::try_from(nulls) == Ok(chunk.num_values()) {
            kinds = Kinds::NULL;
        }
        let (min, max) = bounds(statistics, storage);
        Some(Range { kinds, min, max })
    }

    /// Reads a column of a row group.
    pub fn decode(&self, group: usize, column: usize) -> Result<DecodedColumn> {
        let damaged = |reason: String| Error::damaged(&self.path)(reason);
        let stored = self
            .columns()
            .get(column)
            .ok_or_else(|| Error::Internal(format!("no stored column {column}")))?;
        let rows = self.rows(group);
        let mask = ProjectionMask::roots(self.footer.parquet_schema(), [column]);
        let file = self.file.try_clone().map_err(Error::io(&self.path))?;
        let mut reader =
            ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.footer.clone())
                .with_row_groups(vec![group])
                .with_projection(mask)
                .with_batch_size(rows)
                .build()
                .map_err(Error::reading(&self.path))?;
        let batch = reader
            .next()
            .ok_or_else(|| damaged("a row group is empty".to_owned()))?
            .map_err(|error| damaged(error.to_string()))?;
        let decoded = (batch.num_columns() == 1 && batch.num_rows() == rows)
            .then(|| {
                DecodedColumn::new(batch.column(0), &stored.storage, self.description.encoding)
            })
            .flatten();
        decoded.ok_or_else(|| {
            damaged(format!(
                "column {} is not what its description says",
                stored.name
            ))
        })
    }

    /// Reads all columns of a row group.
    pub fn decode_all(&self, group: usize) -> Result<Vec<DecodedColumn>> {
        (0..self.columns().len())
            .map(|column| self.decode(group, column))
            .collect()
    }
}

fn describe(footer: &ArrowReaderMetadata) -> Result<Description, &'static str> {
    let pairs = footer.metadata().file_metadata().key_value_metadata();
    let text = pairs
        .and_then(|pairs| pairs.iter().find(|pair| pair.key == METADATA_KEY))
        .and_then(|pair| pair.value.as_ref())
        .ok_or("it was not written by sqlite-cold")?;
    let description = Description::from_json(text)?;
    let names = footer.schema().fields().iter().map(|field| field.name());
    match names.eq(description.columns.iter().map(|column| &column.name)) {
        true => Ok(description),
        false => Err("its columns are not those of its description"),
    }
}

/// The bounds of a column chunk as SQLite values.
fn bounds(statistics: &Statistics, storage: &Storage) -> (Option<Owned>, Option<Owned>) {
    let timestamp = |number: i64, shape: &Shape| {
        let mut buffer = [0; MAX_LENGTH];
        let text = shape.format(number, &mut buffer)?;
        Some(Owned::Text(text.to_owned()))
    };
    match (statistics, storage) {
        (Statistics::Int64(s), Storage::Integer) => {
            let owned = |bound: Option<&i64>| bound.copied().map(Owned::Integer);
            (owned(s.min_opt()), owned(s.max_opt()))
        }
        (Statistics::Int64(s), Storage::Timestamp(shape)) => {
            let owned = |bound: Option<&i64>| timestamp(*bound?, shape);
            (owned(s.min_opt()), owned(s.max_opt()))
        }
        (Statistics::Int32(s), Storage::Timestamp(shape)) => {
            let owned = |bound: Option<&i32>| timestamp(i64::from(*bound?), shape);
            (owned(s.min_opt()), owned(s.max_opt()))
        }
        (Statistics::Double(s), Storage::Real | Storage::Number) => {
            let owned = |bound: Option<&f64>| bound.copied().map(Owned::Real);
            (owned(s.min_opt()), owned(s.max_opt()))
        }
        (Statistics::ByteArray(s), Storage::Text) => {
            let text = |bytes: &[u8]| Some(Owned::Text(String::from_utf8(bytes.to_vec()).ok()?));
            (
                s.min_bytes_opt().and_then(text),
                s.max_bytes_opt().and_then(text),
            )
        }
        (Statistics::ByteArray(s), Storage::Blob) => {
            let blob = |bytes: &[u8]| Owned::Blob(bytes.to_vec());
            (s.min_bytes_opt().map(blob), s.max_bytes_opt().map(blob))
        }
        _ => (None, None),
    }
}
