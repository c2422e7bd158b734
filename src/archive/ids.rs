//! Ids that SQLite could hand out again, or has.
//!
//! A new row of a table whose INTEGER PRIMARY KEY is not AUTOINCREMENT gets the largest id and one. So
//! the row with the largest id stays hot (`mover`). If the application deletes that row, the cold row
//! with the largest id takes its part: it comes back at the next run.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

use super::plan::max_rowid;
use super::started::Started;
use crate::attach;
use crate::catalog::columns;
use crate::catalog::files;
use crate::catalog::tables::{self, ArchivedTable};
use crate::error::Result;
use crate::moving::pace::Pace;
use crate::restore::options::{OnConflict, Options};
use crate::restore::put_back::{Call, Outcome, Started as Restoring};
use crate::restore::select::cold_name;
use crate::schema::Table;
use crate::snapshot::live::Window;
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

/// The name of the INTEGER PRIMARY KEY, if the table has one.
fn key(table: &Table) -> Option<&str> {
    let column = table.columns.get(table.rowid_alias()?)?;
    Some(column.name.as_str())
}

/// The first and the last id of each cold file, as far as they are known, in ascending order. Where
/// such spans overlap, they are one.
fn spans(
    connection: &Connection,
    table: &Table,
    archived: &ArchivedTable,
) -> Result<Vec<(i64, i64)>> {
    let known = columns::follow(&table.name, &archived.columns, &table.columns)?;
    let id = table.rowid_alias().and_then(|alias| *known.get(alias)?);
    let Some(id) = id else {
        return Ok(Vec::new());
    };
    let mut spans = Vec::new();
    for (schema, columns) in tables::schemas(connection, archived.id)? {
        // It may have had another name then.
        let Some(column) = columns.iter().find(|column| column.id == id) else {
            continue;
        };
        for (_, range) in files::ranges(connection, schema, &column.name)? {
            if let Some(span) = range.integers() {
                spans.push(span);
            }
        }
    }
    spans.sort_unstable();
    let mut joined: Vec<(i64, i64)> = Vec::new();
    for (first, last) in spans {
        match joined.last_mut() {
            Some((_, end)) if first <= *end => *end = last.max(*end),
            _ => joined.push((first, last)),
        }
    }
    Ok(joined)
}

/// The largest id in cold files, whether or not the row counts.
pub fn largest(
    connection: &Connection,
    table: &Table,
    archived: &ArchivedTable,
) -> Result<Option<i64>> {
    let spans = spans(connection, table, archived)?;
    Ok(spans.last().map(|(_, last)| *last))
}

/// The largest id of the cold rows, if SQLite would give it to a new row, now or after some others.
pub fn endangered(
    connection: &Connection,
    table: &Table,
    archived: &ArchivedTable,
) -> Result<Option<i64>> {
    let Some(key) = key(table).filter(|_| table.reuses_ids()) else {
        return Ok(None);
    };
    let newest = max_rowid(connection, table)?;
    if largest(connection, table, archived)? <= newest {
        return Ok(None);
    }
    // Of rows that do not count the catalog knows the ids, too.
    let name = attach::attach_table(connection, archived)?;
    let sql = format!("SELECT max({}) FROM {}", quote(key), cold_name(&name));
    let largest: Option<i64> = connection.query_row(&sql, [], |row| row.get(0))?;
    Ok(largest.filter(|_| largest > newest))
}

/// Brings the cold row with the largest id back if SQLite would hand out its id. Says how many rows
/// that are: none where a constraint keeps it out.
pub fn keep_the_lead(started: &Started<'_>) -> Result<u64> {
    let (connection, table) = (started.connection, started.rule.table);
    let (Some(id), Some(key)) = (endangered(connection, table, started.archived)?, key(table))
    else {
        return Ok(0);
    };
    let options = Options {
        window: Window::default(),
        condition: Some(format!("{} = {id}", quote(key))),
        on_conflict: OnConflict::Ignore,
        batch_size: 1,
        pace: Pace {
            pause: Duration::ZERO,
            rows_per_second: 0,
            own_transactions: started.own_transactions,
        },
        dry_run: false,
    };
    let mut outcome = Outcome::default();
    Restoring {
        call: &Call {
            connection,
            archived: started.archived,
            hot: table,
            options: &options,
        },
        run: started.run,
        checked_at: started.checked.at,
        schema_version: started.schema_version,
        own: started.own_transactions,
    }
    .restore(&mut outcome)?;
    Ok(outcome.rows)
}

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
