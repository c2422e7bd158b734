//! What is known of a column's values in a file, a row group or a page.

use std::cmp::Ordering;

use rusqlite::types::Value as Owned;

use crate::value::Value;

/// Text and blobs longer than this are cut before they become a bound in the catalog.
const MAX_BOUND_BYTES: usize = 64;

bitflags::bitflags! {
    /// What kinds of values a column has in a file. The bits are stored in the catalog.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Kinds: u8 {
        const NULL = 1;
        const INTEGER = 2;
        const REAL = 4;
        const TEXT = 8;
        const BLOB = 16;
        /// Text that is not well-formed in the database's encoding.
        const RAW_TEXT = 32;
        /// Text that SQLite may turn into a number when it is compared with one.
        const NUMERIC_TEXT = 64;

        const NUMBER = Self::INTEGER.bits() | Self::REAL.bits();
        const ANY_TEXT = Self::TEXT.bits() | Self::RAW_TEXT.bits();
    }
}

impl Kinds {
    /// The kinds of one value.
    pub fn of(value: Value<'_>) -> Self {
        match value {
            Value::Null => Self::NULL,
            Value::Integer(_) => Self::INTEGER,
            Value::Real(_) => Self::REAL,
            Value::Text(text) if looks_numeric(text.as_bytes()) => Self::TEXT | Self::NUMERIC_TEXT,
            Value::Text(_) => Self::TEXT,
            Value::RawText(..) => Self::RAW_TEXT | Self::NUMERIC_TEXT,
            Value::Blob(_) => Self::BLOB,
        }
    }
}

/// Whether SQLite could read all of `text` as a number: more texts than it does, never fewer.
pub fn looks_numeric(text: &[u8]) -> bool {
    let part = |byte: &u8| byte.is_ascii_digit() || b"+-.eE \t\n\x0b\x0c\r\0".contains(byte);
    // Dates are made of the same characters; a second minus sign gives them away.
    let inner_minus = |pair: &[u8]| pair[0].is_ascii_digit() && pair[1] == b'-';
    text.iter().any(u8::is_ascii_digit)
        && text.iter().all(part)
        && !text.windows(2).any(inner_minus)
}

/// The values of a column in a file, a row group or a page.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Range {
    pub kinds: Kinds,
    /// No value but NULL is less, in SQLite's BINARY order; `None` if there is no such bound.
    pub min: Option<Owned>,
    /// No value is greater; `None` if there is no such bound.
    pub max: Option<Owned>,
    /// In file order no value is less than the one before, in SQLite's BINARY order.
    pub ascending: bool,
}

impl Range {
    /// What is known where nothing is.
    pub fn unknown() -> Self {
        Self {
            kinds: Kinds::all(),
            ..Self::default()
        }
    }

    /// Its bounds, if they are integers.
    pub fn integers(&self) -> Option<(i64, i64)> {
        match (&self.min, &self.max) {
            (Some(Owned::Integer(min)), Some(Owned::Integer(max))) => Some((*min, *max)),
            _ => None,
        }
    }

    /// The range of `values` in file order, with bounds short enough for the catalog.
    pub fn of<'a>(values: impl Iterator<Item = Value<'a>>) -> Self {
        let mut kinds = Kinds::empty();
        let mut bounds: Option<(Value<'a>, Value<'a>)> = None;
        let mut before = Value::Null;
        let mut ascending = true;
        for value in values {
            kinds |= Kinds::of(value);
            ascending = ascending && value.order(before) != Ordering::Less;
            before = value;
            if matches!(value, Value::Null) {
                continue;
            }
            let (min, max) = bounds.unwrap_or((value, value));
            bounds = Some((
                if value.order(min) == Ordering::Less {
                    value
                } else {
                    min
                },
                if value.order(max) == Ordering::Greater {
                    value
                } else {
                    max
                },
            ));
        }
        if kinds.contains(Kinds::RAW_TEXT) {
            bounds = None;
        }
        Self {
            kinds,
            min: bounds.and_then(|(min, _)| lower_bound(min)),
            max: bounds.and_then(|(_, max)| upper_bound(max)),
            ascending,
        }
    }

    /// Whether `value` is one that the range speaks of.
    pub fn contains(&self, value: Value<'_>) -> bool {
        let order = |bound: &Option<Owned>| bound.as_ref().map(|b| value.order(Value::from(b)));
        self.kinds.contains(Kinds::of(value))
            && (matches!(value, Value::Null)
                || order(&self.min) != Some(Ordering::Less)
                    && order(&self.max) != Some(Ordering::Greater))
    }
}

fn lower_bound(min: Value<'_>) -> Option<Owned> {
    match min {
        Value::Text(text) => Some(Owned::Text(
            text[..text.floor_char_boundary(MAX_BOUND_BYTES)].to_owned(),
        )),
        Value::Blob(blob) => Some(Owned::Blob(
            blob[..blob.len().min(MAX_BOUND_BYTES)].to_owned(),
        )),
        other => other.to_owned_sql(),
    }
}

fn upper_bound(max: Value<'_>) -> Option<Owned> {
    (max.bytes().len() <= MAX_BOUND_BYTES).then(|| max.to_owned_sql())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascending_means_the_order_of_sqlite() {
        let ascending = |values: &[Value<'static>]| Range::of(values.iter().copied()).ascending;
        assert!(ascending(&[]));
        assert!(ascending(&[
            Value::Null,
            Value::Integer(1),
            Value::Real(1.0),
            Value::Text("")
        ]));
        assert!(!ascending(&[Value::Integer(2), Value::Integer(1)]));
        assert!(!ascending(&[Value::Integer(2), Value::Null]));
        assert!(!ascending(&[Value::Text("a"), Value::Integer(1)]));
    }

    #[test]
    fn long_bounds_are_cut_on_the_safe_side() {
        let long = "é".repeat(100);
        let range = Range::of([Value::Text(&long)].into_iter());
        assert_eq!(range.max, None);
        assert!(matches!(&range.min, Some(Owned::Text(min)) if min.len() == 64));
        assert!(range.contains(Value::Text(&long)));
    }
}
