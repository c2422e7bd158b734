//! Ids that SQLite could hand out again, or has.
//!
//! A new row of a table whose INTEGER PRIMARY KEY is not AUTOINCREMENT gets the largest id and one. So
//! the row with the largest id stays hot (`mover`). If the application deletes that row, the cold row
//! with the largest id takes its part: it comes back at the next run.

use rusqlite::Connection;

use super::plan::max_rowid;
use crate::attach;
use crate::catalog::ids::{key, largest};
use crate::catalog::tables::ArchivedTable;
use crate::error::Result;
use crate::moving::run::Running;
use crate::restore::batches::{Call, Outcome, Started as Restoring};
use crate::restore::options::{OnConflict, Options};
use crate::schema::Table;
use crate::settings::Config;
use crate::snapshot::live::Window;
use crate::snapshot::statements::cold_name;
use crate::sql::quote;

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
pub fn keep_the_lead(
    run: &Running<'_>,
    config: &Config,
    table: &Table,
    archived: &ArchivedTable,
) -> Result<u64> {
    let connection = run.connection;
    let (Some(id), Some(key)) = (endangered(connection, table, archived)?, key(table)) else {
        return Ok(0);
    };
    let options = Options {
        window: Window::default(),
        condition: Some(format!("{} = {id}", quote(key))),
        on_conflict: OnConflict::Ignore,
        batch_size: 1,
        pace: run.pace,
        dry_run: false,
        config: config.clone(),
    };
    let mut outcome = Outcome::default();
    Restoring {
        call: &Call {
            connection,
            archived,
            hot: table,
            options: &options,
        },
        run,
    }
    .restore(&mut outcome)?;
    Ok(outcome.rows)
}
