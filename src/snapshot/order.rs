//! Files in the order of an ORDER BY, as far as the ranges of their values tell.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::format::range::{Kinds, Range};
use crate::value::Value;

/// The order that a scan's rows are asked for in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Columns of `cold_t`; the second decides where the first is equal.
    pub columns: Vec<usize>,
    pub descending: bool,
}

/// The least value that a range has, or `None` if that is not known.
pub fn low(range: &Range) -> Option<Value<'_>> {
    match range.kinds.contains(Kinds::NULL) {
        true => Some(Value::Null),
        false => range.min.as_ref().map(Value::from),
    }
}

/// The greatest value that a range has, or `None` if that is not known.
pub fn high(range: &Range) -> Option<Value<'_>> {
    match (range.kinds - Kinds::NULL).is_empty() {
        true => Some(Value::Null),
        false => range.max.as_ref().map(Value::from),
    }
}

/// Divides things into runs that follow each other in an order: whatever is in one run comes before
/// whatever is in the next. Things of one run overlap. `range` says what is known of their values in
/// the first column of the order.
pub fn runs<T>(things: Vec<T>, range: impl Fn(&T) -> Arc<Range>, order: &Order) -> Vec<Vec<T>> {
    let with_range = |thing: T| (range(&thing), thing);
    let mut things: Vec<(Arc<Range>, T)> = things.into_iter().map(with_range).collect();
    things.sort_by(|(a, _), (b, _)| match (low(a), low(b)) {
        (Some(a), Some(b)) => a.order(b),
        (a, b) => a.is_some().cmp(&b.is_some()),
    });
    let mut runs: Vec<Vec<T>> = Vec::new();
    // Of the present run, the range that reaches farthest.
    let mut farthest: Option<Arc<Range>> = None;
    for (range, thing) in things {
        let end = farthest.as_deref().and_then(high);
        let follows = match (end, low(&range)) {
            (Some(end), Some(low)) => match end.order(low) {
                Ordering::Less => true,
                // Equal values may come in any order, if nothing else decides.
                Ordering::Equal => order.columns.len() == 1,
                Ordering::Greater => false,
            },
            _ => false,
        };
        let farther = match (end, high(&range)) {
            (Some(end), Some(high)) => end.order(high).is_lt(),
            (end, _) => end.is_some(),
        };
        match runs.last_mut().filter(|_| !follows) {
            Some(run) => run.push(thing),
            None => runs.push(vec![thing]),
        }
        if follows || farther || farthest.is_none() {
            farthest = Some(range);
        }
    }
    if order.descending {
        runs.reverse();
    }
    runs
}

/// The most files that have to be merged at a time, with what is known of their values in the first
/// column of the order.
pub fn depth<'a>(ranges: impl Iterator<Item = &'a Arc<Range>>, order: &Order) -> usize {
    let runs = runs(ranges.collect(), |range| Arc::clone(range), order);
    runs.iter().map(Vec::len).max().unwrap_or(0)
}
