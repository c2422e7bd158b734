//! What was looked at before a run began, and must still be so when its rows move.

use rusqlite::Connection;

use super::check::{self, Reference};
use super::plan::Rule;
use crate::error::Result;
use crate::sql;

/// Foreign keys that no row which goes is referred to by, at the time of the check.
pub struct Checked {
    /// All that point at the table.
    pub all: Vec<Reference>,
    /// Those that count: none if the caller says so.
    pub references: Vec<Reference>,
    /// `sql::data_version` before the check.
    pub at: i64,
}

impl Checked {
    pub fn new(connection: &Connection, rule: &Rule<'_>) -> Result<Self> {
        let at = sql::data_version(connection)?;
        let all = check::references(connection, rule.table)?;
        let references = match rule.options.ignore_foreign_keys {
            true => Vec::new(),
            false => all.clone(),
        };
        rule.check_references(connection, &references)?;
        Ok(Self {
            all,
            references,
            at,
        })
    }
}
