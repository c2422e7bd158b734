//! How to talk to DuckDB: paths, and what it says of a failure.

use serde_json::Value as Json;

use crate::error::Error;

/// A pattern that only `path` matches: DuckDB takes every path for a pattern.
pub fn pattern(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len());
    for c in path.chars() {
        match c {
            '*' | '?' | '[' => pattern.extend(['[', c, ']']),
            c => pattern.push(c),
        }
    }
    pattern
}

/// A failure while an answer is on its way comes as the JSON of its exception: what that says.
fn from_json(message: &str) -> Option<String> {
    let json: Json = serde_json::from_str(message).ok()?;
    let text = |key: &str| json.get(key)?.as_str();
    let (kind, message) = (text("exception_type")?, text("exception_message")?);
    Some(format!("{kind} Error: {message}"))
}

/// What DuckDB says of a failure, as an error of ours.
pub fn duckdb_error(error: duckdb::Error) -> Error {
    match error {
        duckdb::Error::DuckDBFailure(_, Some(message)) => {
            let message = from_json(&message).unwrap_or(message);
            // Of an error in DuckDB itself it shows addresses of code.
            let shown = message.split("\nStack Trace").next().unwrap_or_default();
            Error::refused(shown.trim_end())
        }
        other => Error::refused(other.to_string()),
    }
}
