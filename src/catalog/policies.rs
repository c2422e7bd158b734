//! Policies in the catalog: which tables the nightly run archives, and how.

use rusqlite::types::Value as Owned;
use rusqlite::{Connection, Row};

use crate::error::Result;

/// What `archive_policy` has registered for a table.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyRecord {
    pub table: String,
    /// A number of days, or `env:NAME`.
    pub hot_days: Owned,
    /// The least goes first.
    pub priority: i64,
    pub enabled: bool,
    /// JSON: options of `archive_table`.
    pub options: String,
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<PolicyRecord> {
    Ok(PolicyRecord {
        table: row.get(0)?,
        hot_days: row.get(1)?,
        priority: row.get(2)?,
        enabled: row.get(3)?,
        options: row.get(4)?,
    })
}

/// All policies in the order in which they run. There must be a catalog.
pub fn all(connection: &Connection) -> Result<Vec<PolicyRecord>> {
    let sql = "SELECT table_name, hot_days, priority, enabled, options FROM main._archive_policy
               ORDER BY priority, table_name";
    let mut statement = connection.prepare(sql)?;
    let policies = statement.query_map([], from_row)?;
    Ok(policies.collect::<Result<_, _>>()?)
}

/// Registers a policy, in the place of the one that the table has.
pub fn save(connection: &Connection, policy: &PolicyRecord) -> Result<()> {
    connection.execute(
        "INSERT OR REPLACE INTO main._archive_policy (table_name, hot_days, priority, enabled, options)
         VALUES (?1, ?2, ?3, ?4, ?5)",
        (
            &policy.table,
            &policy.hot_days,
            policy.priority,
            policy.enabled,
            &policy.options,
        ),
    )?;
    Ok(())
}

/// Removes the policy of a table; `false` if it has none.
pub fn remove(connection: &Connection, table: &str) -> Result<bool> {
    let sql = "DELETE FROM main._archive_policy WHERE table_name = ?1";
    Ok(connection.execute(sql, [table])? > 0)
}
