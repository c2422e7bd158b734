//! One SQLite value, borrowed: the common currency of both flows.
//!
//! Going out, hot rows are read as [`Value`]s and encoded; coming in, cold pages are decoded back
//! to [`Value`]s. That "what comes back is what went in" can be checked because both sides speak
//! this type and [`Value::same`] compares storage class and bytes, never SQL equality.

use std::cmp::Ordering;

use rusqlite::ToSql;
use rusqlite::types::{FromSql, FromSqlResult, ToSqlOutput, ValueRef};

/// How a database stores text (`PRAGMA encoding`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Utf8,
    Utf16le,
    Utf16be,
}

impl Encoding {
    /// The encoding with the name that `PRAGMA encoding` prints.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "UTF-8" => Some(Self::Utf8),
            "UTF-16le" => Some(Self::Utf16le),
            "UTF-16be" => Some(Self::Utf16be),
            _ => None,
        }
    }

    /// The name that `PRAGMA encoding` prints.
    pub fn name(self) -> &'static str {
        match self {
            Self::Utf8 => "UTF-8",
            Self::Utf16le => "UTF-16le",
            Self::Utf16be => "UTF-16be",
        }
    }

    /// The text that `bytes` hold in this encoding, or `None` if they are not well-formed, or would
    /// not come back the same from UTF-8.
    pub fn decode(self, bytes: &[u8]) -> Option<String> {
        let unit: fn([u8; 2]) -> u16 = match self {
            Self::Utf8 => return std::str::from_utf8(bytes).ok().map(str::to_owned),
            Self::Utf16le => u16::from_le_bytes,
            Self::Utf16be => u16::from_be_bytes,
        };
        let (pairs, rest) = bytes.as_chunks::<2>();
        if !rest.is_empty() {
            return None;
        }
        let chars = char::decode_utf16(pairs.iter().map(|pair| unit(*pair)));
        // SQLite makes U+FFFD of these two when it converts them from UTF-8.
        let kept = |c: &char| !matches!(c, '\u{FFFE}' | '\u{FFFF}');
        chars.map(|c| c.ok().filter(kept)).collect()
    }
}

/// A value of one of SQLite's five storage classes.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    Null,
    Integer(i64),
    Real(f64),
    /// Well-formed text, as UTF-8 whatever the database's encoding is.
    Text(&'a str),
    /// Text that is not well-formed in its encoding, byte for byte.
    RawText(&'a [u8], Encoding),
    Blob(&'a [u8]),
}

/// The whole number that a REAL is, if it is one of 64 bits. Drivers for JavaScript have only one kind of
/// number, and bind each as a REAL.
pub fn whole(real: f64) -> Option<i64> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0; // 2^63
    let fits = real.fract() == 0.0 && (-LIMIT..LIMIT).contains(&real);
    #[expect(clippy::cast_possible_truncation, reason = "it is whole, and fits")]
    fits.then_some(real as i64)
}

impl<'a> Value<'a> {
    /// The whole number that a caller gives, be it as a REAL.
    pub fn whole(self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(number),
            Self::Real(real) => whole(real),
            _ => None,
        }
    }

    /// The value for text that a UTF-8 database stores as `bytes`.
    pub fn from_utf8(bytes: &'a [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text),
            Err(_) => Self::RawText(bytes, Encoding::Utf8),
        }
    }

    /// Whether both have the same storage class and the same bytes. Unlike SQL's `=` this tells
    /// `1` from `1.0` and `0.0` from `-0.0`, and NULL is the same as NULL.
    pub fn same(self, other: Value<'_>) -> bool {
        match (self, other) {
            (Self::Null, Value::Null) => true,
            (Self::Integer(a), Value::Integer(b)) => a == b,
            (Self::Real(a), Value::Real(b)) => a.to_bits() == b.to_bits(),
            (Self::Text(a), Value::Text(b)) => a == b,
            (Self::RawText(a, x), Value::RawText(b, y)) => a == b && x == y,
            (Self::Blob(a), Value::Blob(b)) => a == b,
            _ => false,
        }
    }

    /// SQLite's order under the BINARY collation: NULL < numbers < text < blob. For text it is the
    /// order of a UTF-8 database.
    pub fn order(self, other: Value<'_>) -> Ordering {
        match (self, other) {
            (Self::Integer(a), Value::Integer(b)) => a.cmp(&b),
            (Self::Integer(a), Value::Real(b)) => order_integer_real(a, b),
            (Self::Real(a), Value::Integer(b)) => order_integer_real(b, a).reverse(),
            (Self::Real(a), Value::Real(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
            (a, b) => a
                .class_rank()
                .cmp(&b.class_rank())
                .then_with(|| a.bytes().cmp(b.bytes())),
        }
    }

    fn class_rank(self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Integer(_) | Self::Real(_) => 1,
            Self::Text(_) | Self::RawText(..) => 2,
            Self::Blob(_) => 3,
        }
    }

    /// The bytes of a text or blob; empty for every other class.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::RawText(bytes, _) | Self::Blob(bytes) => bytes,
            Self::Null | Self::Integer(_) | Self::Real(_) => &[],
        }
    }

    /// About how many bytes SQLite takes to store it in a row
    /// (<https://www.sqlite.org/fileformat2.html#record_format>); a REAL that is a whole number can
    /// take fewer.
    pub fn stored_bytes(self) -> u64 {
        let content = match self {
            Self::Null | Self::Integer(0 | 1) => 0,
            // The least of 1, 2, 3, 4, 6 and 8 bytes that hold it with its sign.
            Self::Integer(integer) => match 64 - integer.unsigned_abs().leading_zeros() {
                ..=7 => 1,
                8..=15 => 2,
                16..=23 => 3,
                24..=31 => 4,
                32..=47 => 6,
                48.. => 8,
            },
            Self::Real(_) => 8,
            _ => self.bytes().len() as u64,
        };
        let header = match content {
            ..=57 => 1,
            58..=8185 => 2,
            8186.. => 3,
        };
        header + content
    }

    /// An owned copy in rusqlite's terms, to be bound as a parameter. Malformed text has no such
    /// form and becomes `None`.
    pub fn to_owned_sql(self) -> Option<rusqlite::types::Value> {
        use rusqlite::types::Value as Sql;
        Some(match self {
            Self::Null => Sql::Null,
            Self::Integer(integer) => Sql::Integer(integer),
            Self::Real(real) => Sql::Real(real),
            Self::Text(text) => Sql::Text(text.to_owned()),
            Self::Blob(blob) => Sql::Blob(blob.to_owned()),
            Self::RawText(..) => return None,
        })
    }
}

impl ToSql for Value<'_> {
    /// Malformed UTF-16 cannot be bound.
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match *self {
            Self::Null => ValueRef::Null,
            Self::Integer(integer) => ValueRef::Integer(integer),
            Self::Real(real) => ValueRef::Real(real),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::RawText(bytes, Encoding::Utf8) => ValueRef::Text(bytes),
            Self::RawText(..) => {
                let reason = "malformed UTF-16 text cannot be a parameter";
                return Err(rusqlite::Error::ToSqlConversionFailure(reason.into()));
            }
            Self::Blob(blob) => ValueRef::Blob(blob),
        }))
    }
}

/// A key that outlives its row: text may be malformed.
#[derive(Debug, Clone, PartialEq)]
pub enum OwnedKey {
    Text(Vec<u8>),
    Other(rusqlite::types::Value),
}

impl From<Value<'_>> for OwnedKey {
    /// Malformed text is kept as UTF-8 databases have it.
    fn from(value: Value<'_>) -> Self {
        use rusqlite::types::Value as Sql;
        match value {
            Value::Null => Self::Other(Sql::Null),
            Value::Integer(integer) => Self::Other(Sql::Integer(integer)),
            Value::Real(real) => Self::Other(Sql::Real(real)),
            Value::Text(_) | Value::RawText(..) => Self::Text(value.bytes().to_owned()),
            Value::Blob(blob) => Self::Other(Sql::Blob(blob.to_owned())),
        }
    }
}

impl<'a> From<&'a OwnedKey> for Value<'a> {
    fn from(key: &'a OwnedKey) -> Self {
        match key {
            OwnedKey::Text(text) => Self::from_utf8(text),
            OwnedKey::Other(other) => Self::from(other),
        }
    }
}

impl FromSql for OwnedKey {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Ok(match value {
            ValueRef::Text(text) => Self::Text(text.to_owned()),
            other => Self::Other(rusqlite::types::Value::try_from(other)?),
        })
    }
}

impl ToSql for OwnedKey {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Text(text) => Ok(ToSqlOutput::Borrowed(ValueRef::Text(text))),
            Self::Other(other) => other.to_sql(),
        }
    }
}

impl<'a> From<&'a rusqlite::types::Value> for Value<'a> {
    fn from(value: &'a rusqlite::types::Value) -> Self {
        use rusqlite::types::Value as Sql;
        match value {
            Sql::Null => Self::Null,
            Sql::Integer(integer) => Self::Integer(*integer),
            Sql::Real(real) => Self::Real(*real),
            Sql::Text(text) => Self::Text(text),
            Sql::Blob(blob) => Self::Blob(blob),
        }
    }
}

/// Exact order of an integer and a real, as SQLite's `sqlite3IntFloatCompare`. SQLite has no NaN.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "the range is checked first; the rounded value is only compared, then refined"
)]
fn order_integer_real(integer: i64, real: f64) -> Ordering {
    if real < -9_223_372_036_854_775_808.0 {
        return Ordering::Greater;
    }
    if real >= 9_223_372_036_854_775_808.0 {
        return Ordering::Less;
    }
    let truncated = real as i64;
    integer.cmp(&truncated).then_with(|| {
        (truncated as f64)
            .partial_cmp(&real)
            .unwrap_or(Ordering::Equal)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_follows_storage_classes() {
        let ascending = [
            Value::Null,
            Value::Real(f64::NEG_INFINITY),
            Value::Integer(i64::MIN),
            Value::Integer(-1),
            Value::Real(-0.5),
            Value::Integer(0),
            Value::Real(0.5),
            Value::Integer(9_007_199_254_740_993),
            Value::Integer(i64::MAX),
            Value::Real(9_223_372_036_854_775_808.0),
            Value::Real(f64::INFINITY),
            Value::Text(""),
            Value::Text("a"),
            Value::RawText(b"\xff", Encoding::Utf8),
            Value::Blob(b""),
            Value::Blob(b"\0"),
        ];
        for pair in ascending.windows(2) {
            assert_eq!(pair[0].order(pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(pair[1].order(pair[0]), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(
            Value::Integer(9_007_199_254_740_993).order(Value::Real(9_007_199_254_740_992.0)),
            Ordering::Greater
        );
    }

    #[test]
    fn same_is_stricter_than_equal() {
        assert!(!Value::Integer(1).same(Value::Real(1.0)));
        assert!(!Value::Real(0.0).same(Value::Real(-0.0)));
        assert!(!Value::Text("a").same(Value::Blob(b"a")));
        assert!(Value::Null.same(Value::Null));
    }
}
