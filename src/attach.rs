//! `cold_t` and `all_t`: the TEMP objects that a connection sees an archived table through.
//!
//! They are TEMP so that the database file stays ordinary, and because `trusted_schema=OFF` refuses
//! a persistent view over a virtual table.

use rusqlite::{Connection, OptionalExtension};
use serde_json::{Value as Json, json};

use crate::catalog::{self, tables};
use crate::cold::table::visible_columns;
use crate::error::{Error, Result};
use crate::sql::{literal, quote};
use crate::table::{Column, Table, columns_to_json};
use crate::value::Value;

/// `archive_attach()`: makes what is missing, and makes again what has changed.
pub fn archive_attach(connection: &Connection, _arguments: &[Value<'_>]) -> Result<Json> {
    let mut attached = Vec::new();
    let mut problems = Vec::new();
    if catalog::exists(connection)? {
        for table in tables::all(connection)? {
            match attach_table(connection, &table.name) {
                Ok(()) => attached.push(table.name),
                Err(error) => problems.push(format!("{}: {error}", table.name)),
            }
        }
    }
    Ok(json!({"tables": attached, "problems": problems}))
}

/// Makes `cold_t` and `all_t` for one archived table.
pub fn attach_table(connection: &Connection, name: &str) -> Result<()> {
    let columns = visible_columns(connection, name)?
        .ok_or_else(|| Error::refused(format!("{name} has never been archived")))?;
    let hot = Table::find(connection, name)?;
    let (cold, all) = (format!("cold_{name}"), format!("all_{name}"));
    // The columns are a part of the statement so that it differs when they do.
    let signature = columns_to_json(&columns) + &format!("{:?}", hot.as_ref().map(|hot| &hot.key));
    let signature = xxhash_rust::xxh3::xxh3_64(signature.as_bytes());
    let using = format!("USING archive_cold({}, '{signature:016x}')", literal(name));
    let list: Vec<String> = columns
        .iter()
        .map(|column: &Column| quote(&column.name))
        .collect();
    let list = list.join(", ");
    // The cold arm comes first: only then does SQLite offer it the ORDER BY of a query.
    let mut query = format!("AS SELECT {list} FROM temp.{}", quote(&cold));
    if let Some(hot) = &hot {
        query += &format!(" UNION ALL SELECT {list} FROM {}", hot.qualified());
    }
    check_names(connection, name)?;
    if is_current(connection, &cold, &using)? && is_current(connection, &all, &query)? {
        return Ok(());
    }
    connection
        .execute_batch(&format!(
            "SAVEPOINT archive_attach;
         DROP VIEW IF EXISTS temp.{all};
         DROP TABLE IF EXISTS temp.{cold};
         CREATE VIRTUAL TABLE temp.{cold} {using};
         CREATE TEMP VIEW {all} {query};
         RELEASE archive_attach;",
            all = quote(&all),
            cold = quote(&cold),
        ))
        .inspect_err(|_| {
            // The error to report is the first one.
            let _ = connection.execute_batch("ROLLBACK TO archive_attach; RELEASE archive_attach");
        })?;
    Ok(())
}

/// Refuses a table whose `cold_t` or `all_t` would hide, or take the place of, a table or view of
/// the user's.
pub fn check_names(connection: &Connection, table: &str) -> Result<()> {
    let cold = format!("cold_{table}");
    let ours = [
        (&cold, "USING archive_cold(".to_owned()),
        (
            &format!("all_{table}"),
            format!("FROM temp.{}", quote(&cold)),
        ),
    ];
    for (name, mark) in ours {
        let sql = "SELECT EXISTS (
                       SELECT 1 FROM main.sqlite_schema WHERE name = ?1 COLLATE NOCASE
                       UNION ALL
                       SELECT 1 FROM temp.sqlite_schema
                       WHERE name = ?1 COLLATE NOCASE AND instr(coalesce(sql, ''), ?2) = 0)";
        if connection.query_row(sql, (name, mark), |row| row.get(0))? {
            return Err(Error::refused(format!(
                "there is a {name} of your own, which is a name that {table} needs for its cold \
                 rows; rename it"
            )));
        }
    }
    Ok(())
}

/// Whether the TEMP object `name` was made by a statement that ends with `definition`.
fn is_current(connection: &Connection, name: &str, definition: &str) -> Result<bool> {
    let sql = "SELECT sql FROM temp.sqlite_schema WHERE name = ?1 COLLATE NOCASE";
    let present: Option<String> = connection
        .query_row(sql, [name], |row| row.get(0))
        .optional()?;
    Ok(present.is_some_and(|sql| sql.ends_with(definition)))
}
