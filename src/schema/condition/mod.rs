//! The option `where`: an SQL expression of the caller's over the rows of a table, which goes by the
//! name `t`.
//!
//! - [`stored`]: one that the database brings along

pub mod stored;

use rusqlite::Connection;

use crate::error::{Error, Result};

/// SQL for whether a row matches. The line break ends a comment in the condition.
pub fn sql(condition: Option<&str>) -> String {
    match condition {
        Some(condition) => format!("(({condition}\n) IS TRUE)"),
        None => "1".to_owned(),
    }
}

/// Refuses a condition that is not one SQL expression over `source`, the SQL name of a table.
pub fn check(connection: &Connection, source: &str, condition: Option<&str>) -> Result<()> {
    let Some(text) = condition else {
        return Ok(());
    };
    for statement in statements(source, text) {
        statement
            .prepare(connection)
            .map_err(|reason| match reason.is_mistake() {
                true => Error::refused(format!(
                    "option where is not an SQL expression: {text}: {reason}"
                )),
                false => reason,
            })?;
    }
    Ok(())
}

/// Statements that can all be prepared only if the condition is one expression. In a WHERE clause an
/// aggregate is an error. What closes a parenthesis in one of the first two does not fit into the other,
/// and the parameter after it, whose name is not in the condition, shows that no comment is open. The
/// last has it where it is used: SQLite looks closer there at what it need not evaluate in the others.
fn statements(source: &str, text: &str) -> [Statement; 3] {
    let mut end = ":end".to_owned();
    while text.contains(&end) {
        end.push('_');
    }
    let matches = sql(Some(text));
    let statements = [
        format!("SELECT 1 FROM {source} AS t WHERE {matches} AND {end}"),
        format!("SELECT 1 FROM {source} AS t WHERE CASE WHEN {text}\n THEN 1 END AND {end}"),
        format!("SELECT {matches}, NOT {matches}, {end} FROM {source} AS t"),
    ];
    statements.map(|sql| Statement {
        sql,
        end: end.clone(),
    })
}

/// One of [`statements`].
struct Statement {
    sql: String,
    /// The one parameter that it should have.
    end: String,
}

impl Statement {
    /// Fails if SQLite does not take it for what it should be.
    fn prepare(&self, connection: &Connection) -> Result<()> {
        let statement = connection.prepare(&self.sql)?;
        match (statement.parameter_count(), statement.parameter_name(1)) {
            (1, Some(name)) if name == self.end => Ok(()),
            _ => Err(Error::refused(
                "it must be one expression without parameters",
            )),
        }
    }
}
