//! What the names in a query mean: tables and views of the database, archived or not.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;

use once_cell::unsync::OnceCell;
use rusqlite::{Connection, OptionalExtension};

use super::cold::Cold;
use super::syntax::Mentioned;
use crate::catalog;
use crate::catalog::identity::{self, Location};
use crate::catalog::places::Places;
use crate::catalog::tables::ArchivedTable;
use crate::error::{Error, Result};
use crate::snapshot::columns::Mode;
use crate::snapshot::shape;
use crate::snapshot::shape::visible_columns;
use crate::snapshot::state::Version;
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
    archived: Option<Rc<Archived>>,
    /// The names that the query has for it.
    pub names: Vec<(String, Part)>,
}

impl Subject {
    pub fn cold(&self) -> Option<&Cold> {
        self.archived.as_ref()?.cold.get()?.as_ref()
    }

    /// Whether its cold files still are those that were looked at.
    pub fn files_are_unchanged(&self, connection: &Connection) -> bool {
        self.cold()
            .is_none_or(|cold| cold.is_unchanged(connection).unwrap_or(false))
    }

    /// Whether any of its names stands for rows that SQLite has.
    pub fn shows_hot(&self) -> bool {
        self.names.iter().any(|(_, part)| *part != Part::Cold)
    }
}

/// An archived table.
struct Archived {
    table: ArchivedTable,
    location: Location,
    /// What a query has to say for it.
    name: String,
    cold: OnceCell<Option<Cold>>,
}

impl Archived {
    /// All of them.
    fn all(connection: &Connection) -> Result<Vec<Rc<Self>>> {
        if !catalog::exists(connection)? {
            return Ok(Vec::new());
        }
        let places = Places::read(connection)?;
        let survey = identity::survey(connection, &places)?.into_iter();
        let shown = survey.filter(|(table, location)| table.is_shown(location));
        let known = shown.map(|(table, location)| {
            let name = match &location {
                Location::Here(name) => name.clone(),
                Location::Recreated | Location::Missing => table.name.clone(),
            };
            let cold = OnceCell::new();
            Ok(Rc::new(Self {
                table,
                location,
                name,
                cold,
            }))
        });
        known.collect()
    }

    fn subject(self: &Rc<Self>, connection: &Connection) -> Result<Subject> {
        let hot = Places::read(connection)?.present(connection, &self.table)?;
        let columns = visible_columns(&self.table, hot.as_ref());
        let mode = match hot {
            Some(_) => Mode::Joined,
            None => Mode::Alone,
        };
        self.cold.get_or_try_init(|| {
            let shape = Rc::new(shape::shape(connection, &self.table, mode)?);
            Cold::read(connection, &shape)
        })?;
        Ok(Subject {
            columns: columns
                .into_iter()
                .map(|c| (c.name, c.declared_type))
                .collect(),
            hot: hot.map(|hot| format!("main.{}", quote(&hot.name))),
            archived: Some(Rc::clone(self)),
            names: Vec::new(),
        })
    }

    /// Why there are no hot rows to show with the cold ones.
    fn problem(&self) -> Option<Error> {
        match self.location {
            Location::Here(_) => None,
            Location::Recreated => Some(identity::recreated(&self.name)),
            Location::Missing => Some(identity::missing(&self.name)),
        }
    }
}

/// What is known of the archived tables, kept as long as the database does not change.
#[derive(Default)]
pub struct Subjects(RefCell<Option<(Version, Vec<Rc<Archived>>)>>);

impl Subjects {
    /// Finds what `names` mean. A name that means nothing is left to DuckDB, which knows how to say so.
    pub fn find(&self, connection: &Connection, mentioned: &Mentioned) -> Result<Vec<Subject>> {
        let archived = self.archived(connection)?;
        let mut subjects: Vec<Subject> = Vec::new();
        let mut seen = HashSet::new();
        for name in &mentioned.tables {
            if !seen.insert(name.to_ascii_lowercase()) {
                continue;
            }
            let Some((table, part)) = archived_name(connection, &archived, name)? else {
                let found = plain(connection, name)?;
                // DuckDB would look for a file of that name.
                let is_path = |c: char| !c.is_alphanumeric() && c != '_';
                if found.is_none()
                    && name.contains(is_path)
                    && !mentioned.own.contains(&name.to_ascii_lowercase())
                {
                    return Err(Error::refused(format!("no such table: {name}")));
                }
                subjects.extend(found);
                continue;
            };
            if let Some(problem) = table.problem().filter(|_| part != Part::Cold) {
                return Err(problem);
            }
            let same = |subject: &&mut Subject| {
                subject
                    .archived
                    .as_ref()
                    .is_some_and(|known| Rc::ptr_eq(known, table))
            };
            match subjects.iter_mut().find(same) {
                Some(subject) => subject.names.push((name.clone(), part)),
                None => {
                    let mut subject = table.subject(connection)?;
                    subject.names.push((name.clone(), part));
                    subjects.push(subject);
                }
            }
        }
        Ok(subjects)
    }

    /// Forgets what is known, although the database is the same.
    pub fn forget(&self) {
        self.0.take();
    }

    fn archived(&self, connection: &Connection) -> Result<Vec<Rc<Archived>>> {
        let version = Version::read(connection)?;
        if let Some((read_at, archived)) = &*self.0.borrow()
            && *read_at == version
        {
            return Ok(archived.clone());
        }
        let archived = Archived::all(connection)?;
        // What a transaction has not committed yet could be rolled back, and the version would not tell.
        *self.0.borrow_mut() = match connection.is_autocommit() {
            true => Some((version, archived.clone())),
            false => None,
        };
        Ok(archived)
    }
}

/// The archived table that a name stands for, and which of its rows. A table's own name is stronger than
/// one with a prefix, and so is that of any other table.
fn archived_name<'a>(
    connection: &Connection,
    archived: &'a [Rc<Archived>],
    name: &str,
) -> Result<Option<(&'a Rc<Archived>, Part)>> {
    let of_name = |name: &str| {
        archived
            .iter()
            .find(|table| table.name.eq_ignore_ascii_case(name))
    };
    if let Some(table) = of_name(name) {
        return Ok(Some((table, Part::All)));
    }
    for (prefix, part) in Part::PREFIXES {
        if let Some((start, rest)) = name.split_at_checked(prefix.len())
            && start.eq_ignore_ascii_case(prefix)
            && let Some(table) = of_name(rest)
        {
            return Ok((!exists_in_main(connection, name)?).then_some((table, part)));
        }
    }
    Ok(None)
}

fn exists_in_main(connection: &Connection, name: &str) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM main.sqlite_schema
               WHERE type IN ('table', 'view') AND name = ?1 COLLATE NOCASE)";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row([name], |row| row.get(0))?)
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
            archived: None,
            names: vec![(name.to_owned(), Part::All)],
        }));
    }
    Ok(None)
}
