//! Rows to Parquet: how each column of a file is stored.
//!
//! A column whose values are all of one storage class becomes the plain Parquet type. Anything else
//! becomes a struct with one field per class, of which at most one is set in a row.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Date32Array, Float64Array, Int64Array, PrimitiveArray, StringBuilder,
    StructArray, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
};
use arrow::buffer::NullBuffer;
use arrow::error::ArrowError;
use parquet::basic::{Compression, Encoding as PageEncoding, ZstdLevel};
use parquet::errors::Result as ParquetResult;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use super::rows::{ColumnBuffer, RowGroup};
use super::types::{MixedField, Storage, number_to_double};
use crate::time::canonical::{Shape, Unit};
use crate::value::{Encoding, Value};

/// A page is what a point lookup decompresses: enough for ZSTD to find repetitions, little enough
/// to decode in a fraction of a millisecond.
const PAGE_BYTES: usize = 256 * 1024;
const PAGE_ROWS: usize = 8 * 1024;
/// How often the writer checks whether a page is full, in rows.
const PAGE_CHECK_ROWS: usize = 256;
/// Longer text and blobs are cut in Parquet's statistics.
const STATISTICS_BYTES: usize = 64;
const BLOOM_FALSE_POSITIVES: f64 = 0.01;

/// Chooses how a column is stored, from all its values in the file. `declared_type` only decides
/// for a column of NULLs.
pub fn choose_storage<'a>(
    values: impl Iterator<Item = Value<'a>> + Clone,
    declared_type: &str,
) -> Storage {
    let mut fields = Vec::new();
    for value in values.clone() {
        if let Some(field) = MixedField::of(value)
            && !fields.contains(&field)
        {
            fields.push(field);
        }
    }
    match fields[..] {
        [] => Storage::for_nulls(declared_type),
        [MixedField::Integer] => Storage::Integer,
        [MixedField::Real] => Storage::Real,
        [MixedField::Blob] => Storage::Blob,
        [MixedField::Text] => match common_shape(values) {
            Some(shape) => Storage::Timestamp(shape),
            None => Storage::Text,
        },
        _ => {
            fields.sort_unstable();
            let numbers = fields == [MixedField::Integer, MixedField::Real];
            match numbers && values.filter(is_set).all(|v| number_to_double(v).is_some()) {
                true => Storage::Number,
                false => Storage::Mixed(fields),
            }
        }
    }
}

fn is_set(value: &Value<'_>) -> bool {
    !matches!(value, Value::Null)
}

/// The timestamp shape that every text has and can be rebuilt from.
fn common_shape<'a>(values: impl Iterator<Item = Value<'a>>) -> Option<Shape> {
    let mut texts = values.filter_map(|value| match value {
        Value::Text(text) => Some(text),
        _ => None,
    });
    let first = texts.next()?;
    let shape = Shape::of(first)?;
    let fits = |text: &str| shape.parse(text).is_some();
    (fits(first) && texts.all(fits)).then_some(shape)
}

/// One column of a row group as the Arrow array that is written.
pub fn array(
    column: &ColumnBuffer,
    storage: &Storage,
    encoding: Encoding,
) -> Result<ArrayRef, ArrowError> {
    let values = column.values(encoding);
    Ok(match storage {
        Storage::Integer => Arc::new(integers(values)),
        Storage::Real => Arc::new(reals(values)),
        Storage::Number => Arc::new(values.map(number_to_double).collect::<Float64Array>()),
        Storage::Text => Arc::new(texts(values)),
        Storage::Blob => Arc::new(blobs(values, |value| matches!(value, Value::Blob(_)))),
        Storage::Timestamp(shape) => timestamps(values, *shape),
        Storage::Mixed(fields) => {
            let nulls = NullBuffer::from_iter(values.clone().map(|value| is_set(&value)));
            let children = fields
                .iter()
                .map(|field| mixed_child(values.clone(), *field));
            let children = children.collect();
            Arc::new(StructArray::try_new(
                Storage::fields(fields),
                children,
                Some(nulls),
            )?)
        }
    })
}

fn mixed_child<'a>(values: impl Iterator<Item = Value<'a>>, field: MixedField) -> ArrayRef {
    match field {
        MixedField::Integer => Arc::new(integers(values)),
        MixedField::Real => Arc::new(reals(values)),
        MixedField::Text => Arc::new(texts(values)),
        MixedField::Blob => Arc::new(blobs(values, |value| matches!(value, Value::Blob(_)))),
        MixedField::RawText => Arc::new(blobs(values, |value| matches!(value, Value::RawText(..)))),
    }
}

fn integers<'a>(values: impl Iterator<Item = Value<'a>>) -> Int64Array {
    values
        .map(|value| match value {
            Value::Integer(integer) => Some(integer),
            _ => None,
        })
        .collect()
}

fn reals<'a>(values: impl Iterator<Item = Value<'a>>) -> Float64Array {
    values
        .map(|value| match value {
            Value::Real(real) => Some(real),
            _ => None,
        })
        .collect()
}

fn texts<'a>(values: impl Iterator<Item = Value<'a>>) -> arrow::array::StringArray {
    let mut builder = StringBuilder::new();
    for value in values {
        match value {
            Value::Text(text) => builder.append_value(text),
            _ => builder.append_null(),
        }
    }
    builder.finish()
}

fn blobs<'a>(
    values: impl Iterator<Item = Value<'a>>,
    wanted: fn(Value<'a>) -> bool,
) -> arrow::array::BinaryArray {
    let mut builder = BinaryBuilder::new();
    for value in values {
        match wanted(value) {
            true => builder.append_value(value.bytes()),
            false => builder.append_null(),
        }
    }
    builder.finish()
}

fn timestamps<'a>(values: impl Iterator<Item = Value<'a>>, shape: Shape) -> ArrayRef {
    let numbers = values.map(|value| match value {
        Value::Text(text) => shape.parse(text),
        _ => None,
    });
    let zone = shape.is_utc().then_some("UTC");
    fn zoned<T: arrow::datatypes::ArrowTimestampType>(
        array: PrimitiveArray<T>,
        zone: Option<&str>,
    ) -> ArrayRef {
        Arc::new(array.with_timezone_opt(zone))
    }
    match shape.unit() {
        None => {
            let days = numbers.map(|day| day.and_then(|day| i32::try_from(day).ok()));
            Arc::new(days.collect::<Date32Array>())
        }
        Some(Unit::Millis) => zoned(numbers.collect::<TimestampMillisecondArray>(), zone),
        Some(Unit::Micros) => zoned(numbers.collect::<TimestampMicrosecondArray>(), zone),
        Some(Unit::Nanos) => zoned(numbers.collect::<TimestampNanosecondArray>(), zone),
    }
}

/// What the writer needs to know of a column beside its type.
pub struct ColumnSettings<'a> {
    pub name: &'a str,
    pub storage: &'a Storage,
    /// Repeated values are stored once.
    pub dictionary: bool,
    /// A filter tells which values are surely not in a row group.
    pub bloom: bool,
}

/// Whether a column repeats itself enough for a dictionary: at most one value in four is new.
pub fn repeats(groups: &[RowGroup], column: usize, encoding: Encoding) -> bool {
    let values = || groups.iter().filter_map(|group| group.columns.get(column));
    let count = values()
        .flat_map(|buffer| buffer.values(encoding))
        .filter(is_set)
        .count();
    let mut distinct = HashSet::new();
    for value in values().flat_map(|buffer| buffer.values(encoding)) {
        let hash = match value {
            Value::Null => continue,
            Value::Integer(integer) => integer.cast_unsigned(),
            Value::Real(real) => real.to_bits(),
            other => xxhash_rust::xxh3::xxh3_64(other.bytes()),
        };
        if distinct.insert(hash) && distinct.len() * 4 > count {
            return false;
        }
    }
    true
}

/// The settings of the Parquet writer; without a level nothing is compressed.
pub fn properties(
    columns: &[ColumnSettings<'_>],
    rows: usize,
    compression_level: Option<i32>,
) -> ParquetResult<WriterPropertiesBuilder> {
    let compression = match compression_level {
        Some(level) => Compression::ZSTD(ZstdLevel::try_new(level)?),
        None => Compression::UNCOMPRESSED,
    };
    let mut builder = WriterProperties::builder()
        .set_created_by(concat!("sqlite-cold version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(compression)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_statistics_truncate_length(Some(STATISTICS_BYTES))
        .set_column_index_truncate_length(Some(STATISTICS_BYTES))
        .set_data_page_size_limit(PAGE_BYTES)
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(PAGE_CHECK_ROWS)
        .set_max_row_group_row_count(None);
    for column in columns {
        let path = ColumnPath::new(vec![column.name.to_owned()]);
        builder = builder.set_column_dictionary_enabled(path.clone(), column.dictionary);
        let page_encoding = match (column.storage, column.dictionary) {
            (Storage::Integer | Storage::Timestamp(_), false) => {
                Some(PageEncoding::DELTA_BINARY_PACKED)
            }
            (Storage::Text | Storage::Blob, false) => Some(PageEncoding::DELTA_LENGTH_BYTE_ARRAY),
            _ => None,
        };
        if let Some(page_encoding) = page_encoding {
            builder = builder.set_column_encoding(path.clone(), page_encoding);
        }
        if column.bloom && !matches!(column.storage, Storage::Mixed(_)) {
            builder = builder
                .set_column_bloom_filter_enabled(path.clone(), true)
                .set_column_bloom_filter_fpp(path.clone(), BLOOM_FALSE_POSITIVES)
                .set_column_bloom_filter_max_ndv(path, rows as u64);
        }
    }
    Ok(builder)
}
