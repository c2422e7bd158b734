//! What xBestIndex decided, as it travels to xFilter: the plan string, also shown by EXPLAIN QUERY
//! PLAN.
//!
//! The string is a list of terms `column:comparison`, one for each argument of xFilter in order,
//! for instance `prune 0:= 4:>= 4:<~`; columns are numbered from 0, and `~` marks a collation
//! other than BINARY. Without terms it is `scan`.

use crate::error::{Error, Result};
use crate::sqlite::vtab::{Comparison, Constraint};

/// A term that was pushed down. Its right-hand side is the argument of the same position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    pub column: usize,
    pub comparison: Comparison,
    pub binary_collation: bool,
}

/// The terms that were pushed down.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub terms: Vec<Term>,
}

const SYMBOLS: [(Comparison, &str); 8] = [
    (Comparison::Eq, "="),
    (Comparison::Lt, "<"),
    (Comparison::Le, "<="),
    (Comparison::Gt, ">"),
    (Comparison::Ge, ">="),
    (Comparison::Is, "IS"),
    (Comparison::IsNull, "ISNULL"),
    (Comparison::IsNotNull, "NOTNULL"),
];

const SCAN: &str = "scan";
const PRUNE: &str = "prune";

impl Plan {
    /// A plan with the terms among `constraints` that name a column.
    pub fn new(constraints: &[Constraint]) -> Self {
        let term = |constraint: &Constraint| {
            Some(Term {
                column: constraint.column?,
                comparison: constraint.comparison,
                binary_collation: constraint.binary_collation,
            })
        };
        Self {
            terms: constraints.iter().filter_map(term).collect(),
        }
    }

    pub fn encode(&self) -> String {
        if self.terms.is_empty() {
            return SCAN.to_owned();
        }
        self.terms.iter().fold(PRUNE.to_owned(), |mut text, term| {
            let symbol = SYMBOLS
                .iter()
                .find(|(comparison, _)| *comparison == term.comparison);
            let symbol = symbol.map_or("", |(_, symbol)| symbol);
            let mark = if term.binary_collation { "" } else { "~" };
            text += &format!(" {}:{symbol}{mark}", term.column);
            text
        })
    }

    pub fn decode(text: &str) -> Result<Self> {
        let mut words = text.split(' ');
        let terms = match words.next() {
            Some(SCAN) => Some(Vec::new()),
            Some(PRUNE) => words.map(decode_term).collect(),
            _ => None,
        };
        terms
            .map(|terms| Self { terms })
            .ok_or_else(|| Error::Internal(format!("unknown plan {text}")))
    }
}

fn decode_term(word: &str) -> Option<Term> {
    let (column, rest) = word.split_once(':')?;
    let (symbol, binary_collation) = match rest.strip_suffix('~') {
        Some(symbol) => (symbol, false),
        None => (rest, true),
    };
    Some(Term {
        column: column.parse().ok()?,
        comparison: SYMBOLS.iter().find(|(_, known)| *known == symbol)?.0,
        binary_collation,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_survives_the_journey() {
        let term = |(column, (comparison, _)): (usize, &(Comparison, &str))| Term {
            column,
            comparison: *comparison,
            binary_collation: column % 2 == 0,
        };
        let plan = Plan {
            terms: SYMBOLS.iter().enumerate().map(term).collect(),
        };
        assert_eq!(Plan::decode(&plan.encode()).unwrap(), plan);
        assert_eq!(Plan::decode("scan").unwrap(), Plan::default());
        assert_eq!(Plan::default().encode(), "scan");
        assert!(Plan::decode("").is_err());
        assert!(Plan::decode("prune 1:?").is_err());
    }
}
