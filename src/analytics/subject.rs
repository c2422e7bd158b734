//! What the names in a query mean: tables and views of the database, archived or not.

use std::collections::HashSet;
use std::rc::Rc;

use rusqlite::{Connection, OptionalExtension};

use crate::catalog;
use crate::catalog::identity::{self, Location};
use crate::catalog::tables::{self, ArchivedTable};
use crate::cold::columns::Shape;
use crate::cold::state::TableState;
use crate::cold::table::{self, Mode, hot_table, visible_columns};
use crate::error::Result;
use crate::sql::quote;

/// Which rows of an archived table a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    All,
    Cold,
    Hot,
}

impl Part {
    /// What a name may begin with, and what it means then.
    const PREFIXES: [(&'static str, Self); 3] = [
        ("all_", Self::All),
        ("cold_", Self::Cold),
        ("hot_", Self::Hot),
    ];
}

/// A table or view of the database that a query reads from.
pub struct Subject {
    /// The columns: name and declared type.
    pub columns: Vec<(String, String)>,
    /// What stands after FROM to read what is in SQLite, if anything is.
    pub hot: Option<String>,
    pub cold: Option<Cold>,
    /// The names that the query has for it.
    pub names: Vec<(String, Part)>,
}

/// The cold rows of a table.
pub struct Cold {
    pub shape: Rc<Shape>,
    pub state: TableState,
}

/// Finds what `names` mean. A name that means nothing is left to DuckDB, which knows how to say so.
pub fn find(connection: &Connection, names: &HashSet<String>) -> Result<Vec<Subject>> {
    let archived = match catalog::exists(connection)? {
        true => tables::all(connection)?,
        false => Vec::new(),
    };
    let mut subjects: Vec<(Option<i64>, Subject)> = Vec::new();
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name.to_ascii_lowercase()) {
            continue;
        }
        let Some((table, part)) = archived_name(connection, &archived, name)? else {
            let plain = plain(connection, name)?;
            subjects.extend(plain.map(|subject| (None, subject)));
            continue;
        };
        let known = subjects.iter_mut().find(|(id, _)| *id == Some(table.id));
        match known {
            Some((_, subject)) => subject.names.push((name.clone(), part)),
            None => {
                let mut subject = archived_subject(connection, table)?;
                subject.names.push((name.clone(), part));
                subjects.push((Some(table.id), subject));
            }
        }
    }
    for (_, subject) in &subjects {
        subject.check(connection)?;
    }
    Ok(subjects.into_iter().map(|(_, subject)| subject).collect())
}

/// The archived table that a name stands for, and which of its rows. A table's own name is stronger than
/// one with a prefix, and so is that of any other table.
fn archived_name<'a>(
    connection: &Connection,
    archived: &'a [ArchivedTable],
    name: &str,
) -> Result<Option<(&'a ArchivedTable, Part)>> {
    for table in archived {
        if present_name(connection, table)?.eq_ignore_ascii_case(name) {
            return Ok(Some((table, Part::All)));
        }
    }
    for (prefix, part) in Part::PREFIXES {
        let Some((start, rest)) = name.split_at_checked(prefix.len()) else {
            continue;
        };
        if !start.eq_ignore_ascii_case(prefix) || exists_in_main(connection, name)? {
            continue;
        }
        for table in archived {
            if present_name(connection, table)?.eq_ignore_ascii_case(rest) {
                return Ok(Some((table, part)));
            }
        }
    }
    Ok(None)
}

fn present_name(connection: &Connection, table: &ArchivedTable) -> Result<String> {
    Ok(match identity::locate(connection, table)? {
        Location::Here(name) => name,
        Location::Recreated | Location::Missing => table.name.clone(),
    })
}

fn exists_in_main(connection: &Connection, name: &str) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM main.sqlite_schema
               WHERE type IN ('table', 'view') AND name = ?1 COLLATE NOCASE)";
    Ok(connection
        .prepare_cached(sql)?
        .query_row([name], |row| row.get(0))?)
}

fn archived_subject(connection: &Connection, archived: &ArchivedTable) -> Result<Subject> {
    let hot = hot_table(connection, archived)?;
    let columns = visible_columns(archived, hot.as_ref());
    let mode = match hot {
        Some(_) => Mode::Joined,
        None => Mode::Alone,
    };
    let shape = Rc::new(table::shape(connection, archived, mode)?);
    let state = TableState::read(connection, &shape)?;
    Ok(Subject {
        columns: columns
            .into_iter()
            .map(|c| (c.name, c.declared_type))
            .collect(),
        hot: hot.map(|hot| format!("main.{}", quote(&hot.name))),
        cold: state.map(|state| Cold { shape, state }),
        names: Vec::new(),
    })
}

/// A table or view that is not archived.
fn plain(connection: &Connection, name: &str) -> Result<Option<Subject>> {
    for schema in ["temp", "main"] {
        let sql = format!(
            "SELECT name FROM {schema}.sqlite_schema
             WHERE type IN ('table', 'view') AND name = ?1 COLLATE NOCASE"
        );
        let mut statement = connection.prepare_cached(&sql)?;
        let found: Option<String> = statement.query_row([name], |row| row.get(0)).optional()?;
        let Some(found) = found else {
            continue;
        };
        // Hidden columns of virtual tables are not part of `*`; generated columns are.
        let sql = "SELECT name, type FROM pragma_table_xinfo(?1, ?2) WHERE hidden <> 1";
        let mut statement = connection.prepare(sql)?;
        let columns =
            statement.query_map([&found, schema], |row| Ok((row.get(0)?, row.get(1)?)))?;
        return Ok(Some(Subject {
            columns: columns.collect::<Result<_, _>>()?,
            hot: Some(format!("{schema}.{}", quote(&found))),
            cold: None,
            names: vec![(name.to_owned(), Part::All)],
        }));
    }
    Ok(None)
}

impl Subject {
    /// Fails where hot and cold rows would be shown as those of one table and are not, or where there are no
    /// hot ones to show.
    fn check(&self, connection: &Connection) -> Result<()> {
        let Some(cold) = self.cold.as_ref().filter(|_| self.hot.is_none()) else {
            return Ok(());
        };
        match self.names.iter().any(|(_, part)| *part != Part::Cold) {
            false => Ok(()),
            true => {
                let archived = tables::get(connection, cold.shape.table)?;
                let name = &cold.shape.name;
                Err(
                    match archived.map(|table| identity::locate(connection, &table)) {
                        Some(Ok(Location::Recreated)) => identity::recreated(name),
                        _ => identity::missing(name),
                    },
                )
            }
        }
    }
}
