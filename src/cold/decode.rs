//! Parquet columns back to SQLite values: the reverse of `archive::encode`.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Date32Array, Float64Array, Int64Array, StringArray,
};
use arrow::datatypes::{
    DataType, Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType,
};

use crate::stored::{MixedField, Storage, number_from_double};
use crate::time::canonical::{MAX_LENGTH, Shape};
use crate::value::{Encoding, Value};

/// Room for a timestamp's text, which is not stored as such.
pub type Scratch = [u8; MAX_LENGTH];

/// A column of a row group in memory.
#[derive(Debug)]
pub enum DecodedColumn {
    Integer(Int64Array),
    Real(Float64Array),
    Number(Float64Array),
    Text(StringArray),
    Blob(BinaryArray),
    RawText(BinaryArray, Encoding),
    Date(Date32Array),
    Timestamp(Int64Array, Shape),
    Mixed(Vec<DecodedColumn>),
}

impl DecodedColumn {
    /// Takes the array that was read for a column stored as `storage`, or `None` if the file's
    /// types are not what its description says.
    pub fn new(array: &ArrayRef, storage: &Storage, encoding: Encoding) -> Option<Self> {
        Some(match storage {
            Storage::Integer => Self::Integer(array.as_primitive_opt()?.clone()),
            Storage::Real => Self::Real(array.as_primitive_opt()?.clone()),
            Storage::Number => Self::Number(array.as_primitive_opt()?.clone()),
            Storage::Text => Self::Text(array.as_string_opt()?.clone()),
            Storage::Blob => Self::Blob(array.as_binary_opt()?.clone()),
            Storage::Timestamp(Shape::Date) => Self::Date(array.as_primitive_opt()?.clone()),
            Storage::Timestamp(shape) => Self::Timestamp(counts(array)?, *shape),
            Storage::Mixed(fields) => {
                let group = array.as_struct_opt()?;
                let children = fields.iter().map(|field| {
                    let child = group.column_by_name(field.name())?;
                    match (field, Self::new(child, &field.storage(), encoding)?) {
                        (MixedField::RawText, Self::Blob(bytes)) => {
                            Some(Self::RawText(bytes, encoding))
                        }
                        (_, decoded) => Some(decoded),
                    }
                });
                Self::Mixed(children.collect::<Option<_>>()?)
            }
        })
    }

    /// The value of a row, which must be one of [`Self::rows`].
    pub fn value<'a>(&'a self, row: usize, scratch: &'a mut Scratch) -> Value<'a> {
        match self {
            Self::Mixed(children) => match children.iter().find(|child| child.is_set(row)) {
                Some(child) => child.value(row, scratch),
                None => Value::Null,
            },
            _ if !self.is_set(row) => Value::Null,
            Self::Integer(array) => Value::Integer(array.value(row)),
            Self::Real(array) => Value::Real(array.value(row)),
            Self::Number(array) => number_from_double(array.value(row)),
            Self::Text(array) => Value::Text(array.value(row)),
            Self::Blob(array) => Value::Blob(array.value(row)),
            Self::RawText(array, encoding) => Value::RawText(array.value(row), *encoding),
            Self::Date(array) => {
                let day = i64::from(array.value(row));
                Shape::Date
                    .format(day, scratch)
                    .map_or(Value::Null, Value::Text)
            }
            Self::Timestamp(array, shape) => shape
                .format(array.value(row), scratch)
                .map_or(Value::Null, Value::Text),
        }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        match self {
            Self::Integer(array) | Self::Timestamp(array, _) => array.len(),
            Self::Real(array) | Self::Number(array) => array.len(),
            Self::Text(array) => array.len(),
            Self::Blob(array) | Self::RawText(array, _) => array.len(),
            Self::Date(array) => array.len(),
            Self::Mixed(children) => children.first().map_or(0, Self::rows),
        }
    }

    fn is_set(&self, row: usize) -> bool {
        match self {
            Self::Integer(array) | Self::Timestamp(array, _) => array.is_valid(row),
            Self::Real(array) | Self::Number(array) => array.is_valid(row),
            Self::Text(array) => array.is_valid(row),
            Self::Blob(array) | Self::RawText(array, _) => array.is_valid(row),
            Self::Date(array) => array.is_valid(row),
            Self::Mixed(children) => children.iter().any(|child| child.is_set(row)),
        }
    }
}

/// The numbers of a timestamp column, whatever its unit; the shape knows that.
fn counts(array: &ArrayRef) -> Option<Int64Array> {
    let DataType::Timestamp(unit, _) = array.data_type() else {
        return None;
    };
    Some(match unit {
        TimeUnit::Millisecond => array
            .as_primitive_opt::<TimestampMillisecondType>()?
            .reinterpret_cast::<Int64Type>(),
        TimeUnit::Microsecond => array
            .as_primitive_opt::<TimestampMicrosecondType>()?
            .reinterpret_cast::<Int64Type>(),
        TimeUnit::Nanosecond => array
            .as_primitive_opt::<TimestampNanosecondType>()?
            .reinterpret_cast::<Int64Type>(),
        TimeUnit::Second => return None,
    })
}
