//! One run, from its lock to the line about its end in the history, and the short transactions that it is made of.
//!
//! Alone, a run has a lock and transactions of its own, and what it committed before an error stays. Inside the
//! caller's transaction it is one savepoint, and ROLLBACK undoes all of it. Either way it has its line in the
//! history from the transaction on in which it looked at the schema, and each transaction that moves rows writes
//! there how far it has got.

use std::cell::Cell;
use std::time::Instant;

use rusqlite::Connection;

use super::leftovers;
use super::pace::Pace;
use crate::catalog::identity;
use crate::catalog::runs::{self, Moved, Run, Subject};
use crate::error::{Error, Result};
use crate::fault;
use crate::schema::Table;
use crate::sql::{self, transaction, write_transaction};
use crate::storage::{Archive, Lock};

/// Runs `body`: alone, in transactions of its own; inside the caller's transaction as a part of that, and an error
/// leaves nothing.
pub fn whole<T>(connection: &Connection, body: impl FnOnce() -> Result<T>) -> Result<T> {
    match connection.is_autocommit() {
        true => body(),
        false => transaction::part(connection, body),
    }
}

/// Takes the archive's lock, unless the caller holds it already. Nobody else is at work from here on, so the books
/// on runs whose process died are closed.
pub fn lock(connection: &Connection, archive: &Archive, held: Option<Lock>) -> Result<Lock> {
    if let Some(lock) = held {
        return Ok(lock);
    }
    let lock = archive.lock()?;
    if connection.is_autocommit() {
        leftovers::bury_dead_runs(connection, archive)?;
    }
    Ok(lock)
}

/// A run that has its line in the history.
pub struct Running<'c> {
    pub connection: &'c Connection,
    pub run: Run,
    pub pace: Pace,
    /// `sql::data_version` before anything was looked at.
    pub checked_at: i64,
    /// `sql::schema_version` when the table was looked at last.
    schema_version: Cell<i64>,
}

impl<'c> Running<'c> {
    /// Writes down that a run begins. What `subject` looks at before, in the same transaction, nobody changes any
    /// more without being noticed.
    pub fn begin<'s, T>(
        connection: &'c Connection,
        pace: Pace,
        checked_at: i64,
        mut look: impl FnMut() -> Result<(T, Subject<'s>)>,
    ) -> Result<(Self, T)> {
        write_transaction(connection, || {
            let (seen, subject) = look()?;
            let run = Self {
                connection,
                run: runs::begin(connection, subject)?,
                pace,
                checked_at,
                schema_version: Cell::new(sql::schema_version(connection)?),
            };
            Ok((run, seen))
        })
    }

    /// Writes down how the run ended, which moved so much, and returns that.
    pub fn end<T>(&self, moved: Moved, outcome: Result<T>) -> Result<T> {
        let message = outcome.as_ref().err().map(ToString::to_string);
        let ended = write_transaction(self.connection, || {
            runs::end(self.connection, &self.run, moved, message.as_deref())
        });
        let done = outcome?;
        ended.map(|()| done)
    }

    /// Writes down how many rows are about to move.
    pub fn plan(&self, rows: u64) -> Result<()> {
        write_transaction(self.connection, || {
            runs::plan(self.connection, &self.run, rows)
        })
    }

    /// One short transaction, and then a while that is left to others. `body` moves what comes next, as much as
    /// there is time for. What it did is for the caller to note: it may be rolled back and tried again.
    pub fn transaction<T>(
        &self,
        points: Points,
        mut body: impl FnMut(Turn) -> Result<Done<T>>,
    ) -> Result<T> {
        let mut began = Instant::now();
        let mut quiet = true;
        let done = write_transaction(self.connection, || {
            began = Instant::now();
            if let Some(begin) = points.begin {
                fault::point(begin)?;
            }
            quiet = self.checked_at == sql::data_version(self.connection)?;
            let done = body(Turn {
                quiet,
                deadline: self.pace.deadline(began, quiet),
            })?;
            runs::advance(self.connection, self.run.id, done.moved)?;
            fault::point(points.commit)?;
            Ok(done)
        })?;
        self.pace.give_way(began.elapsed(), quiet, done.rows);
        Ok(done.result)
    }

    /// Fails if somebody has changed the schema of the table since it was looked at; that of others may change.
    /// `same` is asked once the schema has changed at all, and may know more that must be as it was.
    pub fn check_schema(
        &self,
        table: &Table,
        archived: i64,
        same: impl FnOnce() -> Result<bool>,
    ) -> Result<()> {
        let version = sql::schema_version(self.connection)?;
        if version == self.schema_version.get() {
            return Ok(());
        }
        if !identity::is_still(self.connection, table, archived)? || !same()? {
            return Err(Error::refused(format!(
                "another connection changed the schema of {} during the run; call it again",
                table.name
            )));
        }
        self.schema_version.set(version);
        Ok(())
    }
}

/// The fault points of a short transaction.
#[derive(Debug, Clone, Copy)]
pub struct Points {
    pub begin: Option<&'static str>,
    pub commit: &'static str,
}

/// What a short transaction is told.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// Whether nobody else has committed anything since the run began.
    pub quiet: bool,
    /// When it ought to end; the caller's own transaction is not ours to end.
    pub deadline: Option<Instant>,
}

impl Turn {
    pub fn is_over(self) -> bool {
        self.deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
    }
}

/// What a short transaction did.
pub struct Done<T> {
    pub result: T,
    /// What the whole run has moved by now.
    pub moved: Moved,
    /// The rows of this transaction, which the pace counts.
    pub rows: u64,
}
