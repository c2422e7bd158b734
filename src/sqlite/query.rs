//! What SQLite asks a virtual table when it plans a query, and where the answer goes.
//!
//! Reference: <https://www.sqlite.org/vtab.html#the_xbestindex_method>

use std::ffi::{CStr, c_int};
use std::slice;

use rusqlite::ffi;
use sqlite_loadable::ext::sqlite3ext_vtab_in;

use super::api;
use super::value;
use super::value::sqlite_string;
use crate::error::Result;
use crate::value::Value;

/// The comparisons that can be pushed down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Eq,
    Lt,
    Le,
    Gt,
    Ge,
    /// `IS`: like `Eq`, but NULL is a value.
    Is,
    IsNull,
    IsNotNull,
    Like,
    Glob,
}

impl Comparison {
    fn from_code(code: u8) -> Option<Self> {
        Some(match c_int::from(code) {
            ffi::SQLITE_INDEX_CONSTRAINT_EQ => Self::Eq,
            ffi::SQLITE_INDEX_CONSTRAINT_LT => Self::Lt,
            ffi::SQLITE_INDEX_CONSTRAINT_LE => Self::Le,
            ffi::SQLITE_INDEX_CONSTRAINT_GT => Self::Gt,
            ffi::SQLITE_INDEX_CONSTRAINT_GE => Self::Ge,
            ffi::SQLITE_INDEX_CONSTRAINT_IS => Self::Is,
            ffi::SQLITE_INDEX_CONSTRAINT_ISNULL => Self::IsNull,
            ffi::SQLITE_INDEX_CONSTRAINT_ISNOTNULL => Self::IsNotNull,
            ffi::SQLITE_INDEX_CONSTRAINT_LIKE => Self::Like,
            ffi::SQLITE_INDEX_CONSTRAINT_GLOB => Self::Glob,
            _ => return None,
        })
    }

    /// Whether SQLite offers it to virtual tables only, as indexes of its own have no use for it.
    fn is_auxiliary(self) -> bool {
        matches!(self, Self::Like | Self::Glob | Self::IsNotNull)
    }
}

/// A term of the WHERE clause, as xBestIndex shows it.
#[derive(Debug, Clone, Copy)]
pub struct Constraint {
    index: usize,
    /// The column, or `None` for the rowid.
    pub column: Option<usize>,
    pub comparison: Comparison,
    /// Whether text would be compared by the BINARY collation.
    pub binary_collation: bool,
}

/// A term of the ORDER BY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderTerm {
    /// The column, or `None` for the rowid.
    pub column: Option<usize>,
    pub descending: bool,
}

/// A LIMIT or OFFSET.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    index: usize,
}

/// Since SQLite 3.38; the bindings are those of 3.34.
const LIMIT: c_int = 73;
const OFFSET: c_int = 74;
const LISTS_SINCE: i32 = 3_038_000;
/// Earlier ones offer the OFFSET of a UNION ALL to each of its arms.
const OFFSET_SINCE: i32 = 3_046_001;
/// Earlier ones offer auxiliary terms of an outer join's ON to the tables on the left of it, too, whose
/// rows they must not keep out.
const AUXILIARY_SINCE: i32 = 3_051_000;

/// What xBestIndex is asked, and where its answer goes.
pub struct Query<'a>(&'a mut ffi::sqlite3_index_info);

impl<'a> Query<'a> {
    /// The question that SQLite passed to xBestIndex.
    pub fn new(info: &'a mut ffi::sqlite3_index_info) -> Self {
        Self(info)
    }

    fn terms(&self) -> &[ffi::sqlite3_index_constraint] {
        match usize::try_from(self.0.nConstraint) {
            // SAFETY: SQLite passes nConstraint terms, which live as long as the callback.
            Ok(count) if count > 0 => unsafe { slice::from_raw_parts(self.0.aConstraint, count) },
            _ => &[],
        }
    }

    /// Whether auxiliary terms are offered only where rows may be kept out by them. Nothing tells a term
    /// of WHERE from one of ON; but there is a LIMIT only where the table is queried alone.
    fn offers_auxiliary_rightly(&self) -> bool {
        rusqlite::version_number() >= AUXILIARY_SINCE || self.limit_and_offset().0.is_some()
    }

    /// The usable terms with a comparison that can be pushed down.
    pub fn constraints(&self) -> Vec<Constraint> {
        let any = self.offers_auxiliary_rightly();
        let constraint = |(index, term): (usize, &ffi::sqlite3_index_constraint)| {
            Some(Constraint {
                index,
                column: usize::try_from(term.iColumn).ok(),
                comparison: Comparison::from_code(term.op).filter(|_| term.usable != 0)?,
                binary_collation: self.has_collation(index, b"BINARY"),
            })
        };
        self.terms()
            .iter()
            .enumerate()
            .filter_map(constraint)
            .filter(|constraint| any || !constraint.comparison.is_auxiliary())
            .collect()
    }

    /// Whether `constraint` holds only for text that begins with its right-hand side, in any case of
    /// ASCII letters. SQLite offers `s LIKE 'abc%'` as `s >= 'ABC' AND s < 'abd'` COLLATE NOCASE, too, and
    /// these rightly also where it does not the LIKE.
    pub fn is_beginning(&self, constraint: &Constraint) -> bool {
        let terms = self.terms();
        let pair = (terms.get(constraint.index), terms.get(constraint.index + 1));
        let (Some(low), Some(high)) = pair else {
            return false;
        };
        let like = |term: &ffi::sqlite3_index_constraint| {
            c_int::from(term.op) == ffi::SQLITE_INDEX_CONSTRAINT_LIKE && term.iColumn == low.iColumn
        };
        let high_end = Constraint {
            index: constraint.index + 1,
            ..*constraint
        };
        constraint.comparison == Comparison::Ge
            && Comparison::from_code(high.op) == Some(Comparison::Lt)
            && high.usable != 0
            && high.iColumn == low.iColumn
            && [constraint, &high_end].map(|end| self.has_collation(end.index, b"NOCASE"))
                == [true; 2]
            && !self.offers_auxiliary_rightly()
            && terms.iter().any(like)
            && match (self.constant(constraint), self.constant(&high_end)) {
                (Some(Value::Text(low)), Some(Value::Text(high))) => are_ends(low, high),
                _ => false,
            }
    }

    fn has_collation(&self, index: usize, wanted: &[u8]) -> bool {
        let info: *const ffi::sqlite3_index_info = self.0;
        let index = c_int::try_from(index).unwrap_or(c_int::MAX);
        // SAFETY: the function may be called within xBestIndex; the name lives as long.
        unsafe {
            let name = ffi::sqlite3_vtab_collation(info.cast_mut(), index);
            !name.is_null() && CStr::from_ptr(name).to_bytes().eq_ignore_ascii_case(wanted)
        }
    }

    /// Whether an OFFSET may be left to the table, as far as the version of SQLite is concerned.
    pub fn can_take_offset(&self) -> bool {
        rusqlite::version_number() >= OFFSET_SINCE
    }

    /// The LIMIT and the OFFSET, where SQLite offers them.
    pub fn limit_and_offset(&self) -> (Option<Bound>, Option<Bound>) {
        let find = |code: c_int| {
            let is_it = |term: &ffi::sqlite3_index_constraint| {
                c_int::from(term.op) == code && term.usable != 0
            };
            let index = self.terms().iter().position(is_it)?;
            Some(Bound { index })
        };
        (find(LIMIT), find(OFFSET))
    }

    /// Whether there is a term that [`Self::constraints`] does not show, other than LIMIT and OFFSET.
    pub fn has_other_terms(&self) -> bool {
        self.terms().iter().any(|term| {
            let bound = [LIMIT, OFFSET].contains(&c_int::from(term.op));
            !bound && (term.usable == 0 || Comparison::from_code(term.op).is_none())
        })
    }

    /// The ORDER BY, GROUP BY or DISTINCT that could be answered by the order of rows.
    pub fn order(&self) -> Vec<OrderTerm> {
        let terms = match usize::try_from(self.0.nOrderBy) {
            // SAFETY: SQLite passes nOrderBy terms, which live as long as the callback.
            Ok(count) if count > 0 => unsafe { slice::from_raw_parts(self.0.aOrderBy, count) },
            _ => &[],
        };
        let term = |term: &ffi::sqlite3_index_orderby| OrderTerm {
            column: usize::try_from(term.iColumn).ok(),
            descending: term.desc != 0,
        };
        terms.iter().map(term).collect()
    }

    /// Promises rows in the order that [`Self::order`] asks for.
    pub fn consume_order(&mut self) {
        self.0.orderByConsumed = 1;
    }

    /// Whether `constraint` is an IN. Before SQLite 3.38 any `=` may be one.
    pub fn may_be_in(&self, constraint: &Constraint) -> bool {
        constraint.comparison == Comparison::Eq
            && (rusqlite::version_number() < LISTS_SINCE || self.vtab_in(constraint, -1))
    }

    /// Whether `constraint` may be a part of `(x, y) IN (SELECT ...)`, which SQLite offers as `x = ?` and
    /// `y = ?`, one after the other, under the collation of x. If all parts are taken it does not check the
    /// IN again.
    pub fn may_be_part(&self, constraint: &Constraint) -> bool {
        constraint.comparison == Comparison::Eq
            && self.constant(constraint).is_none()
            && (rusqlite::version_number() < LISTS_SINCE || !self.vtab_in(constraint, -1))
    }

    /// Whether rows of `constraint` must be equal to the value that is given, and not only may be: SQLite
    /// before 3.38 gives those of a part once for each of its values that they are given for.
    pub fn may_repeat(&self, constraint: &Constraint) -> bool {
        rusqlite::version_number() < LISTS_SINCE && self.may_be_part(constraint)
    }

    /// Whether `constraint` may be a part, and a neighbour another of the same IN.
    pub fn may_be_split(&self, constraint: &Constraint) -> bool {
        let is_near = |other: &Constraint| other.index.abs_diff(constraint.index) == 1;
        let is_other_part = |other: &Constraint| is_near(other) && self.may_be_part(other);
        self.may_be_part(constraint) && self.constraints().iter().any(is_other_part)
    }

    /// The terms that can be pushed down together: of neighbours that may be parts of the same IN not all,
    /// so that SQLite checks it, and none without a `rank`, of which the least goes first. Before 3.38 none of
    /// them: SQLite then gives a row once for each pair of values.
    pub fn separable<R: Ord>(&self, rank: impl Fn(&Constraint) -> Option<R>) -> Vec<Constraint> {
        let (split, mut taken): (Vec<_>, Vec<_>) = self
            .constraints()
            .into_iter()
            .partition(|constraint| self.may_be_split(constraint));
        let mut split: Vec<_> = split
            .into_iter()
            .filter(|_| rusqlite::version_number() >= LISTS_SINCE)
            .filter_map(|constraint| Some((rank(&constraint)?, constraint)))
            .collect();
        split.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut parts: Vec<usize> = Vec::new();
        for (_, constraint) in split {
            if !parts
                .iter()
                .any(|part| part.abs_diff(constraint.index) == 1)
            {
                parts.push(constraint.index);
                taken.push(constraint);
            }
        }
        taken.sort_by_key(|constraint| constraint.index);
        taken
    }

    /// Asks for all values of an IN at once, as [`Arguments::list`](super::value::Arguments::list);
    /// `false` if SQLite will not do that.
    pub fn take_list(&mut self, constraint: &Constraint) -> bool {
        rusqlite::version_number() >= LISTS_SINCE && self.vtab_in(constraint, 1)
    }

    fn vtab_in(&self, constraint: &Constraint, handle: c_int) -> bool {
        let info: *const ffi::sqlite3_index_info = self.0;
        let index = c_int::try_from(constraint.index).unwrap_or(c_int::MAX);
        // SAFETY: the caller made sure that SQLite has the function; within xBestIndex it may be
        // called with what xBestIndex was given. -1 only asks.
        unsafe { sqlite3ext_vtab_in(info.cast_mut().cast(), index, handle) != 0 }
    }

    /// The right-hand side of `constraint`, if it is a constant that SQLite knows by now.
    pub fn constant(&self, constraint: &Constraint) -> Option<Value<'_>> {
        let info: *const ffi::sqlite3_index_info = self.0;
        let index = c_int::try_from(constraint.index).ok()?;
        // SAFETY: within xBestIndex the function may be called with what xBestIndex was given; the
        // value lives as long as the callback.
        unsafe {
            let found = api::vtab_rhs_value(info.cast_mut(), index)?;
            value::read(found).ok()
        }
    }

    /// Asks for the right-hand side of `constraint` as argument `position` (from 0) of
    /// [`Cursor::filter`](super::vtab::Cursor::filter). SQLite still checks the term on every row.
    pub fn push(&mut self, constraint: &Constraint, position: usize) {
        self.usage(constraint.index).argvIndex =
            c_int::try_from(position + 1).unwrap_or(c_int::MAX);
    }

    /// [`Self::push`] for an argument of a function: NULL is one, too, which no term is true for.
    pub fn push_argument(&mut self, constraint: &Constraint, position: usize) {
        self.push(constraint, position);
        self.usage(constraint.index).omit = 1;
    }

    /// [`Self::push`] for a LIMIT or OFFSET. With `omit` SQLite leaves it to the table.
    pub fn push_bound(&mut self, bound: Bound, position: usize, omit: bool) {
        let usage = self.usage(bound.index);
        usage.argvIndex = c_int::try_from(position + 1).unwrap_or(c_int::MAX);
        usage.omit = u8::from(omit);
    }

    /// Takes back all that was asked for and promised.
    pub fn reset(&mut self) {
        for index in 0..self.terms().len() {
            let usage = self.usage(index);
            usage.argvIndex = 0;
            usage.omit = 0;
        }
        self.0.orderByConsumed = 0;
    }

    fn usage(&mut self, index: usize) -> &mut ffi::sqlite3_index_constraint_usage {
        // SAFETY: aConstraintUsage has nConstraint entries, and `index` came from counting them.
        unsafe { &mut *self.0.aConstraintUsage.add(index) }
    }

    /// Gives the answer: the plan for [`Cursor::filter`](super::vtab::Cursor::filter), shown by
    /// EXPLAIN QUERY PLAN; the cost, in SQLite's unit of about one row looked up; and the number of
    /// rows to expect.
    pub fn finish(&mut self, plan: &str, cost: f64, rows: i64) -> Result<()> {
        self.0.estimatedCost = cost;
        self.0.estimatedRows = rows;
        self.0.idxStr = sqlite_string(plan)?;
        self.0.needToFreeIdxStr = 1;
        Ok(())
    }
}

/// Whether from `low` to `high` there is, in any case of letters, what begins with `low` and nothing else.
fn are_ends(low: &str, high: &str) -> bool {
    let mut next = low.to_ascii_lowercase().into_bytes();
    if let Some(last) = next.last_mut() {
        *last = last.saturating_add(1);
    }
    // After '@' comes 'A', which is compared as 'a'.
    next == high.as_bytes()
        && next == high.to_ascii_lowercase().as_bytes()
        && low == low.to_ascii_uppercase()
        && !low.contains('\0')
        && !low.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_a_beginning_if_nothing_else_is_in_it() {
        for (low, high, is) in [
            ("ABC", "abd", true),
            ("2024-0", "2024-1", true),
            ("Z", "{", true),
            ("_`", "_a", true),
            // '_' lies between '@' and 'a'.
            ("@", "A", false),
            ("abc", "abd", false),
            ("ABC", "ABD", false),
            ("ABC", "abe", false),
            ("AB", "abd", false),
            ("", "", false),
        ] {
            assert_eq!(are_ends(low, high), is, "{low} {high}");
        }
    }
}
