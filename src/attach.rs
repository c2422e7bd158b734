//! `cold_t` and `all_t`: the TEMP objects that a connection sees an archived table through.
//!
//! They are TEMP so that the database file stays ordinary, and because `trusted_schema=OFF` refuses
//! a persistent view over a virtual table.

use rusqlite::{Connection, OptionalExtension};
use serde_json::{Value as Json, json};

use crate::catalog;
use crate::catalog::identity::{self, Location};
use crate::catalog::tables::{self, ArchivedTable};
use crate::cold::table::{Mode, hot_table, visible_columns};
use crate::error::{Error, Result};
use crate::sql::{quote, temp_transaction};
use crate::table::{Column, Table, columns_to_json};
use crate::value::Value;

/// `archive_attach()`: makes what is missing, and makes again what has changed.
pub fn archive_attach(connection: &Connection, _arguments: &[Value<'_>]) -> Result<Json> {
    let mut attached = Vec::new();
    let mut problems = Vec::new();
    if catalog::exists(connection)? {
        for table in tables::all(connection)? {
            match attach_table(connection, &table) {
                Ok(name) => {
                    attached.push(name);
                    problems.extend(problem(connection, &table)?);
                }
                Err(error) => problems.push(format!("{}: {error}", table.name)),
            }
        }
    }
    Ok(json!({"tables": attached, "problems": problems}))
}

/// What keeps an archived table from being shown with hot rows beside it.
fn problem(connection: &Connection, table: &ArchivedTable) -> Result<Option<String>> {
    Ok(match identity::locate(connection, table)? {
        Location::Here(_) => None,
        Location::Recreated => Some(identity::recreated(&table.name).to_string()),
        Location::Missing => Some(identity::missing(&table.name).to_string()),
    })
}

/// Makes `cold_t` and `all_t` for one archived table; returns its present name.
pub fn attach_table(connection: &Connection, table: &ArchivedTable) -> Result<String> {
    let hot = hot_table(connection, table)?;
    let columns = visible_columns(table, hot.as_ref());
    let name = hot.as_ref().map_or(&table.name, |hot| &hot.name);
    // The columns are a part of the statement so that it differs when they do.
    let signature = columns_to_json(&columns) + &format!("{:?}", hot.as_ref().map(|hot| &hot.key));
    let signature = xxhash_rust::xxh3::xxh3_64(signature.as_bytes());
    let using = |mode: Mode| format!("{}'{signature:016x}')", mark(table.id, mode));
    let (cold, all) = (format!("cold_{name}"), format!("all_{name}"));
    check_names(connection, name)?;
    drop_others(connection, table.id, name)?;
    let objects = match &hot {
        Some(hot) => [
            Object::virtual_table(&cold, using(Mode::Joined)),
            Object::view(&all, union(&cold, hot, &columns)),
        ],
        None => [
            Object::virtual_table(&cold, using(Mode::Alone)),
            Object::virtual_table(&all, using(Mode::Detached)),
        ],
    };
    for object in &objects {
        object.make(connection)?;
    }
    Ok(name.clone())
}

/// The query of `all_t`. The cold arm comes first: only then does SQLite offer it the ORDER BY of a
/// query. Columns are qualified: SQLite takes a name in double quotes that is not a column any more
/// for text.
fn union(cold: &str, hot: &Table, columns: &[Column]) -> String {
    let list = |prefix: &str| {
        let names = columns
            .iter()
            .map(|column| format!("{prefix}{}", quote(&column.name)));
        names.collect::<Vec<_>>().join(", ")
    };
    format!(
        "AS SELECT {} {} SELECT {} {}",
        list("cold."),
        cold_arm(cold),
        list("hot."),
        hot_arm(&hot.name)
    )
}

/// Where the statement of `all_t` takes cold rows from.
fn cold_arm(cold: &str) -> String {
    format!("FROM temp.{} AS cold UNION ALL", quote(cold))
}

/// Where the statement of `all_t` takes the rows of the hot table `name` from.
pub fn hot_arm(name: &str) -> String {
    format!("FROM main.{} AS hot", quote(name))
}

/// What tells the virtual tables of an archived table by their statements.
pub fn mark(table: i64, mode: Mode) -> String {
    format!("{USING}{table}, {}, ", mode.name())
}

/// What the statements of all our virtual tables have.
const USING: &str = "USING archive_cold(";

/// Drops the TEMP objects that an archived table had under other names: another table may have
/// those names now.
fn drop_others(connection: &Connection, table: i64, name: &str) -> Result<()> {
    let sql = "SELECT name FROM temp.sqlite_schema
               WHERE type = 'table' AND instr(sql, ?1) > 0
                 AND name NOT IN ('cold_' || ?2, 'all_' || ?2)";
    let mut statement = connection.prepare(sql)?;
    let others = statement.query_map((format!("{USING}{table}, "), name), |row| row.get(0))?;
    let others: Vec<String> = others.collect::<Result<_, _>>()?;
    drop(statement);
    for other in others {
        let view = "SELECT name FROM temp.sqlite_schema WHERE type = 'view' AND instr(sql, ?1) > 0";
        let views = connection
            .prepare(view)?
            .query_map([cold_arm(&other)], |row| row.get(0))?
            .collect::<Result<Vec<String>, _>>()?;
        for view in views {
            connection.execute_batch(&format!("DROP VIEW temp.{}", quote(&view)))?;
        }
        connection.execute_batch(&format!("DROP TABLE temp.{}", quote(&other)))?;
    }
    Ok(())
}

/// A TEMP object of ours.
struct Object<'a> {
    name: &'a str,
    kind: &'static str,
    /// What follows the name in the statement that makes it.
    definition: String,
}

impl<'a> Object<'a> {
    fn virtual_table(name: &'a str, definition: String) -> Self {
        Self {
            name,
            kind: "VIRTUAL TABLE",
            definition,
        }
    }

    fn view(name: &'a str, definition: String) -> Self {
        Self {
            name,
            kind: "VIEW",
            definition,
        }
    }

    /// Makes it, unless there is one that is the same.
    fn make(&self, connection: &Connection) -> Result<()> {
        let sql = "SELECT type, sql FROM temp.sqlite_schema WHERE name = ?1 COLLATE NOCASE";
        let present: Option<(String, String)> = connection
            .query_row(sql, [self.name], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let drop = match &present {
            Some((_, sql)) if sql.ends_with(&self.definition) => return Ok(()),
            Some((kind, _)) => format!("DROP {kind} temp.{};", quote(self.name)),
            None => String::new(),
        };
        let create = match self.kind {
            "VIEW" => format!("CREATE TEMP VIEW {} {}", quote(self.name), self.definition),
            kind => format!(
                "CREATE {kind} temp.{} {}",
                quote(self.name),
                self.definition
            ),
        };
        temp_transaction(connection, || {
            Ok(connection.execute_batch(&format!("{drop} {create};"))?)
        })
    }
}

/// Refuses a table whose `cold_t` or `all_t` would hide, or take the place of, a table or view of
/// the user's.
pub fn check_names(connection: &Connection, table: &str) -> Result<()> {
    let marks = (USING, cold_arm(&format!("cold_{table}")));
    for name in [format!("cold_{table}"), format!("all_{table}")] {
        let sql = "SELECT EXISTS (
                       SELECT 1 FROM main.sqlite_schema WHERE name = ?1 COLLATE NOCASE
                       UNION ALL
                       SELECT 1 FROM temp.sqlite_schema
                       WHERE name = ?1 COLLATE NOCASE
                         AND instr(coalesce(sql, ''), ?2) = 0 AND instr(coalesce(sql, ''), ?3) = 0)";
        let parameters = (&name, marks.0, &marks.1);
        if connection.query_row(sql, parameters, |row| row.get(0))? {
            return Err(Error::refused(format!(
                "there is a {name} of your own, which is a name that {table} needs for its cold \
                 rows; rename it"
            )));
        }
    }
    Ok(())
}
