//! The option `where`: an SQL expression of the caller's over the rows of a table, which goes by the
//! name `t`.

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
    let refuse = |reason: &str| {
        Error::refused(format!(
            "option where is not an SQL expression: {text}: {reason}"
        ))
    };
    // In a WHERE clause an aggregate is an error. What closes a parenthesis in one of the two
    // does not fit into the other, and the parameter after it shows that no comment is open.
    let forms = [
        format!("{} AND :end", sql(condition)),
        format!("CASE WHEN {text}\n THEN 1 END AND :end"),
    ];
    for form in forms {
        let sql = format!("SELECT 1 FROM {source} AS t WHERE {form}");
        let statement = connection
            .prepare(&sql)
            .map_err(|error| refuse(&Error::from(error).to_string()))?;
        if statement.parameter_count() != 1 || statement.parameter_name(1) != Some(":end") {
            return Err(refuse("it must be one expression without parameters"));
        }
    }
    Ok(())
}
