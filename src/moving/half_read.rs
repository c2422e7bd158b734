//! Queries of the caller's that have not ended, and would show rows that move twice or not at all.
//!
//! A scan keeps other connections' changes out, but SQLite shows a query what its own connection
//! writes. One of `all_t` has the cold rows of when it began, and meets the hot rows of now: those that
//! have become cold since are in neither, and those that came back are in both.

use rusqlite::Connection;

use crate::error::{Error, Result};
use crate::schema::Table;
use crate::schema::generated::without_semicolons;
use crate::sqlite::statement::running;

/// Columns of EXPLAIN: the name of an instruction, and, of one that opens a table or an index, its page
/// and its database.
const OPCODE: usize = 1;
const PAGE: usize = 3;
const DATABASE: usize = 4;

/// The number of `main` among a connection's databases.
const MAIN: i64 = 0;

/// Refuses to move rows of `table` while a query of the connection has not ended that reads them, and
/// those of a virtual table.
pub fn refuse(connection: &Connection, table: &Table) -> Result<()> {
    let mut pages = None;
    for sql in running(connection) {
        let opened = opened(connection, &sql)?;
        if !opened.is_virtual || opened.pages.is_empty() {
            continue;
        }
        let own = match &pages {
            Some(pages) => pages,
            None => pages.insert(root_pages(connection, table)?),
        };
        if opened.pages.iter().any(|page| own.contains(page)) {
            return Err(Error::refused(format!(
                "a query of this connection reads hot and cold rows of {} and is not finished: it \
                 would show rows that move twice or not at all; read it to its end or reset it, then \
                 call again",
                table.name
            )));
        }
    }
    Ok(())
}

/// What a statement reads.
#[derive(Default)]
struct Opened {
    /// Pages of `main`, where tables and indexes begin.
    pages: Vec<i64>,
    /// Whether there is a virtual table, too.
    is_virtual: bool,
}

/// What a statement reads, as SQLite has compiled it.
fn opened(connection: &Connection, sql: &str) -> Result<Opened> {
    let sql = without_semicolons(sql);
    let mut statement = connection.prepare(&format!("EXPLAIN {sql}"))?;
    // Its parameters stay NULL: nothing but the program is shown.
    let mut rows = statement.raw_query();
    let mut opened = Opened::default();
    while let Some(row) = rows.next()? {
        match row.get_ref(OPCODE)?.as_str().unwrap_or_default() {
            "VOpen" => opened.is_virtual = true,
            "OpenRead" | "ReopenIdx" if row.get::<_, i64>(DATABASE)? == MAIN => {
                opened.pages.push(row.get(PAGE)?);
            }
            _ => {}
        }
    }
    Ok(opened)
}

/// Where the table and its indexes begin.
fn root_pages(connection: &Connection, table: &Table) -> Result<Vec<i64>> {
    let sql = "SELECT rootpage FROM main.sqlite_schema
               WHERE tbl_name = ?1 COLLATE NOCASE AND rootpage > 0";
    let mut statement = connection.prepare(sql)?;
    let pages = statement.query_map([&table.name], |row| row.get(0))?;
    Ok(pages.collect::<Result<_, _>>()?)
}
