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

use std::collections::{HashMap, HashSet};

use rusqlite::Connection;

use super::columns;
use super::places::{ANCHOR, Entry, Places};
use super::tables::{self, ArchivedTable};
use crate::error::{Error, Result};
use crate::schema::{Column, Key, Table};
use crate::sql::literal;
use crate::sqlite::statement::is_locked_by_itself;

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

/// An archived table as the database has it now.
#[derive(Debug, Clone)]
pub struct Present {
    pub name: String,
    pub columns: Vec<Column>,
    pub key: Key,
}

impl Places {
    /// Looks for an archived table.
    pub fn locate(&self, table: &ArchivedTable) -> Result<Location> {
        if let Some(entry) = self.find(table)? {
            return Ok(Location::Here(entry.name.clone()));
        }
        Ok(match self.named(&table.name) {
            Some(_) => Location::Recreated,
            None => Location::Missing,
        })
    }

    /// An archived table as it is now, `None` if it is not there. It is described anew only where its
    /// statement is not the one that the catalog knows.
    pub fn present(
        &self,
        connection: &Connection,
        table: &ArchivedTable,
    ) -> Result<Option<Present>> {
        let Some(entry) = self.find(table)? else {
            return Ok(None);
        };
        if let Some(key) = &table.key
            && entry.sql == table.sql
        {
            return Ok(Some(Present {
                name: entry.name.clone(),
                columns: table.columns.clone(),
                key: key.clone(),
            }));
        }
        Ok(Table::find(connection, &entry.name)?.map(|hot| Present {
            name: hot.name,
            columns: hot.columns,
            key: hot.key,
        }))
    }

    fn find(&self, table: &ArchivedTable) -> Result<Option<&Entry>> {
        let found = self.find_by_place(table)?;
        // Without cold rows there is nothing that a new table could take for its own.
        Ok(match table.has_files {
            true => found,
            false => found.or_else(|| self.named(&table.name)),
        })
    }

    fn find_by_place(&self, table: &ArchivedTable) -> Result<Option<&Entry>> {
        let anchor = self.anchor()?;
        let Some(known) = table.place else {
            return Ok(None);
        };
        Ok(if anchor.rowid == table.anchor.rowid {
            self.at(known.rowid)
        } else if anchor.rank == table.anchor.rank {
            self.ranked(known.rank)
        } else {
            // RENAME TABLE writes the name anew, in double quotes.
            let old = |entry: &&Entry| entry.place.rowid < anchor.rowid;
            let named = self.named(&table.name).filter(old);
            named.filter(|entry| entry.head() == table.head)
        })
    }
}

impl ArchivedTable {
    /// Whether there is anything to see of a table that is there: of one without cold rows that is gone,
    /// there is not.
    pub fn is_shown(&self, location: &Location) -> bool {
        self.has_files || matches!(location, Location::Here(_))
    }
}

/// Looks for an archived table.
pub fn locate(connection: &Connection, table: &ArchivedTable) -> Result<Location> {
    Places::read(connection)?.locate(table)
}

/// The archived table that the table `name` of the database is, if any. There must be a catalog.
pub fn of_table(connection: &Connection, name: &str) -> Result<Option<ArchivedTable>> {
    let places = Places::read(connection)?;
    let Some(entry) = places.named(name) else {
        return Ok(None);
    };
    let mut same = None;
    for table in tables::candidates(connection, entry.place, &entry.name)? {
        let found = match places.find_by_place(&table)? {
            Some(found) if found.place == entry.place => return Ok(Some(table)),
            Some(_) => continue,
            None => places.find(&table)?,
        };
        if found.is_some() {
            same = Some(table);
        }
    }
    Ok(same)
}

/// Whether `table` is in the database as it was read, and still is the archived table with this id.
pub fn is_still(connection: &Connection, table: &Table, archived: i64) -> Result<bool> {
    Ok(
        Table::find(connection, &table.name)?.as_ref() == Some(table)
            && of_table(connection, &table.name)?.is_some_and(|known| known.id == archived),
    )
}

/// The archived table that a user means by `name`: one that has the name now or, if there is none,
/// one that had it. There must be a catalog.
pub fn find(connection: &Connection, name: &str) -> Result<Option<ArchivedTable>> {
    match of_table(connection, name)? {
        Some(table) => Ok(Some(table)),
        None => tables::find(connection, name),
    }
}

/// All archived tables, by name, each with what it is now. Where a table was renamed to the name of one
/// that is gone, it is the former, and the other has a name that is free.
pub fn survey(connection: &Connection, places: &Places) -> Result<Vec<(ArchivedTable, Location)>> {
    let all = tables::all(connection)?;
    let mut taken = HashSet::new();
    for table in &all {
        taken.extend(places.find_by_place(table)?.map(|entry| entry.place.rowid));
    }
    let mut located = Vec::with_capacity(all.len());
    for table in all {
        let location = match (places.find_by_place(&table)?, places.find(&table)?) {
            (None, Some(entry)) if taken.contains(&entry.place.rowid) => Location::Missing,
            _ => places.locate(&table)?,
        };
        located.push((table, location));
    }
    let names = located.iter().filter_map(|(_, location)| match location {
        Location::Here(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    let names: HashSet<_> = names.collect();
    for (table, location) in &mut located {
        if !matches!(location, Location::Here(_))
            && names.contains(&table.name.to_ascii_lowercase())
        {
            (table.name, *location) = (aside(table), Location::Missing);
        }
    }
    Ok(located)
}

/// The name of an archived table that is gone, and whose name another one has taken.
fn aside(table: &ArchivedTable) -> String {
    format!("{}_{}", table.name, table.id)
}

/// Notes where all archived tables are and what their columns are, so that what ALTER TABLE did since
/// the last look is known for good. Part of the caller's write transaction.
pub fn refresh(connection: &Connection) -> Result<()> {
    let mut places = Places::read(connection)?;
    let located = survey(connection, &places)?;
    // Names may have been swapped: each must be free before it is taken.
    for (table, location) in &located {
        if matches!(location, Location::Here(name) if *name != table.name) {
            rename(connection, table, &format!("_archive_{}", table.id))?;
        }
    }
    for (mut table, location) in located {
        let mut before = table.clone();
        match location {
            Location::Here(name) => {
                follow_name(connection, &mut table, name)?;
                settle(connection, &mut places, &mut table)?;
            }
            Location::Recreated | Location::Missing => {
                // It may have made room for one before it.
                let Some(present) = tables::get(connection, table.id)? else {
                    continue;
                };
                (table, before) = (present.clone(), present);
                table.place = None;
                if tables::forget_unused(connection, &table)? {
                    continue;
                }
            }
        }
        if table != before {
            tables::update(connection, &table)?;
        }
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
        make_room(connection, other)?;
    }
    move_policy(connection, &table.name, &name)?;
    table.name = name;
    Ok(())
}

/// Takes the name, and the table that has it, from an archived table that is gone or has no cold rows. Its
/// history stays, and so does a policy for the name.
pub fn make_room(connection: &Connection, mut other: ArchivedTable) -> Result<()> {
    other.name = aside(&other);
    other.place = None;
    tables::update(connection, &other)?;
    tables::forget_unused(connection, &other)?;
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
fn settle(connection: &Connection, places: &mut Places, table: &mut ArchivedTable) -> Result<()> {
    let entry = stand(connection, places, table)?;
    if entry.sql == table.sql && table.key.is_some() {
        return Ok(());
    }
    if let Some(hot) = Table::find(connection, &table.name)?
        && let Ok(ids) = follow(table, &hot)
    {
        set_columns(connection, table, &hot, &ids)?;
    }
    Ok(())
}

/// Which known column each column of the table is. Where no file has any, all may be new.
fn follow(table: &ArchivedTable, hot: &Table) -> Result<Vec<Option<u32>>> {
    let ids = columns::follow(&table.name, &table.columns, &hot.columns);
    match table.has_files {
        true => ids,
        false => Ok(ids.unwrap_or_else(|_| vec![None; hot.columns.len()])),
    }
}

fn set_columns(
    connection: &Connection,
    table: &mut ArchivedTable,
    hot: &Table,
    ids: &[Option<u32>],
) -> Result<()> {
    table.columns = number(connection, table, hot, ids)?;
    table.key = Some(hot.key.clone());
    table.sql.clone_from(&hot.sql);
    Ok(())
}

fn number(
    connection: &Connection,
    table: &ArchivedTable,
    hot: &Table,
    ids: &[Option<u32>],
) -> Result<Vec<Column>> {
    let stored = tables::schemas(connection, table.id)?;
    let all = stored.values().flatten().chain(&table.columns);
    let next = all.map(|column| column.id + 1).max().unwrap_or(1);
    Ok(columns::number(&hot.columns, ids, next))
}

/// The columns of `hot`, which the archived table is, with their numbers. Fails if it is not certain which is
/// which.
pub fn numbered(
    connection: &Connection,
    table: &ArchivedTable,
    hot: &Table,
) -> Result<Vec<Column>> {
    let ids = follow(table, hot)?;
    number(connection, table, hot, &ids)
}

/// Notes the place of the table that has the archived table's name, and that of the anchor, which comes
/// after it.
fn stand<'p>(
    connection: &Connection,
    places: &'p mut Places,
    table: &mut ArchivedTable,
) -> Result<&'p Entry> {
    let missing = || Error::refused(format!("no such table: {}", table.name));
    let place = places.named(&table.name).ok_or_else(missing)?.place;
    let old = places.anchor()?;
    if place.rowid > old.rowid {
        drop_anchor(connection)?;
        connection.execute_batch(&format!("CREATE TABLE main.{ANCHOR} (unused)"))?;
        *places = Places::read(connection)?;
        let new = places.anchor()?;
        // Every other registered table is where it was, or has been told from the one that has its name.
        let sql = "UPDATE main._archive_table SET anchor = ?2, anchor_rank = ?3 WHERE anchor = ?1";
        connection.execute(sql, (old.rowid, new.rowid, new.rank))?;
    }
    table.anchor = places.anchor()?;
    let entry = places.named(&table.name).ok_or_else(missing)?;
    table.place = Some(entry.place);
    entry.head().clone_into(&mut table.head);
    Ok(entry)
}

/// SQLite drops no table while another statement of the connection is being read. That one waits for
/// this call, so nobody is to wait for it.
fn drop_anchor(connection: &Connection) -> Result<()> {
    match connection.execute_batch(&format!("DROP TABLE main.{ANCHOR}")) {
        Err(_) if is_locked_by_itself(connection) => Err(Error::refused(
            "a table that is newer than the archive catalog can only be registered while no other \
             statement of the connection is being read: read it to its end or reset it, then call \
             again, without FROM",
        )),
        dropped => Ok(dropped?),
    }
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
            settle(connection, &mut Places::read(connection)?, &mut table)?;
            tables::update(connection, &table)?;
            id
        }
    };
    let table = get(connection, id)?;
    // An uncertain change of columns must not be written into a file.
    follow(&table, hot)?;
    Ok(table)
}

fn get(connection: &Connection, id: i64) -> Result<ArchivedTable> {
    tables::get(connection, id)?
        .ok_or_else(|| Error::Internal(format!("the archived table {id} is gone")))
}

/// Takes the table that has the archived table's name for it, after the catalog was lost: places tell nothing
/// any more. Fails if it is not certain which of its columns is which.
pub fn stay(connection: &Connection, table: &mut ArchivedTable) -> Result<()> {
    let hot = Table::find(connection, &table.name)?
        .ok_or_else(|| Error::refused(format!("no such table: {}", table.name)))?;
    let ids = follow(table, &hot)?;
    stand(connection, &mut Places::read(connection)?, table)?;
    set_columns(connection, table, &hot, &ids)?;
    tables::update(connection, table)
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
    stand(connection, &mut Places::read(connection)?, table)?;
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
