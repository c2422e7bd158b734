//! A read transaction that lasts as long as a value.

use std::rc::Rc;

use rusqlite::Connection;

use super::statement::Reader;
use crate::error::Result;

/// Keeps a read transaction on `main` open, so that everything read through the connection until
/// it is dropped comes from one snapshot.
///
/// A cold cursor holds one from open to close. SQLite starts a transaction on `main` by itself only
/// for statements that name a table there; a query over `cold_t` alone names none, and two catalog
/// reads of one query could otherwise see two states of the archive.
pub struct ReadPin {
    _statement: Reader,
}

impl ReadPin {
    /// Starts the read transaction, or joins the one that is open.
    pub fn new(connection: &Rc<Connection>) -> Result<Self> {
        let mut statement = Reader::new(connection, "SELECT 1 FROM main.sqlite_schema")?;
        statement.step()?;
        Ok(Self {
            _statement: statement,
        })
    }
}
