//! Which table of the database an archived table is, after ALTER TABLE, DROP TABLE and VACUUM.
//!
//! SQLite keeps no identity of a table, but `sqlite_schema` has an order: a new table comes last,
//! RENAME TABLE leaves a table in its place, and VACUUM and `.dump` keep tables in their order. The
//! catalog's empty table `_archive_anchor` was created after every table that is registered. So
//!
//! - a table that comes after the anchor was created later than the one that is registered, even if it
//!   has its name: cold rows are never shown as its own without being asked for;
//! - while the anchor is where it was, so is every table before it, whatever its name is now. Where VACUUM
//!   or `.dump` has given both new rowids, their ranks are the same, unless a table was dropped as well.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension};

use super::columns;
use super::tables::{self, ArchivedTable, Place};
use crate::error::{Error, Result};
use crate::sql::literal;
use crate::table::Table;

const ANCHOR: &str = "_archive_anchor";

/// Where an archived table is in the database.
#[derive(Debug, Clone, PartialEq)]
pub enum Location {
    /// It is there, and has this name now.
    Here(String),
    /// There is a table of its name, which was created later.
    Recreated,
    /// It was dropped, or renamed before a VACUUM.
    Missing,
}

/// Looks for an archived table.
pub fn locate(connection: &Connection, table: &ArchivedTable) -> Result<Location> {
    let anchor = anchor(connection)?;
    let named = place(connection, &table.name)?;
    let Some(known) = table.place else {
        return Ok(match named {
            Some(_) => Location::Recreated,
            None => Location::Missing,
        });
    };
    let found = if anchor.rowid == table.anchor.rowid {
        name_at(connection, known.rowid)?
    } else if anchor.rank == table.anchor.rank {
        name_of_rank(connection, known.rank)?
    } else {
        // RENAME TABLE writes the name anew, in double quotes.
        let old = |(place, _): &(Place, String)| place.rowid < anchor.rowid;
        match named.clone().filter(old) {
            Some((_, name)) if head(connection, &name)? == table.head => Some(name),
            _ => None,
        }
    };
    Ok(match (found, named) {
        (Some(name), _) => Location::Here(name),
        (None, Some(_)) => Location::Recreated,
        (None, None) => Location::Missing,
    })
}

fn anchor(connection: &Connection) -> Result<Place> {
    let found = place(connection, ANCHOR)?.map(|(place, _)| place);
    found.ok_or_else(|| {
        Error::refused(format!(
            "the archive catalog is damaged: it has no table {ANCHOR}"
        ))
    })
}

/// SQL for a table that is not SQLite's own, which come and go by themselves, and not a virtual one,
/// which VACUUM moves to the end. No LIKE: an application may have put its own function in the place
/// of SQLite's.
const IS_TABLE: &str = "type = 'table' AND rootpage > 0
    AND NOT (name COLLATE NOCASE >= 'sqlite_' AND name COLLATE NOCASE < 'sqlite`')";

/// The place of a table, and its name as it is written there.
fn place(connection: &Connection, name: &str) -> Result<Option<(Place, String)>> {
    let sql = "SELECT rowid, name FROM main.sqlite_schema
               WHERE type = 'table' AND name = ?1 COLLATE NOCASE";
    let mut statement = connection.prepare_cached(sql)?;
    let row = statement.query_row([name], |row| Ok((row.get(0)?, row.get(1)?)));
    let Some((rowid, name)) = row.optional()? else {
        return Ok(None);
    };
    let sql = format!("SELECT count(*) FROM main.sqlite_schema WHERE rowid < ?1 AND {IS_TABLE}");
    let mut statement = connection.prepare_cached(&sql)?;
    let rank = statement.query_row([rowid], |row| row.get(0))?;
    Ok(Some((Place { rowid, rank }, name)))
}

/// How the CREATE TABLE statement of a table begins, up to the columns.
fn head(connection: &Connection, name: &str) -> Result<String> {
    let sql =
        "SELECT sql FROM main.sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE";
    let mut statement = connection.prepare_cached(sql)?;
    let sql: String = statement.query_row([name], |row| row.get(0))?;
    Ok(sql
        .split('(')
        .next()
        .unwrap_or_default()
        .trim_end()
        .to_owned())
}

/// The name of the table in a place of `sqlite_schema`.
fn name_at(connection: &Connection, place: i64) -> Result<Option<String>> {
    let sql = "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND rowid = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row([place], |row| row.get(0)).optional()?)
}

/// The name of the table that so many come before.
fn name_of_rank(connection: &Connection, rank: i64) -> Result<Option<String>> {
    let sql = format!(
        "SELECT name FROM main.sqlite_schema WHERE {IS_TABLE} ORDER BY rowid LIMIT 1 OFFSET ?1"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(statement.query_row([rank], |row| row.get(0)).optional()?)
}

/// The archived table that the table `name` of the database is, if any. There must be a catalog.
pub fn of_table(connection: &Connection, name: &str) -> Result<Option<ArchivedTable>> {
    for table in tables::all(connection)? {
        if let Location::Here(present) = locate(connection, &table)?
            && present.eq_ignore_ascii_case(name)
        {
            return Ok(Some(table));
        }
    }
    Ok(None)
}

/// The archived table that a user means by `name`: one that has the name now or, if there is none,
/// one that had it. There must be a catalog.
pub fn find(connection: &Connection, name: &str) -> Result<Option<ArchivedTable>> {
    match of_table(connection, name)? {
        Some(table) => Ok(Some(table)),
        None => tables::find(connection, name),
    }
}

/// Notes where all archived tables are and what their columns are, so that what ALTER TABLE did since
/// the last look is known for good. Part of the caller's write transaction.
pub fn refresh(connection: &Connection) -> Result<()> {
    let mut located = Vec::new();
    for table in tables::all(connection)? {
        let location = locate(connection, &table)?;
        located.push((table, location));
    }
    // Names may have been swapped: each must be free before it is taken.
    for (table, location) in &located {
        if matches!(location, Location::Here(name) if *name != table.name) {
            rename(connection, table, &format!("_archive_{}", table.id))?;
        }
    }
    for (mut table, location) in located {
        match location {
            Location::Here(name) => {
                follow_name(connection, &mut table, name)?;
                settle(connection, &mut table)?;
            }
            Location::Recreated | Location::Missing => table.place = None,
        }
        tables::update(connection, &table)?;
    }
    Ok(())
}

fn rename(connection: &Connection, table: &ArchivedTable, name: &str) -> Result<()> {
    let sql = "UPDATE main._archive_table SET name = ?2 WHERE id = ?1";
    connection.execute(sql, (table.id, name))?;
    Ok(())
}

/// Gives an archived table the name that it has now, and its policy, too. Another one that had the
/// name, and is gone, makes room.
fn follow_name(connection: &Connection, table: &mut ArchivedTable, name: String) -> Result<()> {
    if name == table.name {
        return Ok(());
    }
    if let Some(other) = tables::find(connection, &name)?.filter(|other| other.id != table.id) {
        rename(connection, &other, &format!("{name}_{}", other.id))?;
    }
    move_policy(connection, &table.name, &name)?;
    table.name = name;
    Ok(())
}

/// The policy of a table that was renamed goes along, unless there is one for the new name.
pub fn move_policy(connection: &Connection, old: &str, new: &str) -> Result<()> {
    let sql = "UPDATE OR IGNORE main._archive_policy SET table_name = ?2 WHERE table_name = ?1";
    connection.execute(sql, (old, new))?;
    Ok(())
}

/// Takes the table that has the archived table's name for it: notes its place and columns. What is not
/// certain of the columns stays as it was, for queries to complain.
fn settle(connection: &Connection, table: &mut ArchivedTable) -> Result<()> {
    let (place, anchor) = place_before_anchor(connection, &table.name)?;
    (table.place, table.anchor) = (Some(place), anchor);
    table.head = head(connection, &table.name)?;
    if let Some(hot) = Table::find(connection, &table.name)?
        && let Ok(ids) = columns::follow(&table.name, &table.columns, &hot.columns)
    {
        set_columns(connection, table, &hot, &ids)?;
    }
    Ok(())
}

fn set_columns(
    connection: &Connection,
    table: &mut ArchivedTable,
    hot: &Table,
    ids: &[Option<u32>],
) -> Result<()> {
    let stored = tables::schemas(connection, table.id)?;
    let all = stored.values().flatten().chain(&table.columns);
    let next = all.map(|column| column.id + 1).max().unwrap_or(1);
    table.columns = columns::number(&hot.columns, ids, next);
    Ok(())
}

/// The places of a table of the database and of the anchor, which comes after it.
fn place_before_anchor(connection: &Connection, name: &str) -> Result<(Place, Place)> {
    let missing = || Error::refused(format!("no such table: {name}"));
    let (table, _) = place(connection, name)?.ok_or_else(missing)?;
    let old = anchor(connection)?;
    if table.rowid < old.rowid {
        return Ok((table, old));
    }
    connection.execute_batch(&format!(
        "DROP TABLE main.{ANCHOR}; CREATE TABLE main.{ANCHOR} (unused);"
    ))?;
    let new = anchor(connection)?;
    // Every other registered table is where it was, or has been told from the one that has its name.
    // The anchor is no longer before this one.
    let (table, _) = place(connection, name)?.ok_or_else(missing)?;
    let sql = "UPDATE main._archive_table SET anchor = ?2, anchor_rank = ?3 WHERE anchor = ?1";
    connection.execute(sql, (old.rowid, new.rowid, new.rank))?;
    Ok((table, new))
}

/// The archived table that `hot` is, with everything known of it brought up to date; it is registered
/// if it is new. Part of the caller's write transaction.
pub fn register(connection: &Connection, hot: &Table, folder: &str) -> Result<ArchivedTable> {
    refresh(connection)?;
    let id = match tables::find(connection, &hot.name)? {
        Some(table) if table.place.is_none() => return Err(recreated(&table.name)),
        Some(table) => table.id,
        None => {
            let id = tables::insert(connection, &hot.name, folder, &[])?;
            let mut table = get(connection, id)?;
            settle(connection, &mut table)?;
            tables::update(connection, &table)?;
            id
        }
    };
    let table = get(connection, id)?;
    // An uncertain change of columns must not be written into a file.
    columns::follow(&table.name, &table.columns, &hot.columns)?;
    Ok(table)
}

fn get(connection: &Connection, id: i64) -> Result<ArchivedTable> {
    tables::get(connection, id)?
        .ok_or_else(|| Error::Internal(format!("the archived table {id} is gone")))
}

/// Takes the table that has the archived table's name for it, by its owner's word. `told` is what
/// became of columns that are not certain; the others go by their names. `call` is how the owner's call
/// begins.
pub fn adopt(
    connection: &Connection,
    table: &mut ArchivedTable,
    told: &HashMap<String, Option<String>>,
    call: &str,
) -> Result<()> {
    let hot = Table::find(connection, &table.name)?
        .ok_or_else(|| Error::refused(format!("no such table: {}", table.name)))?;
    // Only ALTER TABLE keeps columns in their order: of a table that was created again, names alone
    // say which column is which.
    let ids = match told.is_empty() && table.place.is_some() {
        true => columns::follow(&table.name, &table.columns, &hot.columns)?,
        false => columns::follow_as_told(&table.name, &table.columns, &hot.columns, told, call)?,
    };
    let (place, anchor) = place_before_anchor(connection, &table.name)?;
    (table.place, table.anchor) = (Some(place), anchor);
    table.head = head(connection, &table.name)?;
    set_columns(connection, table, &hot, &ids)?;
    tables::update(connection, table)
}

/// The error for a table that has the name of an archived one, but is not that one.
pub fn recreated(name: &str) -> Error {
    let literal = literal(name);
    Error::refused(format!(
        "{name} was dropped and created again since rows were archived; call archive_adopt({literal}) if \
         the new table goes on where the old one ended, or archive_rename({literal}, '...') to keep \
         the old rows apart under another name"
    ))
}

/// The error for an archived table that is not in the database.
pub fn missing(name: &str) -> Error {
    let literal = literal(name);
    Error::refused(format!(
        "{name} is no longer in the database; cold_{name} has its cold rows. If it was renamed, call \
         archive_rename({literal}, 'its new name')"
    ))
}
