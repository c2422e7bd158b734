//! Which rows of a row group a scan goes through, and how a predicate narrows them down.

use std::ops::Range as Span;

use arrow::array::Array;
use rusqlite::types::Value as Owned;

use crate::error::Result;
use crate::format::decode::{DecodedColumn, Scratch};
use crate::format::predicate::{Ordered, Predicate};
use crate::format::range::Kinds;
use crate::time::canonical::{MAX_LENGTH, Shape};
use crate::value::Value;

/// Rows in ascending order, numbered within their row group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All rows of a span.
    Span(Span<usize>),
    Rows(Vec<u32>),
}

impl Selection {
    pub fn len(&self) -> usize {
        match self {
            Self::Span(span) => span.len(),
            Self::Rows(rows) => rows.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The row at `position`.
    pub fn get(&self, position: usize) -> Option<usize> {
        match self {
            Self::Span(span) => (position < span.len()).then(|| span.start + position),
            Self::Rows(rows) => rows.get(position).map(|row| *row as usize),
        }
    }

    /// The position of the first row that is not before `row`.
    pub fn position_of(&self, row: usize) -> usize {
        match self {
            Self::Span(span) => row.saturating_sub(span.start).min(span.len()),
            Self::Rows(rows) => rows.partition_point(|known| (*known as usize) < row),
        }
    }

    /// Goes through the selected rows page by page: `page_at` says which page has a row, and which rows
    /// that page has; `keep` gets the page and its selected rows, and takes away what does not stay.
    pub fn narrow(
        &mut self,
        page_at: impl Fn(usize) -> (usize, Span<usize>),
        mut keep: impl FnMut(usize, &mut Vec<usize>) -> Result<()>,
    ) -> Result<()> {
        let mut kept = Vec::new();
        let mut position = 0;
        while let Some(row) = self.get(position) {
            let (page, span) = page_at(row);
            let next = self.position_of(span.end);
            let mut rows = self.rows(position..next).collect();
            keep(page, &mut rows)?;
            kept.append(&mut rows);
            position = next;
        }
        if kept.len() < self.len() {
            *self = kept.into_iter().collect();
        }
        Ok(())
    }

    /// The rows at `positions`.
    pub fn rows(&self, positions: Span<usize>) -> impl Iterator<Item = usize> {
        positions.filter_map(|position| self.get(position))
    }
}

impl FromIterator<usize> for Selection {
    /// The rows must be in ascending order.
    fn from_iter<I: IntoIterator<Item = usize>>(rows: I) -> Self {
        // A row group has at most 64 Ki rows.
        let rows = rows
            .into_iter()
            .map(|row| u32::try_from(row).unwrap_or(u32::MAX));
        let rows: Vec<u32> = rows.collect();
        match (rows.first(), rows.last()) {
            (None, _) | (_, None) => Self::Span(0..0),
            (Some(first), Some(last)) if (last - first) as usize + 1 == rows.len() => {
                Self::Span(*first as usize..*last as usize + 1)
            }
            _ => Self::Rows(rows),
        }
    }
}

/// A predicate, made ready for the values of one page.
pub struct Matcher<'a> {
    page: &'a DecodedColumn,
    way: Way<'a>,
}

/// What is known of the values that may pass.
enum Way<'a> {
    /// Their numbers lie within these bounds.
    Numbers(i64, i64),
    /// They are these entries of the dictionary.
    Entries(Vec<bool>),
    /// Each has to be looked at.
    Values(&'a Predicate),
}

impl<'a> Matcher<'a> {
    pub fn new(page: &'a DecodedColumn, predicate: &'a Predicate) -> Self {
        let numbers = || number_bounds(page, predicate);
        let entries = || match (page, predicate) {
            (_, Predicate::IsNull) => None,
            // Evaluating the dictionary must pay.
            (DecodedColumn::Dictionary(keys, values), _) if values.len() <= keys.len() => {
                let accept = |entry: Option<&str>| {
                    entry.is_some_and(|text| predicate.may_accept(Value::Text(text)))
                };
                Some(values.iter().map(accept).collect())
            }
            _ => None,
        };
        let way = match (numbers(), entries()) {
            (Some((low, high)), _) => Way::Numbers(low, high),
            (None, Some(entries)) => Way::Entries(entries),
            (None, None) => Way::Values(predicate),
        };
        Self { page, way }
    }

    /// Whether the value of `row`, counted from the first of the page, may pass.
    pub fn may_pass(&self, row: usize, scratch: &mut Scratch) -> bool {
        match (&self.way, self.page) {
            (Way::Numbers(low, high), page) => page
                .number(row)
                .is_some_and(|number| (*low..=*high).contains(&number)),
            (Way::Entries(entries), DecodedColumn::Dictionary(keys, _)) => {
                let entry = || usize::try_from(keys.value(row)).ok();
                keys.is_valid(row) && entry().and_then(|key| entries.get(key)) == Some(&true)
            }
            (Way::Entries(_), _) => true,
            (Way::Values(predicate), page) => predicate.may_accept(page.value(row, scratch)),
        }
    }
}

/// The numbers between which those of `page` have to be to pass, where it has numbers.
fn number_bounds(page: &DecodedColumn, predicate: &Predicate) -> Option<(i64, i64)> {
    let Predicate::Compare {
        comparison,
        value,
        unless,
    } = predicate
    else {
        return None;
    };
    // The first number that is not less than the constant, and the first that is greater; `None`
    // if there is none.
    let (from, after) = match (page, value) {
        (DecodedColumn::Integer(_), Owned::Integer(constant))
            if !unless.contains(Kinds::INTEGER) =>
        {
            (Some(*constant), constant.checked_add(1))
        }
        (DecodedColumn::Timestamp(..) | DecodedColumn::Date(_), Owned::Text(constant))
            if !unless.contains(Kinds::TEXT) =>
        {
            let shape = match page {
                DecodedColumn::Timestamp(_, shape) => *shape,
                _ => Shape::Date,
            };
            let first = |passes: &dyn Fn(&str) -> bool| {
                first_number(shape, |number| {
                    let mut buffer = [0; MAX_LENGTH];
                    shape.format(number, &mut buffer).is_some_and(passes)
                })
            };
            (
                first(&|text| text >= &**constant),
                first(&|text| text > &**constant),
            )
        }
        _ => return None,
    };
    let before = |number: Option<i64>| number.map_or(Some(i64::MAX), |n| n.checked_sub(1));
    const NOTHING: (i64, i64) = (1, 0);
    Some(match comparison {
        Ordered::Lt => before(from).map_or(NOTHING, |last| (i64::MIN, last)),
        Ordered::Le => before(after).map_or(NOTHING, |last| (i64::MIN, last)),
        Ordered::Gt => after.map_or(NOTHING, |first| (first, i64::MAX)),
        Ordered::Ge => from.map_or(NOTHING, |first| (first, i64::MAX)),
        Ordered::Eq => match (from, before(after)) {
            (Some(first), Some(last)) => (first, last),
            _ => NOTHING,
        },
    })
}

/// The first number of a shape for which `passes` holds, as it then does for all greater ones.
fn first_number(shape: Shape, passes: impl Fn(i64) -> bool) -> Option<i64> {
    let (mut low, mut high) = shape.numbers().into_inner();
    if !passes(high) {
        return None;
    }
    while low < high {
        let middle = low.saturating_add_unsigned(high.abs_diff(low) / 2);
        match passes(middle) {
            true => high = middle,
            false => low = middle + 1,
        }
    }
    Some(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::predicate::Rules;
    use crate::schema::Affinity;
    use crate::sqlite::query::Comparison;
    use crate::value::Encoding;
    use arrow::array::{Date32Array, Int32Array, Int64Array, StringArray};
    use proptest::prelude::*;

    #[test]
    fn rows_without_a_gap_are_a_span() {
        assert_eq!(Selection::from_iter([3, 4, 5]), Selection::Span(3..6));
        assert_eq!(Selection::from_iter([]), Selection::Span(0..0));
        let rows = Selection::from_iter([3, 5, 9]);
        assert_eq!(rows, Selection::Rows(vec![3, 5, 9]));
        let positions: Vec<usize> = (0..11).map(|row| rows.position_of(row)).collect();
        assert_eq!(positions, [0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 3]);
        assert_eq!(rows.rows(1..7).collect::<Vec<_>>(), [5, 9]);
    }

    #[test]
    fn rows_are_narrowed_page_by_page() {
        let page_at = |row: usize| (row / 10, row / 10 * 10..row / 10 * 10 + 10);
        let mut selection = Selection::Span(5..35);
        let mut pages = Vec::new();
        let even = |page: usize, rows: &mut Vec<usize>| {
            pages.push((page, rows.len()));
            rows.retain(|row| page != 2 && row % 2 == 0);
            Ok(())
        };
        selection.narrow(page_at, even).unwrap();
        assert_eq!(pages, [(0, 5), (1, 10), (2, 10), (3, 5)]);
        assert_eq!(
            selection,
            Selection::Rows(vec![6, 8, 10, 12, 14, 16, 18, 30, 32, 34])
        );
        selection.narrow(page_at, |_, _| Ok(())).unwrap();
        assert_eq!(selection.len(), 10);
    }

    const COMPARISONS: [Comparison; 6] = [
        Comparison::Eq,
        Comparison::Lt,
        Comparison::Le,
        Comparison::Gt,
        Comparison::Ge,
        Comparison::IsNotNull,
    ];

    fn predicate(comparison: Comparison, value: Value<'_>, affinity: Affinity) -> Predicate {
        let rules = Rules {
            affinity,
            binary_collation: true,
            encoding: Encoding::Utf8,
        };
        Predicate::new(comparison, value, rules).unwrap()
    }

    /// Every shortcut says what looking at the value says.
    fn agrees(page: &DecodedColumn, predicate: &Predicate) {
        let (mut scratch, mut other) = ([0; MAX_LENGTH], [0; MAX_LENGTH]);
        let matcher = Matcher::new(page, predicate);
        for row in 0..page.rows() {
            let value = page.value(row, &mut scratch);
            let expected = predicate.may_accept(value);
            assert_eq!(
                matcher.may_pass(row, &mut other),
                expected,
                "{value:?} {predicate:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn shortcuts_agree_with_values(
            numbers in prop::collection::vec(prop::option::of(-3_i64..3), 1..20),
            text in "(2024-0[1-3]-0[1-9]( 1[0-2]:00:00)?|[a-c]{0,2})",
            constant in -4_i64..4,
        ) {
            let shape = Shape::of("2024-01-01 00:00:00").unwrap();
            let stamps = numbers.iter().map(|n| n.map(|n| 1_706_745_600_000 + n * 86_400_000));
            let days = numbers.iter().map(|n| n.map(|n| 19_754 + i32::try_from(n).unwrap()));
            let keys = numbers.iter().map(|n| n.map(|n| i32::try_from(n + 3).unwrap()));
            let words = StringArray::from(vec!["a", "b", "ab", "2024-02-01", "", "c"]);
            let texts = [
                DecodedColumn::Timestamp(stamps.collect(), shape),
                DecodedColumn::Date(days.collect::<Date32Array>()),
                DecodedColumn::Dictionary(keys.collect::<Int32Array>(), words),
            ];
            let integers = DecodedColumn::Integer(numbers.into_iter().collect::<Int64Array>());
            for comparison in COMPARISONS {
                agrees(&integers, &predicate(comparison, Value::Integer(constant), Affinity::Numeric));
                for page in &texts {
                    agrees(page, &predicate(comparison, Value::Text(&text), Affinity::Text));
                }
            }
        }
    }

    #[test]
    fn the_ends_of_the_integers_are_integers() {
        let page = DecodedColumn::Integer(Int64Array::from(vec![i64::MIN, 0, i64::MAX]));
        for comparison in COMPARISONS {
            for constant in [i64::MIN, i64::MAX] {
                let constant = Value::Integer(constant);
                agrees(&page, &predicate(comparison, constant, Affinity::Numeric));
            }
        }
    }
}
