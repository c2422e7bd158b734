//! What xBestIndex decided, as it travels to xFilter: the plan string, which EXPLAIN QUERY PLAN shows.
//!
//! It is made of words, for instance
//!
//! ```text
//! files 1/173 row groups 1/173 where id = ? and status IN ? and name >=~ ? order by id desc limit ?
//! ```
//!
//! - `files`, `row groups`: how many are left of all, as far as constants in the query tell
//! - `where`: the terms that were pushed down, one for each of the first arguments of xFilter; `~`
//!   marks a collation other than BINARY
//! - `order by`: the order that rows come in
//! - `limit`, `offset`: the next arguments. Rows up to the offset are passed over; if it says `beyond`
//!   instead, SQLite does that
//!
//! A space in a column's name is written `%20`, and so on.

use std::collections::VecDeque;

use crate::error::{Error, Result};
use crate::snapshot::order::Order;
use crate::sqlite::query::Comparison;

/// A term that was pushed down. Its right-hand side is the argument of the same position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    pub column: usize,
    pub operator: Operator,
    pub binary_collation: bool,
}

/// What a term does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Compare(Comparison),
    /// `IN`, with all values at once.
    In,
    /// Text that begins so, in any case of ASCII letters.
    Begins,
}

/// How many are left of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    pub left: u64,
    pub all: u64,
}

/// What is pushed down.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub files: Share,
    pub row_groups: Share,
    pub terms: Vec<Term>,
    pub order: Option<Order>,
    /// Whether the argument after those of the terms is the LIMIT.
    pub limit: bool,
    /// Whether the last argument is the OFFSET, and whose business it is.
    pub offset: Option<Offset>,
}

/// Who passes over the rows up to the OFFSET.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offset {
    Scan,
    Sqlite,
}

const OFFSETS: [(Offset, &str); 2] = [(Offset::Scan, "offset"), (Offset::Sqlite, "beyond")];

const SYMBOLS: [(Operator, &str); 12] = [
    (Operator::Compare(Comparison::Eq), "="),
    (Operator::Compare(Comparison::Lt), "<"),
    (Operator::Compare(Comparison::Le), "<="),
    (Operator::Compare(Comparison::Gt), ">"),
    (Operator::Compare(Comparison::Ge), ">="),
    (Operator::Compare(Comparison::Is), "IS"),
    (Operator::Compare(Comparison::IsNull), "ISNULL"),
    (Operator::Compare(Comparison::IsNotNull), "NOTNULL"),
    (Operator::Compare(Comparison::Like), "LIKE"),
    (Operator::Compare(Comparison::Glob), "GLOB"),
    (Operator::In, "IN"),
    (Operator::Begins, "BEGINS"),
];

/// A column's name as one word.
fn word(name: &str) -> String {
    let mut word = String::new();
    for c in name.chars() {
        match c.is_alphanumeric() || c == '_' {
            true => word.push(c),
            false => word += &format!("%{:02X}", u32::from(c)),
        }
    }
    word
}

impl Plan {
    /// The plan string. `names` are those of the columns of `cold_t`.
    pub fn encode(&self, names: &[String]) -> String {
        let name = |column: usize| names.get(column).map(|name| word(name)).unwrap_or_default();
        let Self {
            files, row_groups, ..
        } = self;
        let mut text = format!(
            "files {}/{} row groups {}/{}",
            files.left, files.all, row_groups.left, row_groups.all
        );
        for (index, term) in self.terms.iter().enumerate() {
            let symbol = SYMBOLS
                .iter()
                .find(|(operator, _)| *operator == term.operator);
            let symbol = symbol.map_or("", |(_, symbol)| symbol);
            let mark = if term.binary_collation { "" } else { "~" };
            let join = if index == 0 { "where" } else { "and" };
            text += &format!(" {join} {} {symbol}{mark} ?", name(term.column));
        }
        if let Some(order) = &self.order {
            let direction = if order.descending { "desc" } else { "asc" };
            text += " order by";
            for column in &order.columns {
                text += &format!(" {} {direction}", name(*column));
            }
        }
        if self.limit {
            text += " limit ?";
        }
        for (_, keyword) in OFFSETS
            .iter()
            .filter(|(offset, _)| self.offset == Some(*offset))
        {
            text += &format!(" {keyword} ?");
        }
        text
    }

    /// The reverse of [`Self::encode`].
    pub fn decode(text: &str, names: &[String]) -> Result<Self> {
        let mut words = Words {
            rest: text.split(' ').collect(),
            names,
        };
        words
            .plan()
            .filter(|_| words.rest.is_empty())
            .ok_or_else(|| Error::Internal(format!("unknown plan: {text}")))
    }
}

/// A plan string, word by word.
struct Words<'a> {
    rest: VecDeque<&'a str>,
    names: &'a [String],
}

impl Words<'_> {
    fn plan(&mut self) -> Option<Plan> {
        self.keyword("files").then_some(())?;
        let files = self.share()?;
        (self.keyword("row") && self.keyword("groups")).then_some(())?;
        let mut plan = Plan {
            files,
            row_groups: self.share()?,
            ..Plan::default()
        };
        while self.keyword(if plan.terms.is_empty() {
            "where"
        } else {
            "and"
        }) {
            plan.terms.push(self.term()?);
        }
        if self.keyword("order") && self.keyword("by") {
            plan.order = Some(self.order()?);
        }
        plan.limit = self.keyword("limit") && self.keyword("?");
        let offset = OFFSETS.iter().find(|(_, keyword)| self.keyword(keyword));
        plan.offset = offset
            .filter(|_| self.keyword("?"))
            .map(|(offset, _)| *offset);
        Some(plan)
    }

    /// Passes over `word`, if it is next.
    fn keyword(&mut self, word: &str) -> bool {
        let is_next = self.rest.front() == Some(&word);
        if is_next {
            self.rest.pop_front();
        }
        is_next
    }

    fn share(&mut self) -> Option<Share> {
        let (left, all) = self.rest.pop_front()?.split_once('/')?;
        Some(Share {
            left: left.parse().ok()?,
            all: all.parse().ok()?,
        })
    }

    fn column(&mut self) -> Option<usize> {
        let found = self.rest.pop_front()?;
        self.names.iter().position(|name| word(name) == found)
    }

    fn term(&mut self) -> Option<Term> {
        let column = self.column()?;
        let symbol = self.rest.pop_front()?;
        let plain = symbol.trim_end_matches('~');
        self.keyword("?").then_some(Term {
            column,
            operator: SYMBOLS.iter().find(|(_, known)| *known == plain)?.0,
            binary_collation: plain == symbol,
        })
    }

    fn order(&mut self) -> Option<Order> {
        let mut order = Order {
            columns: Vec::new(),
            descending: false,
        };
        while order.columns.is_empty()
            || !matches!(
                self.rest.front(),
                None | Some(&"limit" | &"offset" | &"beyond")
            )
        {
            order.columns.push(self.column()?);
            order.descending = match self.rest.pop_front()? {
                "asc" => false,
                "desc" => true,
                _ => return None,
            };
        }
        Some(order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_survives_the_journey() {
        let names: Vec<String> = ["id", "created at", "where", "50%, =é"]
            .map(str::to_owned)
            .into();
        let term = |(index, (operator, _)): (usize, &(Operator, &str))| Term {
            column: index % names.len(),
            operator: *operator,
            binary_collation: index % 3 == 0,
        };
        let order = |columns: &[usize], descending| {
            Some(Order {
                columns: columns.to_vec(),
                descending,
            })
        };
        let plan = Plan {
            files: Share { left: 1, all: 173 },
            row_groups: Share { left: 2, all: 180 },
            terms: SYMBOLS.iter().enumerate().map(term).collect(),
            order: order(&[1, 0], true),
            limit: true,
            offset: Some(Offset::Scan),
        };
        let others = [
            Plan::default(),
            Plan {
                terms: Vec::new(),
                limit: false,
                ..plan.clone()
            },
            Plan {
                order: None,
                offset: Some(Offset::Sqlite),
                ..plan.clone()
            },
            Plan {
                order: order(&[2], false),
                limit: false,
                offset: None,
                ..plan.clone()
            },
        ];
        for plan in others.into_iter().chain([plan]) {
            assert_eq!(Plan::decode(&plan.encode(&names), &names).unwrap(), plan);
        }
    }

    #[test]
    fn a_plan_can_be_read() {
        let names = ["id", "created at"].map(str::to_owned);
        let plan = Plan {
            files: Share { left: 1, all: 173 },
            terms: vec![Term {
                column: 1,
                operator: Operator::Compare(Comparison::Ge),
                binary_collation: false,
            }],
            order: Some(Order {
                columns: vec![0],
                descending: true,
            }),
            limit: true,
            ..Plan::default()
        };
        let text = "files 1/173 row groups 0/0 where created%20at >=~ ? order by id desc limit ?";
        assert_eq!(plan.encode(&names), text);
    }

    #[test]
    fn what_is_no_plan_is_refused() {
        for text in ["", "files", "files 1/1 row groups 1/1 where x = ?", "scan"] {
            assert!(Plan::decode(text, &["id".to_owned()]).is_err(), "{text}");
        }
    }
}
