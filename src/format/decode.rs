//! Parquet columns back to SQLite values: the reverse of `archive::encode`.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Date32Array, Float64Array, Int32Array, Int64Array,
    StringArray,
};
use arrow::datatypes::{
    DataType, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType,
};

use super::types::{MixedField, Storage, number_from_double};
use crate::time::canonical::{MAX_LENGTH, Shape};
use crate::value::{Encoding, Value};

/// Room for a timestamp's text, which is not stored as such.
pub type Scratch = [u8; MAX_LENGTH];

/// Consecutive values of a column, in memory.
#[derive(Debug)]
pub enum DecodedColumn {
    Integer(Int64Array),
    Real(Float64Array),
    Number(Float64Array),
    Text(StringArray),
    /// Text that repeats itself: for each row, which of the values it has.
    Dictionary(Int32Array, StringArray),
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
            Storage::Text => match array.as_dictionary_opt::<Int32Type>() {
                Some(dictionary) => {
                    let values = dictionary.values().as_string_opt()?;
                    Self::Dictionary(dictionary.keys().clone(), whole(values)?)
                }
                None => Self::Text(whole(array.as_string_opt()?)?),
            },
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
    #[inline]
    pub fn value<'a>(&'a self, row: usize, scratch: &'a mut Scratch) -> Value<'a> {
        match self {
            Self::Integer(array) if array.is_valid(row) => Value::Integer(array.value(row)),
            Self::Real(array) if array.is_valid(row) => Value::Real(array.value(row)),
            Self::Number(array) if array.is_valid(row) => number_from_double(array.value(row)),
            Self::Text(array) if array.is_valid(row) => Value::Text(array.value(row)),
            Self::Dictionary(keys, values) if keys.is_valid(row) => {
                match usize::try_from(keys.value(row)) {
                    Ok(key) if key < values.len() => Value::Text(values.value(key)),
                    _ => Value::Null,
                }
            }
            Self::Blob(array) if array.is_valid(row) => Value::Blob(array.value(row)),
            Self::RawText(array, encoding) if array.is_valid(row) => {
                Value::RawText(array.value(row), *encoding)
            }
            Self::Date(array) if array.is_valid(row) => {
                let text = Shape::Date.format(i64::from(array.value(row)), scratch);
                text.map_or(Value::Null, Value::Text)
            }
            Self::Timestamp(array, shape) if array.is_valid(row) => {
                let text = shape.format(array.value(row), scratch);
                text.map_or(Value::Null, Value::Text)
            }
            Self::Mixed(children) => match children.iter().find(|child| child.is_set(row)) {
                Some(child) => child.value(row, scratch),
                None => Value::Null,
            },
            _ => Value::Null,
        }
    }

    /// The number that a row is stored as; `None` if it is NULL or stored as something else.
    pub fn number(&self, row: usize) -> Option<i64> {
        match self {
            _ if !self.is_set(row) => None,
            Self::Integer(array) | Self::Timestamp(array, _) => Some(array.value(row)),
            Self::Date(array) => Some(i64::from(array.value(row))),
            _ => None,
        }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.parts().first().map_or(0, |array| array.len())
    }

    /// Bytes that it takes in memory.
    pub fn memory(&self) -> usize {
        self.parts()
            .iter()
            .map(|array| array.get_array_memory_size())
            .sum()
    }

    #[inline]
    fn is_set(&self, row: usize) -> bool {
        match self {
            Self::Integer(array) | Self::Timestamp(array, _) => array.is_valid(row),
            Self::Real(array) | Self::Number(array) => array.is_valid(row),
            Self::Text(array) => array.is_valid(row),
            Self::Dictionary(keys, _) => keys.is_valid(row),
            Self::Blob(array) | Self::RawText(array, _) => array.is_valid(row),
            Self::Date(array) => array.is_valid(row),
            Self::Mixed(children) => children.iter().any(|child| child.is_set(row)),
        }
    }

    /// The arrays it is made of, one with all rows first.
    fn parts(&self) -> Vec<&dyn Array> {
        match self {
            Self::Integer(array) | Self::Timestamp(array, _) => vec![array],
            Self::Real(array) | Self::Number(array) => vec![array],
            Self::Text(array) => vec![array],
            Self::Dictionary(keys, values) => vec![keys, values],
            Self::Blob(array) | Self::RawText(array, _) => vec![array],
            Self::Date(array) => vec![array],
            Self::Mixed(children) => children.iter().flat_map(Self::parts).collect(),
        }
    }
}

/// The texts, if no character is divided among two of them: for a delta encoding the Parquet reader only looks
/// whether all of them together are UTF-8.
fn whole(texts: &StringArray) -> Option<StringArray> {
    let bytes = texts.values();
    let begins = |at: &i32| {
        let byte = usize::try_from(*at).ok().map(|at| bytes.get(at));
        byte.is_some_and(|byte| byte.is_none_or(|byte| byte & 0xC0 != 0x80))
    };
    texts
        .value_offsets()
        .iter()
        .all(begins)
        .then(|| texts.clone())
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
