//! The table that a caller means.

use rusqlite::{Connection, OptionalExtension};

use crate::catalog;
use crate::error::{Error, Result};
use crate::schema::Table;
use crate::sql::{quote, unquote};

/// The table `name`; an error if that is the name of anything else that cannot be archived.
pub fn find(connection: &Connection, name: &str) -> Result<Option<Table>> {
    if name.contains('\0') {
        return Err(Error::refused(format!(
            "{name} contains a NUL character, which no table's name has"
        )));
    }
    if name.to_ascii_lowercase().starts_with("sqlite_") {
        return Err(Error::refused(format!("{name} is a table of SQLite's own")));
    }
    if name.to_ascii_lowercase().starts_with(catalog::PREFIX) {
        return Err(Error::refused(format!(
            "{name} is a table of the archive catalog"
        )));
    }
    let sql = "SELECT type, sql FROM main.sqlite_schema
               WHERE name = ?1 COLLATE NOCASE AND type IN ('table', 'view')";
    let found: Option<(String, bool)> = connection
        .query_row(sql, [name], |row| {
            Ok((row.get(0)?, catalog::is_virtual(row.get_ref(1)?)))
        })
        .optional()?;
    match found {
        None => Ok(None),
        Some((kind, _)) if kind == "view" => Err(Error::refused(format!(
            "{name} is a view; archive the table it reads"
        ))),
        Some((_, true)) => Err(Error::refused(format!(
            "{name} is a virtual table; only ordinary tables can be archived"
        ))),
        Some(_) => Table::find(connection, name),
    }
}

/// Why there is no table `name` in `main`.
pub fn missing(connection: &Connection, name: &str) -> Result<Error> {
    let mut statement =
        connection.prepare("SELECT name FROM temp.pragma_database_list WHERE name <> 'main'")?;
    let schemas = statement.query_map([], |row| row.get::<_, String>(0))?;
    for schema in schemas {
        let schema = schema?;
        let exists = |name: &str| -> Result<bool> {
            let sql = format!(
                "SELECT EXISTS (SELECT 1 FROM {}.sqlite_schema WHERE name = ?1 COLLATE NOCASE)",
                quote(&schema)
            );
            Ok(connection.query_row(&sql, [name], |row| row.get(0))?)
        };
        let qualified = name
            .split_once('.')
            .filter(|(prefix, _)| prefix.eq_ignore_ascii_case(&schema))
            .map(|(_, rest)| unquote(rest));
        if exists(qualified.as_deref().unwrap_or(name))? {
            return Ok(Error::refused(match schema.as_str() {
                "temp" => format!("{name} is a TEMP table, which ends with its connection"),
                _ => format!(
                    "{name} is in the attached database {schema}; open that database itself to archive it"
                ),
            }));
        }
    }
    Ok(Error::refused(format!("no such table: {name}")))
}
