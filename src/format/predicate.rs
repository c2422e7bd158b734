//! A pushed-down term of the WHERE clause, and what it rules out: values, and with them pages, row
//! groups and files.
//!
//! SQLite's comparison rules decide, never Parquet's. A scan may only skip what SQLite itself would
//! reject, and SQLite checks every row again; so wherever the rules depend on something that a
//! virtual table is not told, a predicate says "may match".

use std::cmp::Ordering;

use rusqlite::types::Value as Owned;

use super::range::{Kinds, Range, looks_numeric};
use crate::schema::Affinity;
use crate::sqlite::query::Comparison;
use crate::value::{Encoding, Value};

/// SQLite fails where it meets a longer pattern, and shall do so.
const MAX_PATTERN: usize = 50_000;

/// A term, ready to be held against values and ranges.
#[derive(Debug, Clone, PartialEq)]
pub enum Predicate {
    /// No row can pass, as with `= NULL`.
    Never,
    IsNull,
    IsNotNull,
    Compare {
        comparison: Ordered,
        value: Owned,
        /// Values of these kinds cannot be ruled out: SQLite may convert either side before it
        /// compares.
        unless: Kinds,
    },
    /// `IN`: one of `values`, which are in ascending order.
    In {
        values: Vec<Owned>,
        unless: Kinds,
    },
    /// `LIKE` or `GLOB`: text that begins with `low`, or anything between it and `high` byte by byte.
    /// The two differ in the case of letters.
    Prefix {
        low: Vec<u8>,
        high: Vec<u8>,
        unless: Kinds,
    },
}

/// The comparisons that ask for an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ordered {
    Eq,
    Lt,
    Le,
    Gt,
    Ge,
}

impl Ordered {
    /// Whether a value that is `order` to the constant passes.
    pub fn accepts(self, order: Ordering) -> bool {
        match self {
            Self::Eq => order.is_eq(),
            Self::Lt => order.is_lt(),
            Self::Le => order.is_le(),
            Self::Gt => order.is_gt(),
            Self::Ge => order.is_ge(),
        }
    }
}

/// What a predicate has to know of its column and database.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub affinity: Affinity,
    /// Whether text is compared by the BINARY collation.
    pub binary_collation: bool,
    pub encoding: Encoding,
}

impl Predicate {
    /// The predicate for `column comparison value`, or `None` if nothing can be ruled out by it.
    pub fn new(comparison: Comparison, value: Value<'_>, rules: Rules) -> Option<Self> {
        let ordered = match (comparison, value) {
            (Comparison::IsNull, _) | (Comparison::Is, Value::Null) => return Some(Self::IsNull),
            (Comparison::IsNotNull, _) => return Some(Self::IsNotNull),
            (_, Value::Null) => return Some(Self::Never),
            (Comparison::Like | Comparison::Glob, pattern) => {
                return Self::prefix(comparison, pattern, rules.encoding);
            }
            (Comparison::Eq | Comparison::Is, _) => Ordered::Eq,
            (Comparison::Lt, _) => Ordered::Lt,
            (Comparison::Le, _) => Ordered::Le,
            (Comparison::Gt, _) => Ordered::Gt,
            (Comparison::Ge, _) => Ordered::Ge,
        };
        let (value, unless) = constant(ordered, value, rules)?;
        Some(Self::Compare {
            comparison: ordered,
            value,
            unless,
        })
    }

    /// The predicate for `column IN (values)`, or `None` if nothing can be ruled out by it.
    pub fn any_of<'a>(values: impl Iterator<Item = Value<'a>>, rules: Rules) -> Option<Self> {
        let mut unless = Kinds::empty();
        let mut known = Vec::new();
        for value in values.filter(|value| !matches!(value, Value::Null)) {
            let (value, kinds) = constant(Ordered::Eq, value, rules)?;
            unless |= kinds;
            known.push(value);
        }
        known.sort_by(|a, b| Value::from(a).order(Value::from(b)));
        Some(match known.is_empty() {
            true => Self::Never,
            false => Self::In {
                values: known,
                unless,
            },
        })
    }

    fn prefix(comparison: Comparison, pattern: Value<'_>, encoding: Encoding) -> Option<Self> {
        let (Value::Text(pattern), Encoding::Utf8) = (pattern, encoding) else {
            return None;
        };
        if pattern.len() > MAX_PATTERN {
            return None;
        }
        let any_case = comparison == Comparison::Like;
        // SQLite takes the pattern, like the text, to end at a NUL character.
        let wildcards: &[char] = if any_case {
            &['%', '_', '\0']
        } else {
            &['*', '?', '[', '\0']
        };
        let prefix = pattern.split(wildcards).next()?;
        Self::starting_with(prefix.as_bytes(), any_case)
    }

    /// The predicate for text that begins with `start`, in any case of ASCII letters.
    pub fn begins(start: Value<'_>, encoding: Encoding) -> Option<Self> {
        match (start, encoding) {
            (Value::Text(start), Encoding::Utf8) => Self::starting_with(start.as_bytes(), true),
            _ => None,
        }
    }

    fn starting_with(prefix: &[u8], any_case: bool) -> Option<Self> {
        let (low, high) = match any_case {
            true => (prefix.to_ascii_uppercase(), prefix.to_ascii_lowercase()),
            false => (prefix.to_vec(), prefix.to_vec()),
        };
        (!prefix.is_empty()).then_some(Self::Prefix {
            low,
            high,
            // These are turned into text first.
            unless: Kinds::NUMBER | Kinds::BLOB,
        })
    }

    /// Whether the predicate may hold for `value`.
    pub fn may_accept(&self, value: Value<'_>) -> bool {
        let converted = |unless: Kinds| {
            matches!(value, Value::RawText(..))
                || !unless.is_empty() && Kinds::of(value).intersects(unless)
        };
        match (self, value) {
            (Self::IsNull, _) => matches!(value, Value::Null),
            (Self::Never, _) | (_, Value::Null) => false,
            (Self::IsNotNull, _) => true,
            (
                Self::Compare {
                    comparison,
                    value: constant,
                    unless,
                },
                _,
            ) => comparison.accepts(value.order(Value::from(constant))) || converted(*unless),
            (Self::In { values, unless }, _) => {
                let found = values.binary_search_by(|known| Value::from(known).order(value));
                found.is_ok() || converted(*unless)
            }
            (Self::Prefix { low, high, unless }, Value::Text(text)) => {
                text.as_bytes().get(..low.len()).is_some_and(|start| {
                    let between =
                        |(byte, (low, high)): (&u8, (&u8, &u8))| byte == low || byte == high;
                    start.iter().zip(low.iter().zip(high)).all(between)
                }) || converted(*unless)
            }
            (Self::Prefix { unless, .. }, _) => converted(*unless),
        }
    }

    /// Whether the predicate may hold for a value of `range`.
    pub fn may_match(&self, range: &Range) -> bool {
        let set = range.kinds - Kinds::NULL;
        let unless = match self {
            Self::Never => return false,
            Self::IsNull => return range.kinds.contains(Kinds::NULL),
            Self::IsNotNull => return !set.is_empty(),
            Self::Compare { unless, .. }
            | Self::In { unless, .. }
            | Self::Prefix { unless, .. } => *unless,
        };
        if set.is_empty() || set.intersects(unless) {
            return !set.is_empty();
        }
        let min = range.min.as_ref().map(Value::from);
        let max = range.max.as_ref().map(Value::from);
        match self {
            Self::Compare {
                comparison, value, ..
            } => {
                let constant = Value::from(value);
                // If the bound that is likeliest to pass does not, no value does.
                let passes = |bound: Value<'_>| comparison.accepts(bound.order(constant));
                match comparison {
                    Ordered::Lt | Ordered::Le => min.is_none_or(passes),
                    Ordered::Gt | Ordered::Ge => max.is_none_or(passes),
                    Ordered::Eq => {
                        min.is_none_or(|min| min.order(constant).is_le())
                            && max.is_none_or(|max| max.order(constant).is_ge())
                    }
                }
            }
            Self::In { values, .. } => {
                let from = min.map_or(0, |min| {
                    values.partition_point(|value| Value::from(value).order(min).is_lt())
                });
                values.get(from).is_some_and(|value| {
                    max.is_none_or(|max| Value::from(value).order(max).is_le())
                })
            }
            Self::Prefix { low, high, .. } => {
                let order = |bound: Value<'_>, prefix: &[u8]| match bound {
                    Value::Text(text) => {
                        text.bytes().take(prefix.len()).cmp(prefix.iter().copied())
                    }
                    other => other.order(Value::Text("")),
                };
                min.is_none_or(|min| order(min, high).is_le())
                    && max.is_none_or(|max| order(max, low).is_ge())
            }
            Self::Never | Self::IsNull | Self::IsNotNull => true,
        }
    }
}

/// What a constant is compared as, and which kinds of values that says nothing about; `None` if it
/// says nothing at all.
fn constant(comparison: Ordered, value: Value<'_>, rules: Rules) -> Option<(Owned, Kinds)> {
    let Rules {
        affinity,
        binary_collation,
        encoding,
    } = rules;
    let mut unless = Kinds::empty();
    let value = match value {
        Value::Text(text) if affinity == Affinity::Numeric && looks_numeric(text.as_bytes()) => {
            // The column's affinity turns it into a number. Which real a decimal fraction becomes
            // is SQLite's business; an integer is certain.
            Owned::Integer(text.trim_matches([' ', '\t', '\n', '\r']).parse().ok()?)
        }
        Value::Text(_) if !binary_collation || encoding != Encoding::Utf8 => return None,
        Value::RawText(..) => return None,
        Value::Text(text) => {
            if affinity != Affinity::Numeric {
                // Against a TEXT operand, numbers may be compared as text. A TEXT column has them where
                // DEFAULT TRUE was added to rows.
                unless |= Kinds::NUMBER;
            }
            match comparison {
                // Against a numeric operand that holds text, numeric text becomes a number, which
                // is less than any text. And the range may be what SQLite makes of a LIKE or GLOB,
                // which match bytes, too.
                Ordered::Lt | Ordered::Le => unless |= Kinds::NUMERIC_TEXT | Kinds::BLOB,
                // So may this one, and the only numbers whose text begins with a letter are infinite.
                Ordered::Ge if begins_infinity(text) => unless |= Kinds::REAL,
                _ => {}
            }
            value.to_owned_sql()?
        }
        Value::Integer(_) | Value::Real(_) if affinity != Affinity::Numeric => {
            // Either the number is compared as text, or the column's text as a number, depending on
            // the other operand's affinity, which SQLite does not tell.
            unless |= Kinds::ANY_TEXT;
            if affinity == Affinity::Text {
                unless |= Kinds::NUMBER;
            }
            value.to_owned_sql()?
        }
        other => other.to_owned_sql()?,
    };
    if encoding != Encoding::Utf8 {
        // The order of text differs, and with it where text stands between the bounds.
        unless |= Kinds::ANY_TEXT;
    }
    Some((value, unless))
}

/// Whether an infinite number as text begins with `text`.
fn begins_infinity(text: &str) -> bool {
    ["Inf", "-Inf"].iter().any(|shown| shown.starts_with(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(affinity: Affinity) -> Rules {
        Rules {
            affinity,
            binary_collation: true,
            encoding: Encoding::Utf8,
        }
    }

    fn predicate(comparison: Comparison, value: Value<'_>, affinity: Affinity) -> Predicate {
        Predicate::new(comparison, value, rules(affinity)).unwrap()
    }

    /// What is ruled out of a range is ruled out of its values.
    fn may(predicate: &Predicate, values: &[Value<'_>]) -> bool {
        let whole = predicate.may_match(&Range::of(values.iter().copied()));
        assert!(whole || !values.iter().any(|value| predicate.may_accept(*value)));
        whole
    }

    #[test]
    fn bounds_rule_out_what_lies_beyond() {
        let values = [Value::Integer(10), Value::Null, Value::Integer(20)];
        let may = |comparison, n| {
            may(
                &predicate(comparison, Value::Integer(n), Affinity::Numeric),
                &values,
            )
        };
        assert!(may(Comparison::Eq, 10) && may(Comparison::Eq, 20));
        assert!(!may(Comparison::Eq, 9) && !may(Comparison::Eq, 21));
        assert!(!may(Comparison::Lt, 10) && may(Comparison::Le, 10));
        assert!(!may(Comparison::Gt, 20) && may(Comparison::Ge, 20));
        let range = Range::of(values.into_iter());
        assert!(Predicate::IsNull.may_match(&range) && !Predicate::Never.may_match(&range));
    }

    #[test]
    fn values_are_told_apart_one_by_one() {
        let eq = predicate(Comparison::Eq, Value::Integer(15), Affinity::Numeric);
        assert!(eq.may_match(&Range::of(
            [Value::Integer(10), Value::Integer(20)].into_iter()
        )));
        assert!(!eq.may_accept(Value::Integer(10)) && eq.may_accept(Value::Real(15.0)));
        assert!(!eq.may_accept(Value::Null) && !eq.may_accept(Value::Blob(b"15")));
    }

    #[test]
    fn a_list_rules_out_what_is_between_its_values() {
        let list = [Value::Integer(30), Value::Null, Value::Text("5")];
        let list = Predicate::any_of(list.into_iter(), rules(Affinity::Numeric)).unwrap();
        assert!(may(&list, &[Value::Integer(5)]) && may(&list, &[Value::Integer(30)]));
        assert!(!may(&list, &[Value::Integer(6), Value::Integer(29)]));
        assert!(!may(&list, &[Value::Null]));
        let nulls = Predicate::any_of([Value::Null].into_iter(), rules(Affinity::Text));
        assert_eq!(nulls, Some(Predicate::Never));
    }

    #[test]
    fn a_pattern_rules_out_other_beginnings() {
        let like = predicate(Comparison::Like, Value::Text("aB_%"), Affinity::Text);
        let glob = predicate(Comparison::Glob, Value::Text("aB*"), Affinity::Text);
        for (text, by_like, by_glob) in [
            ("aBc", true, true),
            ("Abc", true, false),
            ("ab", true, false),
            ("b", false, false),
        ] {
            assert_eq!(may(&like, &[Value::Text(text)]), by_like, "{text}");
            assert_eq!(may(&glob, &[Value::Text(text)]), by_glob, "{text}");
        }
        assert!(may(&like, &[Value::Text("AA"), Value::Text("b")]));
        assert!(may(&like, &[Value::Integer(1)]) && may(&like, &[Value::Blob(b"ab")]));
        let any = Predicate::new(Comparison::Like, Value::Text("%a"), rules(Affinity::Text));
        assert_eq!(any, None);
    }

    #[test]
    fn the_range_of_a_pattern_rules_out_nothing_that_is_turned_into_text() {
        // `GLOB 'a*'` and `GLOB 'In*'`, as older SQLite asks for them.
        let [below, above] = [(Comparison::Lt, "b"), (Comparison::Ge, "In")]
            .map(|(comparison, text)| predicate(comparison, Value::Text(text), Affinity::Numeric));
        assert!(may(&below, &[Value::Blob(b"ab")]) && !may(&below, &[Value::Text("c")]));
        assert!(may(&above, &[Value::Real(f64::INFINITY)]) && !may(&above, &[Value::Integer(1)]));
    }

    #[test]
    fn affinity_is_applied_to_the_constant() {
        let eq = |text| predicate(Comparison::Eq, Value::Text(text), Affinity::Numeric);
        assert!(may(&eq("500"), &[Value::Integer(500)]));
        assert!(may(&eq(" 500 "), &[Value::Integer(500)]));
        assert!(!may(&eq("501"), &[Value::Integer(500)]));
        assert!(!may(&eq("abc"), &[Value::Integer(500)]));
        let fraction = Value::Text("500.0");
        assert_eq!(
            Predicate::new(Comparison::Eq, fraction, rules(Affinity::Numeric)),
            None
        );
    }

    #[test]
    fn text_is_not_ruled_out_where_sqlite_may_convert_it() {
        let text = [Value::Text("010")];
        assert!(may(
            &predicate(Comparison::Eq, Value::Integer(10), Affinity::Text),
            &text
        ));
        assert!(may(
            &predicate(Comparison::Lt, Value::Text("0"), Affinity::Text),
            &text
        ));
        let dates = [Value::Text("2024-05-06"), Value::Text("2024-05-07")];
        let before = predicate(Comparison::Lt, Value::Text("2024-01-01"), Affinity::Text);
        assert!(!may(&before, &dates));
    }

    #[test]
    fn collations_and_encodings_other_than_the_plain_ones_rule_nothing_out() {
        let plain = rules(Affinity::Text);
        let other = [
            Rules {
                binary_collation: false,
                ..plain
            },
            Rules {
                encoding: Encoding::Utf16le,
                ..plain
            },
        ];
        for rules in other {
            assert_eq!(
                Predicate::new(Comparison::Eq, Value::Text("a"), rules),
                None
            );
        }
    }
}
