//! `cold_t` and `all_t`: the TEMP objects that a connection sees an archived table through.
//!
//! They are TEMP so that the database file stays ordinary, and because `trusted_schema=OFF` refuses
//! a persistent view over a virtual table.
//!
//! - [`names`]: names that others have
//! - [`objects`]: the TEMP objects that are there, and their statements

pub mod names;
pub mod objects;

use std::collections::HashMap;

use rusqlite::Connection;
use serde_json::{Value as Json, json};

use self::names::Names;
use self::objects::{Objects, Wanted};
use crate::catalog;
use crate::catalog::identity::{self, Location, Present};
use crate::catalog::places::Places;
use crate::catalog::tables::ArchivedTable;
use crate::error::{Error, Result};
use crate::snapshot::columns::Mode;
use crate::snapshot::shape::shape_with;
use crate::snapshot::statements::object_names;
use crate::sql;
use crate::value::{Encoding, Value};

/// `archive_attach()`: makes what is missing, makes again what has changed, and drops what has no table
/// any more. What cannot be made for one table is in `problems`.
pub fn archive_attach(connection: &Connection, _arguments: &[Value<'_>]) -> Result<Json> {
    let mut attached = Vec::new();
    let mut problems = Vec::new();
    if catalog::exists(connection)? {
        sql::temp_transaction(connection, || {
            let mut attach = Attach::new(connection)?;
            let tables = identity::survey(connection, &attach.places)?;
            if let Err(error) = attach.drop_others(&tables) {
                problems.push(told(connection, error)?);
            }
            for (table, location) in &tables {
                if !table.is_shown(location) {
                    continue;
                }
                match attach.table(table) {
                    Ok(name) => attached.push(name),
                    Err(error) => {
                        let problem = told(connection, error)?;
                        problems.push(format!("{}: {problem}", table.name));
                    }
                }
                problems.extend(problem(table, location).map(|error| error.to_string()));
            }
            Ok(())
        })?;
    }
    Ok(json!({"tables": attached, "problems": problems}))
}

/// What is wrong with one table, if the others can be made: after some errors SQLite has ended the transaction.
fn told(connection: &Connection, error: Error) -> Result<String> {
    match error.is_interrupt() || connection.is_autocommit() {
        true => Err(error),
        false => Ok(error.to_string()),
    }
}

/// What keeps an archived table from being shown with hot rows beside it.
fn problem(table: &ArchivedTable, location: &Location) -> Option<Error> {
    match location {
        Location::Here(_) => None,
        Location::Recreated => Some(identity::recreated(&table.name)),
        Location::Missing => Some(identity::missing(&table.name)),
    }
}

/// Makes `cold_t` and `all_t` for one archived table; returns its present name.
pub fn attach_table(connection: &Connection, table: &ArchivedTable) -> Result<String> {
    sql::temp_transaction(connection, || {
        let mut attach = Attach::new(connection)?;
        attach.drop_old_names(table)?;
        attach.table(table)
    })
}

/// What is there, all read in one look.
struct Attach<'c> {
    connection: &'c Connection,
    places: Places,
    names: Names,
    objects: Objects<'c>,
    encoding: Encoding,
}

impl<'c> Attach<'c> {
    fn new(connection: &'c Connection) -> Result<Self> {
        Ok(Self {
            connection,
            places: Places::read(connection)?,
            names: Names::read(connection)?,
            objects: Objects::read(connection)?,
            encoding: sql::encoding(connection)?,
        })
    }

    fn table(&mut self, table: &ArchivedTable) -> Result<String> {
        let hot = self.places.present(self.connection, table)?;
        let name = hot.as_ref().map_or(&table.name, |hot| &hot.name).clone();
        let wanted = self.wanted(table, hot.as_ref());
        let names = wanted.iter().map(|wanted| wanted.name.as_str());
        if let Err(error) = names
            .clone()
            .try_for_each(|new| self.names.check(&name, new))
        {
            // What is in the way came later than ours, which hide it.
            self.objects.drop_all(names)?;
            return Err(error);
        }
        for new in names {
            self.objects.check(&name, new)?;
            self.names
                .check_attached(&name, new, self.objects.has(new))?;
        }
        for wanted in &wanted {
            self.objects.make(wanted)?;
        }
        Ok(name)
    }

    /// What is to be there for an archived table: `cold_t`, and `all_t` over it.
    fn wanted(&self, table: &ArchivedTable, hot: Option<&Present>) -> [Wanted; 2] {
        let shape = |mode| shape_with(table, hot, mode, self.encoding);
        match hot {
            Some(_) => {
                let joined = shape(Mode::Joined);
                [Wanted::cold(&joined), Wanted::view(&joined)]
            }
            None => [
                Wanted::cold(&shape(Mode::Alone)),
                Wanted::cold(&shape(Mode::Detached)),
            ],
        }
    }

    /// Drops the objects of tables that the catalog does not have any more, and those that an archived
    /// table had under other names: another table may have those names now.
    fn drop_others(&mut self, tables: &[(ArchivedTable, Location)]) -> Result<()> {
        let shown = tables.iter();
        let shown = shown.filter(|(table, location)| table.is_shown(location));
        let names: HashMap<i64, &str> = shown
            .map(|(table, location)| (table.id, present_name(table, location)))
            .collect();
        self.objects
            .retain(|id, name| names.get(&id).is_some_and(|present| *present == name))
    }

    /// [`Attach::drop_others`] for one table.
    fn drop_old_names(&mut self, table: &ArchivedTable) -> Result<()> {
        let location = self.places.locate(table)?;
        let present = present_name(table, &location);
        self.objects
            .retain(|id, name| id != table.id || name == present)
    }
}

fn present_name<'t>(table: &'t ArchivedTable, location: &'t Location) -> &'t str {
    match location {
        Location::Here(name) => name,
        Location::Recreated | Location::Missing => &table.name,
    }
}

/// Refuses a table whose `cold_t` or `all_t` would hide, or take the place of, a table or view of
/// the user's.
pub fn check_names(connection: &Connection, table: &str) -> Result<()> {
    let names = Names::read(connection)?;
    let objects = Objects::read(connection)?;
    for name in object_names(table) {
        names.check(table, &name)?;
        objects.check(table, &name)?;
        names.check_attached(table, &name, false)?;
    }
    Ok(())
}
