//! Hot rows as Arrow batches, as DuckDB takes them.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Date32Builder, Float64Builder, Int64Builder, RecordBatch,
    RecordBatchOptions, StringBuilder, StructArray, TimestampMicrosecondBuilder,
    TimestampNanosecondBuilder,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{Field, Schema};

use super::types::{ColumnType, Time};
use crate::error::{Error, Result};
use crate::format::types::{MixedField, Storage};
use crate::time::canonical::{Shape, Unit};
use crate::value::Value;

/// The most rows of a batch, and about how many bytes of text and blobs it may have.
const BATCH_ROWS: usize = 16 * 1024;
const BATCH_BYTES: usize = 4 << 20;

/// A batch while it is filled.
pub struct BatchBuilder {
    columns: Vec<Builder>,
    rows: usize,
    bytes: usize,
}

impl BatchBuilder {
    pub fn new<'a>(types: impl Iterator<Item = &'a ColumnType>) -> Self {
        Self {
            columns: types.map(Builder::new).collect(),
            rows: 0,
            bytes: 0,
        }
    }

    /// Appends a value to a column; `false` if it does not fit the type of the column.
    #[must_use]
    pub fn push(&mut self, column: usize, value: Value<'_>) -> bool {
        self.bytes += value.bytes().len();
        self.columns
            .get_mut(column)
            .is_some_and(|column| column.push(value))
    }

    /// Counts a row, whose values were pushed. Whether the batch is full then.
    pub fn end_row(&mut self) -> bool {
        self.rows += 1;
        self.rows >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Takes the rows that were counted out.
    pub fn take(&mut self) -> Result<RecordBatch> {
        let rows = std::mem::take(&mut self.rows);
        self.finish(rows)
    }

    /// Takes the values out, so many of each column.
    pub fn finish(&mut self, rows: usize) -> Result<RecordBatch> {
        self.bytes = 0;
        let arrays: Vec<ArrayRef> = self.columns.iter_mut().map(Builder::finish).collect();
        let field = |array: &ArrayRef| Field::new("", array.data_type().clone(), true);
        let schema = Schema::new(arrays.iter().map(field).collect::<Vec<_>>());
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::new(schema), arrays, &options)
            .map_err(|error| Error::Internal(format!("a batch cannot be made: {error}")))
    }
}

/// The values of one column.
enum Builder {
    Integer(Int64Builder),
    Real(Float64Builder),
    Text(StringBuilder),
    Blob(BinaryBuilder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    TimestampNs(TimestampNanosecondBuilder),
    /// One for each member; of a row at most one has a value.
    Mixed(Vec<(MixedField, Builder)>, Vec<bool>),
}

impl Builder {
    fn new(column_type: &ColumnType) -> Self {
        match column_type {
            ColumnType::Integer => Self::Integer(Int64Builder::new()),
            ColumnType::Real => Self::Real(Float64Builder::new()),
            ColumnType::Text => Self::Text(StringBuilder::new()),
            ColumnType::Blob => Self::Blob(BinaryBuilder::new()),
            ColumnType::Time(Time::Date) => Self::Date(Date32Builder::new()),
            ColumnType::Time(Time::Timestamp) => {
                Self::Timestamp(TimestampMicrosecondBuilder::new())
            }
            ColumnType::Time(Time::TimestampNs) => {
                Self::TimestampNs(TimestampNanosecondBuilder::new())
            }
            ColumnType::Mixed(fields) => {
                let member = |field: &MixedField| (*field, Self::new(&ColumnType::of(*field)));
                Self::Mixed(fields.iter().map(member).collect(), Vec::new())
            }
        }
    }

    #[inline]
    fn push(&mut self, value: Value<'_>) -> bool {
        match (&mut *self, value) {
            (Self::Integer(builder), Value::Integer(integer)) => builder.append_value(integer),
            (Self::Real(builder), Value::Real(real)) => builder.append_value(real),
            #[expect(
                clippy::cast_precision_loss,
                reason = "the type is chosen so that it is exact"
            )]
            (Self::Real(builder), Value::Integer(integer)) => builder.append_value(integer as f64),
            (Self::Text(builder), Value::Text(text)) => builder.append_value(text),
            (Self::Blob(builder), Value::Blob(blob)) => builder.append_value(blob),
            (Self::Mixed(members, set), value) => return push_mixed(members, set, value),
            (_, Value::Null) => self.push_null(),
            (_, Value::Text(text)) => return self.push_time(text),
            _ => return false,
        }
        true
    }

    fn push_null(&mut self) {
        match self {
            Self::Integer(builder) => builder.append_null(),
            Self::Real(builder) => builder.append_null(),
            Self::Text(builder) => builder.append_null(),
            Self::Blob(builder) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::Timestamp(builder) => builder.append_null(),
            Self::TimestampNs(builder) => builder.append_null(),
            Self::Mixed(members, set) => {
                members
                    .iter_mut()
                    .for_each(|(_, member)| member.push_null());
                set.push(false);
            }
        }
    }

    fn push_time(&mut self, text: &str) -> bool {
        let parsed = Shape::of(text).and_then(|shape| Some((shape, shape.parse(text)?)));
        let Some((shape, number)) = parsed else {
            return false;
        };
        match (self, shape.unit()) {
            (Self::Date(builder), None) => match i32::try_from(number) {
                Ok(days) => builder.append_value(days),
                Err(_) => return false,
            },
            (Self::Timestamp(builder), Some(Unit::Millis)) => builder.append_value(number * 1000),
            (Self::Timestamp(builder), Some(Unit::Micros)) => builder.append_value(number),
            (Self::TimestampNs(builder), Some(Unit::Nanos)) => builder.append_value(number),
            _ => return false,
        }
        true
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Integer(builder) => Arc::new(builder.finish()),
            Self::Real(builder) => Arc::new(builder.finish()),
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Blob(builder) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::Timestamp(builder) => Arc::new(builder.finish()),
            Self::TimestampNs(builder) => Arc::new(builder.finish()),
            Self::Mixed(members, set) => {
                let fields: Vec<MixedField> = members.iter().map(|(field, _)| *field).collect();
                let arrays = members
                    .iter_mut()
                    .map(|(_, member)| member.finish())
                    .collect();
                let nulls = NullBuffer::from(std::mem::take(set));
                Arc::new(StructArray::new(
                    Storage::fields(&fields),
                    arrays,
                    Some(nulls),
                ))
            }
        }
    }
}

/// Appends a value to the member for its class, and NULL to all others.
fn push_mixed(
    members: &mut [(MixedField, Builder)],
    set: &mut Vec<bool>,
    value: Value<'_>,
) -> bool {
    let wanted = MixedField::of(value);
    set.push(wanted.is_some());
    let mut found = wanted.is_none();
    for (field, member) in members {
        if wanted == Some(*field) {
            // The member for text that is not well-formed has its bytes.
            found = member.push(match value {
                Value::RawText(bytes, _) => Value::Blob(bytes),
                other => other,
            });
        } else {
            member.push_null();
        }
    }
    found
}
