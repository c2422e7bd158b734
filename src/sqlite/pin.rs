//! A read transaction that lasts as long as a value.

use std::rc::Rc;

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::statement::Reader;
use crate::error::{Error, Result};

/// Columns of EXPLAIN: the name of an instruction, and, of the one that begins a transaction, the number
/// that the database's schema must have.
const OPCODE: usize = 1;
const SCHEMA: usize = 4;

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
    /// Starts the read transaction for SQL in the constructor of a virtual table, which must not meet a
    /// schema that SQLite has not read yet (see [`Table::connect`](super::vtab::Table::connect)). Fails
    /// if there is one. CREATE VIRTUAL TABLE that fails makes SQLite read it, so it works the next time.
    pub fn current(connection: &Rc<Connection>) -> Result<Self> {
        // Neither statement compares the two numbers, as all others do: the first reads that of the
        // file, the second shows the one that a statement would compare it with.
        let mut statement = Reader::new(connection, "PRAGMA main.schema_version")?;
        statement.step()?;
        let mut program = Reader::new(connection, "EXPLAIN SELECT 1 FROM main.sqlite_schema")?;
        while program.step()? {
            if program.value(OPCODE) == ValueRef::Text(b"Transaction")
                && program.value(SCHEMA) == statement.value(0)
            {
                return Ok(Self {
                    _statement: statement,
                });
            }
        }
        Err(Error::refused(
            "another connection has just changed the schema; run it again",
        ))
    }

    /// Starts the read transaction, or joins the one that is open.
    pub fn new(connection: &Rc<Connection>) -> Result<Self> {
        let mut statement = Reader::new(connection, "SELECT 1 FROM main.sqlite_schema")?;
        statement.step()?;
        Ok(Self {
            _statement: statement,
        })
    }
}
