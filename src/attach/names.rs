//! Names of other tables and views that `cold_t` and `all_t` would hide: SQLite takes what is in TEMP
//! first.

use std::collections::HashMap;

use rusqlite::Connection;

use crate::error::{Error, Result};
use crate::sql::quote;

/// The tables and views whose names begin as ours do.
pub struct Names {
    /// In lower case. Those of `main` have `None`; others the database they are in, and their name.
    taken: HashMap<String, Vec<(Option<String>, String)>>,
}

impl Names {
    /// Looks into `main` and all attached databases.
    pub fn read(connection: &Connection) -> Result<Self> {
        let mut names = Self {
            taken: HashMap::new(),
        };
        names.look_into(connection, "main")?;
        let sql = "SELECT name FROM pragma_database_list WHERE name NOT IN ('main', 'temp')";
        let mut statement = connection.prepare_cached(sql)?;
        let attached = statement.query_map([], |row| row.get::<_, String>(0))?;
        for schema in attached.collect::<Result<Vec<_>, _>>()? {
            names.look_into(connection, &schema)?;
        }
        Ok(names)
    }

    fn look_into(&mut self, connection: &Connection, schema: &str) -> Result<()> {
        // No LIKE: an application may have put its own function in the place of SQLite's.
        let sql = format!(
            "SELECT name FROM {}.sqlite_schema
             WHERE type IN ('table', 'view')
               AND (name COLLATE NOCASE >= 'cold_' AND name COLLATE NOCASE < 'cold`'
                    OR name COLLATE NOCASE >= 'all_' AND name COLLATE NOCASE < 'all`')",
            quote(schema)
        );
        let mut statement = connection.prepare(&sql)?;
        let mut rows = statement.query([])?;
        let schema = (schema != "main").then(|| schema.to_owned());
        while let Some(row) = rows.next()? {
            let name: String = row.get(0)?;
            let taken = self.taken.entry(name.to_ascii_lowercase()).or_default();
            taken.push((schema.clone(), name));
        }
        Ok(())
    }

    fn of<'n>(&'n self, new: &str) -> impl Iterator<Item = &'n (Option<String>, String)> + use<'n> {
        let taken = self.taken.get(&new.to_ascii_lowercase());
        taken.into_iter().flatten()
    }

    /// Fails if `main` has a table or view with the name `new`, which `table` needs.
    pub fn check(&self, table: &str, new: &str) -> Result<()> {
        match self.of(new).find(|(schema, _)| schema.is_none()) {
            Some((_, name)) => Err(taken(table, name)),
            None => Ok(()),
        }
    }

    /// Fails if an attached database has a table or view with the name `new`. If there is a TEMP object
    /// of ours already, SQL has found that one until now, and goes on so.
    pub fn check_attached(&self, table: &str, new: &str, present: bool) -> Result<()> {
        let Some((Some(schema), name)) = self.of(new).find(|(schema, _)| schema.is_some()) else {
            return Ok(());
        };
        let way_out = match present {
            true => format!("write {schema}.{name} to reach it"),
            false => "rename it, or DETACH the database".to_owned(),
        };
        Err(Error::refused(format!(
            "the attached database {schema} has a {name}, which is a name that {table} needs for its \
             cold rows; {way_out}"
        )))
    }
}

/// The error for a name that `table` needs and something else has.
pub fn taken(table: &str, name: &str) -> Error {
    Error::refused(format!(
        "there is a {name} of your own, which is a name that {table} needs for its cold rows; rename it"
    ))
}
