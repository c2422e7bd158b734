//! Rows in memory on their way out: typed columns of SQLite values, without a copy per value.

use crate::value::{Encoding, Value};

/// One value: its class, and its bits or where its bytes lie.
#[derive(Debug, Clone, Copy)]
enum Slot {
    Null,
    Integer(i64),
    Real(f64),
    /// In `text`.
    Text {
        start: u32,
        length: u32,
    },
    /// In `bytes`, as is a blob.
    RawText {
        start: u32,
        length: u32,
    },
    Blob {
        start: u32,
        length: u32,
    },
}

/// The values of one column of a [`RowGroup`].
#[derive(Debug, Default)]
pub struct ColumnBuffer {
    slots: Vec<Slot>,
    text: String,
    bytes: Vec<u8>,
}

impl ColumnBuffer {
    fn push(&mut self, value: Value<'_>) {
        // A row group is closed long before 4 GiB, and SQLite's longest value is 2 GiB.
        let short = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let length = short(value.bytes().len());
        self.slots.push(match value {
            Value::Null => Slot::Null,
            Value::Integer(integer) => Slot::Integer(integer),
            Value::Real(real) => Slot::Real(real),
            Value::Text(text) => {
                let start = short(self.text.len());
                self.text.push_str(text);
                Slot::Text { start, length }
            }
            Value::RawText(bytes, _) | Value::Blob(bytes) => {
                let start = short(self.bytes.len());
                self.bytes.extend_from_slice(bytes);
                match value {
                    Value::Blob(_) => Slot::Blob { start, length },
                    _ => Slot::RawText { start, length },
                }
            }
        });
    }

    /// The values in the order of the rows. `encoding` is the database's.
    pub fn values(&self, encoding: Encoding) -> impl Iterator<Item = Value<'_>> + Clone {
        let range = |start: u32, length: u32| start as usize..start as usize + length as usize;
        let bytes = move |start, length| self.bytes.get(range(start, length)).unwrap_or_default();
        self.slots.iter().map(move |slot| match *slot {
            Slot::Null => Value::Null,
            Slot::Integer(integer) => Value::Integer(integer),
            Slot::Real(real) => Value::Real(real),
            Slot::Text { start, length } => {
                Value::Text(self.text.get(range(start, length)).unwrap_or_default())
            }
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

/// The rows of one cold file.
pub struct FileRows {
    /// The partition's number.
    pub partition: i64,
    pub groups: Vec<RowGroup>,
    /// The first and the last instant.
    pub time_min: i64,
    pub time_max: i64,
}

impl FileRows {
    pub fn rows(&self) -> usize {
        self.groups.iter().map(|group| group.rows).sum()
    }

    pub fn bytes(&self) -> usize {
        self.groups.iter().map(|group| group.bytes).sum()
    }
}
