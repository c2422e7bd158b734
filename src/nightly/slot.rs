//! A slot of the schedule has come: the run, once among all processes that share the database.

use std::path::Path;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::open;
use super::run;
use crate::catalog;
use crate::error::Result;
use crate::recover::lost;
use crate::settings::{self, AUTO_ARCHIVE_ENABLED, Config};
use crate::sql::{patiently, write_transaction};
use crate::time::clock;

/// Gives a connection of the schedule's own what loading the library gives the application's.
pub type Load = fn(&Connection) -> Result<()>;

/// Runs the job if no other process has done so at this slot. Nothing of the database stays open, and
/// a file that is not there is not created.
pub fn run(database: &Path, slot: DateTime<Utc>, load: Load) -> Result<()> {
    // The application may be in the middle of something long.
    let connection = patiently(|| open(database, OpenFlags::SQLITE_OPEN_READ_WRITE))?;
    lost::check(&connection)?;
    // Without a catalog there is no policy; and it is the application that decides to make one.
    if !catalog::exists(&connection)?
        || !AUTO_ARCHIVE_ENABLED.is_on_everywhere(&Config::read(&connection)?)?
    {
        return Ok(());
    }
    settings::check_writable(&connection)?;
    load(&connection)?;
    match claim(&connection, slot)? {
        true => run::scheduled(&connection),
        false => Ok(()),
    }
}

/// Whether the slot falls to the caller: the first of all processes that asks gets it, and no one
/// gets it, or one before it, again. There must be a catalog.
pub fn claim(connection: &Connection, slot: DateTime<Utc>) -> Result<bool> {
    write_transaction(connection, || {
        let sql = "SELECT value FROM main._archive_meta
                   WHERE key = 'last_slot' AND typeof(value) = 'text'";
        let last: Option<String> = connection.query_row(sql, [], |row| row.get(0)).optional()?;
        let slot = clock::stamp_of(slot);
        // One that has not come yet is from a clock that was wrong, and must not stand in the way
        // until it comes.
        if last.is_some_and(|last| slot <= last && last <= clock::stamp()) {
            return Ok(false);
        }
        let sql = "INSERT OR REPLACE INTO main._archive_meta VALUES ('last_slot', ?1)";
        connection.execute(sql, [slot])?;
        Ok(true)
    })
}
