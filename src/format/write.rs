//! One cold file: from rows in memory to a durable file whose every value was read back.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;

use super::bounds::MAX_COMPRESSED;
use super::decode::Scratch;
use super::encode::{self, ColumnSettings};
use super::file::OpenFile;
use super::range::Range;
use super::record::FileRecord;
use super::rows::FileRows;
use super::types::{Description, METADATA_KEY, Origin, StoredColumn};
use crate::error::{Error, Result};
use crate::fault;
use crate::schema::Table;
use crate::storage::Folder;
use crate::storage::write::NewFile;
use crate::time::canonical::MAX_LENGTH;
use crate::time::{TimeFormat, clock};
use crate::value::{Encoding, Value};

/// What all files of a run have in common.
pub struct FileWriter {
    folder: Folder,
    /// The table, of whose columns the stored ones are the first.
    origin: Origin,
    encoding: Encoding,
    compression_level: i32,
    names: Vec<String>,
    /// Which stored columns get a bloom filter.
    unique: Vec<usize>,
}

/// A cold file that is durable and verified, but in no catalog yet.
#[derive(Debug)]
pub struct WrittenFile {
    pub record: FileRecord,
    /// What its rows took in the table.
    pub hot_bytes: u64,
    pub time_min: i64,
    pub time_max: i64,
    pub ranges: Vec<(String, Range)>,
}

impl FileWriter {
    /// `time` is the column that tells the age of rows, and its format.
    pub fn new(
        folder: Folder,
        table: &Table,
        time: (&str, TimeFormat),
        names: &[String],
        encoding: Encoding,
        compression_level: i32,
    ) -> Self {
        Self {
            folder,
            origin: Origin {
                table: table.name.clone(),
                columns: table.columns.clone(),
                time_column: time.0.to_owned(),
                time_format: time.1,
                written: clock::stamp(),
            },
            encoding,
            compression_level,
            names: names.to_vec(),
            unique: table.unique.clone(),
        }
    }

    /// Writes `rows` to a new file at `path`, makes it durable, and checks it value by value.
    pub fn write(&self, path: &str, rows: &FileRows) -> Result<WrittenFile> {
        let mut file = self.folder.create(path)?;
        let encoded = self.encode(&mut file, rows);
        encoded.map_err(|source| Error::Encode {
            path: file.path().to_owned(),
            source,
        })?;
        fault::point("file.close")?;
        let record = FileRecord {
            path: path.to_owned(),
            rows: rows.rows(),
            row_groups: rows.groups.len(),
            seal: file.sync()?,
        };
        drop(file);
        fault::point("file.verify")?;
        self.verify(&record, rows)?;
        Ok(WrittenFile {
            record,
            hot_bytes: self.hot_bytes(rows),
            time_min: rows.time_min,
            time_max: rows.time_max,
            ranges: (0..self.names.len())
                .map(|column| {
                    (
                        self.names[column].clone(),
                        Range::of(self.values(rows, column)),
                    )
                })
                .collect(),
        })
    }

    /// The length of the records that SQLite makes of the rows; pages and indexes come on top.
    fn hot_bytes(&self, rows: &FileRows) -> u64 {
        let columns = 0..self.names.len();
        let values = columns.flat_map(|column| self.values(rows, column));
        values.map(|value| value.stored_bytes()).sum()
    }

    fn values<'a>(
        &self,
        rows: &'a FileRows,
        column: usize,
    ) -> impl Iterator<Item = Value<'a>> + Clone {
        let encoding = self.encoding;
        let columns = rows
            .groups
            .iter()
            .filter_map(move |group| group.columns.get(column));
        columns.flat_map(move |column| column.values(encoding))
    }

    fn encode(&self, file: &mut NewFile, rows: &FileRows) -> Result<(), ParquetError> {
        let stored = |column: usize| {
            let declared = self.origin.columns.get(column);
            let declared = declared.map_or("INTEGER", |c| &c.declared_type);
            StoredColumn {
                name: self.names[column].clone(),
                storage: encode::choose_storage(self.values(rows, column), declared),
            }
        };
        let description = Description {
            encoding: self.encoding,
            columns: (0..self.names.len()).map(stored).collect(),
        };
        let columns = &description.columns;
        let settings: Vec<ColumnSettings> = columns
            .iter()
            .enumerate()
            .map(|(index, column)| ColumnSettings {
                name: &column.name,
                storage: &column.storage,
                dictionary: encode::repeats(&rows.groups, index, self.encoding),
                bloom: self.unique.contains(&index),
            })
            .collect();
        let metadata = description.to_json(&self.origin);
        let largest = rows.groups.iter().map(|group| group.bytes).max();
        let level = (largest <= Some(MAX_COMPRESSED)).then_some(self.compression_level);
        let properties = encode::properties(&settings, rows.rows(), level)?
            .set_key_value_metadata(Some(vec![KeyValue::new(METADATA_KEY.to_owned(), metadata)]))
            .build();
        let fields = columns
            .iter()
            .map(|column| Field::new(&column.name, column.storage.data_type(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let options = ArrowWriterOptions::new()
            .with_properties(properties)
            .with_skip_arrow_metadata(true);
        let mut writer = ArrowWriter::try_new_with_options(file, Arc::clone(&schema), options)?;
        for group in &rows.groups {
            let arrays = group
                .columns
                .iter()
                .zip(columns)
                .map(|(buffer, column)| encode::array(buffer, &column.storage, self.encoding))
                .collect::<Result<_, _>>()?;
            writer.write(&RecordBatch::try_new(Arc::clone(&schema), arrays)?)?;
            writer.flush()?;
        }
        writer.close()?;
        Ok(())
    }

    /// Opens the file as a reader would and holds every value against the row it came from.
    fn verify(&self, record: &FileRecord, rows: &FileRows) -> Result<()> {
        let file = OpenFile::open(&self.folder, record)?;
        let place = file.path().to_owned();
        let differs = |what: &str| Err(Error::damaged(&place)(what));
        if file.checksum()? != record.seal.checksum {
            return differs("its bytes are not those that were written");
        }
        let mut scratch: Scratch = [0; MAX_LENGTH];
        for (number, group) in rows.groups.iter().enumerate() {
            for (index, column) in group.columns.iter().enumerate() {
                let decoded = file.decode(number, index)?;
                if decoded.rows() != group.rows {
                    return differs("a row group has lost rows");
                }
                for (row, value) in column.values(self.encoding).enumerate() {
                    if !decoded.value(row, &mut scratch).same(value) {
                        let name = &self.names[index];
                        return differs(&format!(
                            "column {name} of row {row} was not kept exactly"
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}
