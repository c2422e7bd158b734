//! A transaction of ours on the caller's connection: it ends, whatever happens in it.
//!
//! ROLLBACK can fail. While the flag of `sqlite3_interrupt` is set, every statement that is started
//! fails with SQLITE_INTERRUPT, ROLLBACK and ROLLBACK TO included; running out of memory sets it,
//! too. The flag stays until no statement of the connection runs any more, and ours run inside the
//! caller's. A transaction left open there would be half done, rows deleted and not yet published,
//! and the application's next COMMIT would make that durable.
//!
//! What SQLite does by itself is the way out: a statement that *writes* and ends with one of these
//! errors rolls back the whole transaction
//! (<https://www.sqlite.org/lang_transaction.html#response_to_errors_within_a_transaction>). BEGIN
//! IMMEDIATE is one that writes (<https://www.sqlite.org/c3ref/stmt_readonly.html>). Where the flag is
//! set it fails before it has done anything, which undoes the transaction; where it is not, it fails
//! because there is a transaction, which changes nothing. So it is started where ROLLBACK has failed.
//!
//! Nothing can be prepared after an interrupt, so the statements that end a transaction are prepared
//! when it begins. CREATE INDEX, TEMP objects and `MoveMode` make SQLite prepare them again, which an
//! interrupt refuses; [`LAST_RESORT`] is for that.

use rusqlite::{Connection, ErrorCode, Statement};

use super::patience::patiently;
use crate::error::{Error, Result};
use crate::sqlite::panic::guard;
use crate::sqlite::statement::{is_held_back, is_writing};

/// A statement that writes, and can be prepared while the flag is set: SQLite's parser looks at it
/// where it meets white space or the end of the text (`sqlite3RunParser`, 3.34 to 3.54). Inside a
/// transaction VACUUM does nothing but fail.
const LAST_RESORT: &str = "VACUUM;";

/// Which lock a transaction starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// None: it reads `main` at most.
    Deferred,
    /// The one that writers need.
    Immediate,
}

/// Runs `body` in a transaction of its own, which must not be inside another. If `body` or COMMIT
/// fails, everything `body` did is undone and no transaction is open. After an interrupt COMMIT may
/// have worked all the same.
pub fn own<T>(
    connection: &Connection,
    begin: Begin,
    body: impl FnOnce() -> Result<T>,
) -> Result<T> {
    if is_writing(connection) {
        // COMMIT would fail, and ROLLBACK undo what that statement has written, without a word: one with
        // RETURNING gives out its rows all the same.
        return Err(Error::refused(
            "cannot commit transaction - SQL statements in progress",
        ));
    }
    let mut commit = connection.prepare("COMMIT")?;
    let mut way_out = WayOut::new(connection)?;
    // A progress handler can make a statement fail after it has done its work: BEGIN, too.
    let begun = match begin {
        Begin::Deferred => connection.execute_batch("BEGIN").map_err(Error::from),
        Begin::Immediate => way_out.begin_immediate(),
    };
    // A panic, too, must not leave a transaction open.
    let outcome = begun.and_then(|()| guard(body));
    let outcome = outcome.and_then(|done| {
        // In rollback-journal mode a reader holds up COMMIT, which can be tried again; the whole
        // transaction need not be.
        patiently(|| Ok(commit.execute([])?))?;
        Ok(done)
    });
    outcome.map_err(|error| way_out.undo(error))
}

/// Runs `body` as a part of the caller's transaction. If it fails, everything it did is undone; after
/// an interrupt the caller's whole transaction is, as after any other interrupted write.
pub fn part<T>(connection: &Connection, body: impl FnOnce() -> Result<T>) -> Result<T> {
    let mut release = connection.prepare("RELEASE sqlite_cold")?;
    let mut back = connection.prepare("ROLLBACK TO sqlite_cold")?;
    let mut way_out = WayOut::new(connection)?;
    match connection.execute_batch("SAVEPOINT sqlite_cold") {
        Ok(()) => {}
        // A statement of the connection is writing: there is no savepoint.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
            return Err(error.into());
        }
        // There may be one.
        Err(error) => return Err(way_out.undo(error.into())),
    }
    let outcome = guard(body).and_then(|done| {
        release.execute([])?;
        Ok(done)
    });
    outcome.map_err(|error| {
        let undone =
            !connection.is_autocommit() && back.execute([]).is_ok() && release.execute([]).is_ok();
        match undone {
            true => error,
            false => way_out.undo(error),
        }
    })
}

/// Runs `body` in a transaction of its own or, inside the caller's, as a part of it, and undoes all that
/// it did.
pub fn trial<T>(connection: &Connection, body: impl FnOnce() -> Result<T>) -> Result<T> {
    let alone = connection.is_autocommit();
    let mut tried = None;
    let run = || {
        tried = Some(body()?);
        Err(Error::refused("a trial is never committed"))
    };
    let undone: Result<()> = match alone {
        true => own(connection, Begin::Immediate, run),
        false => part(connection, run),
    };
    match (undone, tried) {
        (Err(error @ Error::Internal(_)), _) | (Err(error), None) => Err(error),
        (_, Some(_)) if !alone && connection.is_autocommit() => Err(Error::refused(
            "an interrupt has rolled the caller's transaction back",
        )),
        (_, Some(tried)) => Ok(tried),
        (Ok(()), None) => Err(Error::Internal("a trial was committed".into())),
    }
}

/// Runs the whole body of a transaction that makes SQLite prepare every statement again (CREATE INDEX,
/// TEMP objects), but drops no table of `main`.
///
/// Once memory was lacking, SQLite prepares nothing until the caller's statement has ended, so that not
/// even [`LAST_RESORT`] is left. What is left is a statement that has begun: one that reads, goes on and
/// finds no memory rolls back the whole transaction.
pub fn renewing<T>(connection: &Connection, body: impl FnOnce() -> Result<T>) -> Result<T> {
    let mut reader = connection.prepare("SELECT (SELECT 1 FROM temp.sqlite_schema)")?;
    let mut rows = reader.query([])?;
    rows.next()?;
    let outcome = guard(body);
    if outcome.is_err() {
        // In any other case it has no more rows, or is interrupted, which changes nothing.
        let _ = rows.next();
    }
    outcome
}

/// Runs `body` in a write transaction of its own or, inside the caller's transaction, as a part of
/// it. Either way everything `body` did is undone if it fails.
pub fn write_transaction<T>(
    connection: &Connection,
    mut body: impl FnMut() -> Result<T>,
) -> Result<T> {
    match connection.is_autocommit() {
        true => patiently(|| own(connection, Begin::Immediate, &mut body)),
        // The caller's transaction has read by now. Who writes meanwhile may be waiting for its end; and
        // once they have written, it can write no more.
        false => part(connection, body),
    }
}

/// [`write_transaction`] for a `body` that changes TEMP objects only: it takes no lock of `main`.
pub fn temp_transaction<T>(connection: &Connection, body: impl FnOnce() -> Result<T>) -> Result<T> {
    let body = || renewing(connection, body);
    match connection.is_autocommit() {
        true => own(connection, Begin::Deferred, body),
        false => part(connection, body),
    }
}

/// Runs `body` so that all it reads is of one state of `main`. It must be short: it can be in the way
/// of writers.
///
/// What holds the state is a statement that is not finished. Unlike BEGIN and SAVEPOINT that needs
/// nothing to end it, which an interrupt could refuse.
pub fn read_transaction<T>(connection: &Connection, body: impl FnOnce() -> Result<T>) -> Result<T> {
    let mut pin = connection.prepare("SELECT (SELECT 1 FROM main.sqlite_schema)")?;
    let mut rows = pin.query([])?;
    rows.next()?;
    guard(body)
}

/// What ends a transaction that cannot go on.
struct WayOut<'c> {
    connection: &'c Connection,
    rollback: Statement<'c>,
    /// BEGIN IMMEDIATE: see above.
    rescue: Statement<'c>,
}

impl<'c> WayOut<'c> {
    fn new(connection: &'c Connection) -> Result<Self> {
        Ok(Self {
            connection,
            rollback: connection.prepare("ROLLBACK")?,
            rescue: connection.prepare("BEGIN IMMEDIATE")?,
        })
    }

    /// Begins a transaction with the writers' lock.
    fn begin_immediate(&mut self) -> Result<()> {
        match self.rescue.execute([]) {
            Ok(_) => Ok(()),
            // It waits for this call, so nobody is to wait for it.
            Err(_) if is_held_back(self.connection) => Err(Error::refused(
                "another connection has written since a statement of this one began, which is not \
                 finished: read it to its end or reset it, then call again",
            )),
            Err(error) => Err(error.into()),
        }
    }

    /// Undoes the transaction because of `error`, and returns that.
    fn undo(&mut self, error: Error) -> Error {
        // SQLite may have rolled back by itself. Whether a statement did, only the connection tells.
        let is_open = || !self.connection.is_autocommit();
        if is_open() {
            let _ = self.rollback.execute([]);
        }
        if is_open() {
            let _ = self.rescue.execute([]);
        }
        if is_open() {
            let _ = self.connection.execute_batch(LAST_RESORT);
        }
        if is_open() {
            // What struck ROLLBACK struck it alone: a progress handler that fails one step.
            let _ = self.rollback.execute([]);
        }
        match self.connection.is_autocommit() {
            true => error,
            false => Error::Internal(format!(
                "{error}; and SQLite does not roll the transaction back: run ROLLBACK before anything else"
            )),
        }
    }
}
