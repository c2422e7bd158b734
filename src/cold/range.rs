//! What is known of a column's values in a file or a row group, and which comparisons that rules out.
//!
//! SQLite's comparison rules decide, never Parquet's. A scan may only skip what SQLite itself would
//! reject, and SQLite checks every row again; so wherever the rules depend on something that a
//! virtual table is not told, [`Range::may_match`] says yes.

use std::cmp::Ordering;

use rusqlite::types::Value as Owned;

use crate::sqlite::vtab::Comparison;
use crate::table::Affinity;
use crate::value::{Encoding, Value};

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
    fn of(value: Value<'_>) -> Self {
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
fn looks_numeric(text: &[u8]) -> bool {
    let part = |byte: &u8| byte.is_ascii_digit() || b"+-.eE \t\n\x0b\x0c\r\0".contains(byte);
    // Dates are made of the same characters; a second minus sign gives them away.
    let inner_minus = |pair: &[u8]| pair[0].is_ascii_digit() && pair[1] == b'-';
    text.iter().any(u8::is_ascii_digit)
        && text.iter().all(part)
        && !text.windows(2).any(inner_minus)
}

/// The values of a column in a file or a row group.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Range {
    pub kinds: Kinds,
    /// No value but NULL is less, in SQLite's BINARY order; `None` if there is no such bound.
    pub min: Option<Owned>,
    /// No value is greater; `None` if there is no such bound.
    pub max: Option<Owned>,
}

impl Range {
    /// The range of `values`, with bounds short enough for the catalog.
    pub fn of<'a>(values: impl Iterator<Item = Value<'a>>) -> Self {
        let mut kinds = Kinds::empty();
        let mut bounds: Option<(Value<'a>, Value<'a>)> = None;
        for value in values {
            kinds |= Kinds::of(value);
            if matches!(value, Value::Null) {
                continue;
            }
            bounds = Some(match bounds {
                None => (value, value),
                Some((min, max)) => (
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
                ),
            });
        }
        if kinds.contains(Kinds::RAW_TEXT) {
            bounds = None;
        }
        Self {
            kinds,
            min: bounds.and_then(|(min, _)| lower_bound(min)),
            max: bounds.and_then(|(_, max)| upper_bound(max)),
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

    /// Whether a value of this range may pass `test`.
    pub fn may_match(&self, test: &Test) -> bool {
        let (comparison, value) = match test {
            Test::Never => return false,
            Test::IsNull => return self.kinds.contains(Kinds::NULL),
            Test::IsNotNull => return !(self.kinds - Kinds::NULL).is_empty(),
            Test::Compare {
                comparison,
                value,
                unless,
            } => {
                if (self.kinds - Kinds::NULL).is_empty() {
                    return false;
                }
                if self.kinds.intersects(*unless) {
                    return true;
                }
                (*comparison, Value::from(value))
            }
        };
        let below = |bound: &Option<Owned>| bound.as_ref().map(|b| Value::from(b).order(value));
        let min_is = |orders: &[Ordering]| below(&self.min).is_some_and(|o| orders.contains(&o));
        let max_is = |orders: &[Ordering]| below(&self.max).is_some_and(|o| orders.contains(&o));
        use Ordering::{Equal, Greater, Less};
        !match comparison {
            Comparison::Lt => min_is(&[Equal, Greater]),
            Comparison::Le => min_is(&[Greater]),
            Comparison::Gt => max_is(&[Equal, Less]),
            Comparison::Ge => max_is(&[Less]),
            Comparison::Eq | Comparison::Is => min_is(&[Greater]) || max_is(&[Less]),
            Comparison::IsNull | Comparison::IsNotNull => false,
        }
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

/// A term of the WHERE clause, ready to be held against a [`Range`].
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// No row can pass, as with `= NULL`.
    Never,
    IsNull,
    IsNotNull,
    Compare {
        comparison: Comparison,
        value: Owned,
        /// Ranges with values of these kinds cannot be ruled out: SQLite may convert either side
        /// before it compares.
        unless: Kinds,
    },
}

impl Test {
    /// The test for `column comparison value`, or `None` if nothing can be ruled out by it.
    pub fn new(
        comparison: Comparison,
        value: Value<'_>,
        affinity: Affinity,
        binary_collation: bool,
        encoding: Encoding,
    ) -> Option<Self> {
        match (comparison, value) {
            (Comparison::IsNull, _) | (Comparison::Is, Value::Null) => return Some(Self::IsNull),
            (Comparison::IsNotNull, _) => return Some(Self::IsNotNull),
            (_, Value::Null) => return Some(Self::Never),
            _ => {}
        }
        let mut unless = Kinds::empty();
        let value = match value {
            Value::Text(text)
                if affinity == Affinity::Numeric && looks_numeric(text.as_bytes()) =>
            {
                // The column's affinity turns it into a number. Which real a decimal fraction
                // becomes is SQLite's business; an integer is certain.
                Owned::Integer(text.trim_matches([' ', '\t', '\n', '\r']).parse().ok()?)
            }
            Value::Text(_) if !binary_collation || encoding != Encoding::Utf8 => return None,
            Value::RawText(..) => return None,
            Value::Text(_) => {
                if affinity == Affinity::Blob {
                    // Against a TEXT operand, numbers may be compared as text.
                    unless |= Kinds::NUMBER;
                }
                if matches!(comparison, Comparison::Lt | Comparison::Le) {
                    // Against a numeric operand that holds text, numeric text becomes a number,
                    // which is less than any text.
                    unless |= Kinds::NUMERIC_TEXT;
                }
                value.to_owned_sql()?
            }
            Value::Integer(_) | Value::Real(_) if affinity != Affinity::Numeric => {
                // Either the number is compared as text, or the column's text as a number,
                // depending on the other operand's affinity, which SQLite does not tell.
                unless |= Kinds::ANY_TEXT;
                value.to_owned_sql()?
            }
            other => other.to_owned_sql()?,
        };
        if encoding != Encoding::Utf8 {
            // The order of text differs, and with it where text stands between the bounds.
            unless |= Kinds::ANY_TEXT;
        }
        Some(Self::Compare {
            comparison,
            value,
            unless,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(comparison: Comparison, value: Value<'_>, affinity: Affinity) -> Test {
        Test::new(comparison, value, affinity, true, Encoding::Utf8).unwrap()
    }

    #[test]
    fn bounds_rule_out_what_lies_beyond() {
        let range = Range::of([Value::Integer(10), Value::Null, Value::Integer(20)].into_iter());
        let may = |comparison, n| {
            range.may_match(&test(comparison, Value::Integer(n), Affinity::Numeric))
        };
        assert!(may(Comparison::Eq, 10) && may(Comparison::Eq, 20));
        assert!(!may(Comparison::Eq, 9) && !may(Comparison::Eq, 21));
        assert!(!may(Comparison::Lt, 10) && may(Comparison::Le, 10));
        assert!(!may(Comparison::Gt, 20) && may(Comparison::Ge, 20));
        assert!(range.may_match(&Test::IsNull));
        assert!(!range.may_match(&Test::Never));
    }

    #[test]
    fn affinity_is_applied_to_the_constant() {
        let range = Range::of([Value::Integer(500)].into_iter());
        let eq = |text| test(Comparison::Eq, Value::Text(text), Affinity::Numeric);
        assert!(range.may_match(&eq("500")) && range.may_match(&eq(" 500 ")));
        assert!(!range.may_match(&eq("501")) && !range.may_match(&eq("abc")));
        let fraction = Value::Text("500.0");
        assert_eq!(
            Test::new(
                Comparison::Eq,
                fraction,
                Affinity::Numeric,
                true,
                Encoding::Utf8
            ),
            None
        );
    }

    #[test]
    fn text_is_not_ruled_out_where_sqlite_may_convert_it() {
        let range = Range::of([Value::Text("010")].into_iter());
        assert!(range.may_match(&test(Comparison::Eq, Value::Integer(10), Affinity::Text)));
        let dates = Range::of([Value::Text("2024-05-06"), Value::Text("2024-05-07")].into_iter());
        let before = test(Comparison::Lt, Value::Text("2024-01-01"), Affinity::Text);
        assert!(!dates.may_match(&before));
        assert!(range.may_match(&test(Comparison::Lt, Value::Text("0"), Affinity::Text)));
    }

    #[test]
    fn collations_and_encodings_other_than_the_plain_ones_rule_nothing_out() {
        let text = Value::Text("a");
        let test =
            |binary, encoding| Test::new(Comparison::Eq, text, Affinity::Text, binary, encoding);
        assert_eq!(test(false, Encoding::Utf8), None);
        assert_eq!(test(true, Encoding::Utf16le), None);
    }

    #[test]
    fn long_bounds_are_cut_on_the_safe_side() {
        let long = "é".repeat(100);
        let range = Range::of([Value::Text(&long)].into_iter());
        assert_eq!(range.max, None);
        assert!(matches!(&range.min, Some(Owned::Text(min)) if min.len() == 64));
        assert!(range.may_match(&test(Comparison::Eq, Value::Text(&long), Affinity::Text)));
    }
}
