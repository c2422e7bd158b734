//! The TEMP objects of an archived table, as their names and statements tell them.

use super::columns::{Mode, Shape};
use crate::sql::{literal, quote};

/// What the names of the TEMP objects of a table begin with: of that with its cold rows, and of that with
/// all of them.
pub const COLD: &str = "cold_";
pub const ALL: &str = "all_";

/// The names of the objects of a table.
pub fn object_names(table: &str) -> [String; 2] {
    [COLD, ALL].map(|prefix| format!("{prefix}{table}"))
}

/// The statement that makes the virtual table of a shape, after its name. The shape is a part of it: while
/// SQLite connects a virtual table, no SQL may be run.
pub fn using(shape: &Shape) -> String {
    let (table, mode) = (shape.table, shape.mode.name());
    format!("{USING}{table}, {mode}, {})", literal(&shape.to_json()))
}

/// What the statements of all our virtual tables have after the name.
pub const USING: &str = "USING archive_cold(";

/// Where the statement of `all_t` takes cold rows from.
pub fn cold_arm(cold: &str) -> String {
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

/// `temp."cold_t"`
pub fn cold_name(table: &str) -> String {
    format!("temp.{}", quote(&format!("cold_{table}")))
}
