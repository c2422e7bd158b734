//! Ids that a hot row and a cold row have: SQLite has given them again to new rows.

use rusqlite::{Connection, OptionalExtension};

use crate::attach;
use crate::catalog::ids::{key, spans};
use crate::catalog::tables::ArchivedTable;
use crate::error::Result;
use crate::schema::Table;
use crate::snapshot::statements::cold_name;
use crate::sql::quote;

/// Ids that a hot row and a cold row have.
#[derive(Debug, Default)]
pub struct Shared {
    pub count: u64,
    /// The first of them.
    pub first: Vec<i64>,
}

/// How many of them are named.
const NAMED: usize = 5;

/// Finds the ids that a hot and a cold row of a table share. Only cold files among whose ids there is a
/// hot one are looked into.
pub fn shared(connection: &Connection, table: &Table, archived: &ArchivedTable) -> Result<Shared> {
    let mut shared = Shared::default();
    let Some(key) = key(table) else {
        return Ok(shared);
    };
    let (id, hot) = (quote(key), table.qualified());
    let any = format!("SELECT 1 FROM {hot} WHERE {id} BETWEEN ?1 AND ?2 LIMIT 1");
    let mut any = connection.prepare(&any)?;
    for (first, last) in spans(connection, table, archived)? {
        if any
            .query_row((first, last), |_| Ok(()))
            .optional()?
            .is_none()
        {
            continue;
        }
        let cold = cold_name(&attach::attach_table(connection, archived)?);
        let mut statement = connection.prepare_cached(&format!(
            "SELECT c.{id} FROM {cold} AS c WHERE c.{id} BETWEEN ?1 AND ?2
                AND EXISTS (SELECT 1 FROM {hot} AS h WHERE h.{id} = c.{id})"
        ))?;
        let mut rows = statement.query((first, last))?;
        while let Some(row) = rows.next()? {
            shared.count += 1;
            if shared.first.len() < NAMED {
                shared.first.push(row.get(0)?);
            }
        }
    }
    Ok(shared)
}

impl Shared {
    /// What is wrong, if anything is.
    pub fn problem(&self, table: &str) -> Option<String> {
        let first: Vec<String> = self.first.iter().map(i64::to_string).collect();
        (self.count > 0).then(|| {
            format!(
                "{} ids of {table} are those of a hot row and of a cold one, which is another: {}{}; \
                 SQLite gave them again to new rows. archive_restore with on_conflict renumber gives the \
                 cold rows new ones",
                self.count,
                first.join(", "),
                if self.count > first.len() as u64 { ", ..." } else { "" },
            )
        })
    }
}
