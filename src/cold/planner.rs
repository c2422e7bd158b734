//! What is pushed down to `cold_t`, and what it will cost.

use rusqlite::Connection;

use super::plan::{Offset, Operator, Plan, Share, Term};
use crate::error::Result;
use crate::format::predicate::{Predicate, Rules};
use crate::schema::Affinity;
use crate::snapshot::columns::ColdColumn;
use crate::snapshot::order::Order;
use crate::snapshot::state::{States, TableState};
use crate::sqlite::query::{Comparison, Constraint, Query};
use crate::value::Encoding;

/// What opening one file costs, in rows looked up.
const FILE_COST: f64 = 100.0;
/// What a row of a scan costs: less than a row of a table that is looked up in a B-tree.
const ROW_COST: f64 = 0.5;
/// Files that overlap more than this are left to SQLite to sort: a merge holds rows of each.
const MAX_MERGED: usize = 8;

/// Chooses what to push down, and answers.
pub fn plan(table: &States, query: &mut Query<'_>) -> Result<()> {
    match informed(table, query) {
        // Nothing is pushed down for once. A statement that reads the hot table notices when it
        // starts, and SQLite asks again; an error here would come back until anything else does.
        Err(error) if error.is_stale_schema() => {
            query.reset();
            query.finish(&Plan::default().encode(&table.shape.names), 1.0, 1)
        }
        outcome => outcome,
    }
}

/// [`plan`] by what the catalog says.
fn informed(table: &States, query: &mut Query<'_>) -> Result<()> {
    let Some(state) = table.read()? else {
        return query.finish(&Plan::default().encode(&table.shape.names), 1.0, 1);
    };
    let mut plan = Plan::default();
    let mut known = Vec::new();
    let mut estimate = Estimate::default();
    // SQLite forgets the affinity of y in `x IN (SELECT y)` here, too.
    let rank = |constraint: &Constraint| {
        let (_, column) = table.shape.column(constraint.column)?;
        (column.affinity == Affinity::Numeric).then_some(!column.unique)
    };
    for constraint in query.separable(rank) {
        let Some((number, column)) = table.shape.column(constraint.column) else {
            continue;
        };
        let binary_collation =
            constraint.binary_collation && (column.binary || !query.may_be_part(&constraint));
        if !binary_collation && query.may_repeat(&constraint) {
            // Which texts are equal only SQLite knows.
            continue;
        }
        let Some(operator) = operator(table, query, &constraint, column)? else {
            continue;
        };
        query.push(&constraint, plan.terms.len());
        plan.terms.push(Term {
            column: number,
            operator,
            binary_collation,
        });
        let rules = Rules {
            affinity: column.affinity,
            binary_collation,
            encoding: table.shape.encoding,
        };
        let predicate = match (operator, query.constant(&constraint)) {
            (Operator::Compare(comparison), Some(value)) => {
                Predicate::new(comparison, value, rules)
            }
            (Operator::Begins, Some(value)) => Predicate::begins(value, rules.encoding),
            _ => None,
        };
        match predicate {
            Some(predicate) => known.push((number, predicate)),
            None => estimate.unknown(operator),
        }
        if column.unique && estimate.finds_one(operator) {
            let order = Order {
                columns: vec![number],
                descending: false,
            };
            estimate.lookup = Some(state.merge_depth(&table.connection, &order)?);
        }
    }
    plan.order = order(table, &state, query)?;
    if plan.order.is_some() {
        query.consume_order();
    }
    if plan.order.is_some() || query.order().is_empty() {
        push_bounds(query, &mut plan);
    }
    let totals = &state.totals;
    let left = match state.candidates(&table.connection, &known)? {
        Some(candidates) => candidates.len() as u64,
        None => totals.files,
    };
    plan.files = Share {
        left,
        all: totals.files,
    };
    plan.row_groups = Share {
        // In proportion; how many a file has is only read with the file.
        left: (totals.row_groups * left)
            .div_ceil(totals.files.max(1))
            .min(totals.row_groups),
        all: totals.row_groups,
    };
    let (cost, rows) = estimate.of(&state, left);
    query.finish(&plan.encode(&table.shape.names), cost, rows)
}

/// How a term is pushed down, if it is.
fn operator(
    table: &States,
    query: &mut Query<'_>,
    constraint: &Constraint,
    column: &ColdColumn,
) -> Result<Option<Operator>> {
    let comparison = constraint.comparison;
    Ok(match comparison {
        Comparison::Like | Comparison::Glob => {
            let name = if comparison == Comparison::Like {
                "like"
            } else {
                "glob"
            };
            is_built_in(&table.connection, name).then_some(Operator::Compare(comparison))
        }
        Comparison::Eq if query.may_be_in(constraint) => {
            // SQLite compares value by value if it cannot give all at once, and forgets the affinity
            // of y in `x IN (SELECT y)` then. Only a numeric affinity of x makes that the same.
            match query.take_list(constraint) {
                true => Some(Operator::In),
                false => {
                    (column.affinity == Affinity::Numeric).then_some(Operator::Compare(comparison))
                }
            }
        }
        Comparison::Ge if query.is_beginning(constraint) => Some(Operator::Begins),
        _ => Some(Operator::Compare(comparison)),
    })
}

/// Whether the application has left SQLite's own function in place.
fn is_built_in(connection: &Connection, function: &str) -> bool {
    let sql = "SELECT min(builtin) FROM temp.pragma_function_list WHERE name = ?1 AND narg = 2";
    let found = connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.query_row([function], |row| row.get(0)));
    // If SQLite does not tell, it may be another.
    found.unwrap_or(false)
}

/// The order that rows can be given in: by time, by key, or by both.
fn order(table: &States, state: &TableState, query: &Query<'_>) -> Result<Option<Order>> {
    let terms = query.order();
    let Some(first) = terms.first() else {
        return Ok(None);
    };
    let time = |number: usize| {
        let column = table.shape.declared.get(number);
        column.is_some_and(|column| column.name.eq_ignore_ascii_case(&state.time_column))
    };
    let mut columns = Vec::new();
    for term in &terms {
        let Some((number, column)) = table.shape.column(term.column) else {
            return Ok(None);
        };
        let sortable = column.is_rowid || column.binary && table.shape.encoding == Encoding::Utf8;
        if !sortable || term.descending != first.descending {
            return Ok(None);
        }
        columns.push((number, time(number), column.unique));
    }
    let known = match columns[..] {
        [(_, time, key)] => time || key,
        [(_, true, _), (_, _, true)] => true,
        _ => false,
    };
    let order = Order {
        columns: columns.into_iter().map(|(number, ..)| number).collect(),
        descending: first.descending,
    };
    let few = known && state.merge_depth(&table.connection, &order)? <= MAX_MERGED;
    Ok(few.then_some(order))
}

/// Takes the LIMIT as a hint and, where nothing else decides which rows count, the OFFSET.
fn push_bounds(query: &mut Query<'_>, plan: &mut Plan) {
    let (limit, offset) = query.limit_and_offset();
    let Some(limit) = limit else {
        return;
    };
    query.push_bound(limit, plan.terms.len(), false);
    plan.limit = true;
    if let Some(offset) = offset {
        let plain = query.constraints().is_empty() && !query.has_other_terms();
        let ours = plain && query.can_take_offset();
        query.push_bound(offset, plan.terms.len() + 1, ours);
        plan.offset = Some(if ours { Offset::Scan } else { Offset::Sqlite });
    }
}

/// What is known of a query's cost.
struct Estimate {
    /// The share of rows that terms without a known constant leave.
    share: f64,
    /// A term leaves about one row, in one of so many files.
    lookup: Option<usize>,
}

impl Default for Estimate {
    fn default() -> Self {
        Self {
            share: 1.0,
            lookup: None,
        }
    }
}

impl Estimate {
    /// A term whose constant is not known.
    fn unknown(&mut self, operator: Operator) {
        self.share *= match operator {
            Operator::Compare(Comparison::IsNotNull) => 1.0,
            Operator::Compare(Comparison::Eq | Comparison::Is | Comparison::IsNull) => 0.1,
            Operator::In => 0.2,
            Operator::Begins => 0.4,
            Operator::Compare(_) => 0.4,
        };
    }

    /// Whether a term on a unique column leaves about one row.
    fn finds_one(&self, operator: Operator) -> bool {
        matches!(
            operator,
            Operator::Compare(Comparison::Eq | Comparison::Is) | Operator::In
        )
    }

    /// The cost and the number of rows, if constants leave so many files.
    fn of(&self, state: &TableState, files_left: u64) -> (f64, i64) {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let [files, rows, left] =
            [state.totals.files, state.totals.rows, files_left].map(|n| n as f64);
        let share = self.share * left / files.max(1.0);
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let (cost, rows) = match self.lookup {
            Some(depth) => (FILE_COST * (depth as f64).min(left), 1.0),
            None => (share * (files * FILE_COST + rows * ROW_COST), share * rows),
        };
        #[expect(clippy::cast_possible_truncation, reason = "an estimate")]
        (cost.max(1.0), rows.max(1.0) as i64)
    }
}
