//! Rows in memory on their way out: typed columns of SQLite values, without a copy per value.

use crate::value::{Encoding, Value};

/// One value's place: its class, and its bits or where its bytes lie.
#[derive(Debug, Clone, Copy)]
enum Slot {
    Null,
    Integer(i64),
    Real(f64),
    Text { start: u32, length: u32 },
    RawText { start: u32, length: u32 },
    Blob { start: u32, length: u32 },
}

/// The values of one column of a [`RowGroup`].
#[derive(Debug, Default)]
pub struct ColumnBuffer {
    slots: Vec<Slot>,
    bytes: Vec<u8>,
}

impl ColumnBuffer {
    fn push(&mut self, value: Value<'_>) {
        // A row group is closed long before 4 GiB, and SQLite's longest value is 2 GiB.
        let start = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        let length = u32::try_from(value.bytes().len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(value.bytes());
        self.slots.push(match value {
            Value::Null => Slot::Null,
            Value::Integer(integer) => Slot::Integer(integer),
            Value::Real(real) => Slot::Real(real),
            Value::Text(_) => Slot::Text { start, length },
            Value::RawText(..) => Slot::RawText { start, length },
            Value::Blob(_) => Slot::Blob { start, length },
        });
    }

    /// The values in the order of the rows. `encoding` is the database's.
    pub fn values(&self, encoding: Encoding) -> impl Iterator<Item = Value<'_>> + Clone {
        let bytes = |start: u32, length: u32| {
            let start = start as usize;
            self.bytes
                .get(start..start + length as usize)
                .unwrap_or_default()
        };
        self.slots.iter().map(move |slot| match *slot {
            Slot::Null => Value::Null,
            Slot::Integer(integer) => Value::Integer(integer),
            Slot::Real(real) => Value::Real(real),
            // Checked when it was pushed; checking again is cheap and keeps this safe.
            Slot::Text { start, length } => Value::from_utf8(bytes(start, length)),
            Slot::RawText { start, length } => Value::RawText(bytes(start, length), encoding),
            Slot::Blob { start, length } => Value::Blob(bytes(start, length)),
        })
    }
}

/// Consecutive rows of a file, column by column.
#[derive(Debug, Default)]
pub struct RowGroup {
    pub columns: Vec<ColumnBuffer>,
    pub rows: usize,
    /// Bytes of all values, roughly as SQLite stores them.
    pub bytes: usize,
}

impl RowGroup {
    pub fn new(columns: usize) -> Self {
        Self {
            columns: (0..columns).map(|_| ColumnBuffer::default()).collect(),
            rows: 0,
            bytes: 0,
        }
    }

    /// Appends a value to a column. A row is complete when each column got one, after which the
    /// caller counts it.
    pub fn push(&mut self, column: usize, value: Value<'_>) {
        if let Some(buffer) = self.columns.get_mut(column) {
            buffer.push(value);
            self.bytes += 9 + value.bytes().len();
        }
    }
}
