//! A table of the user's: what SQLite knows of it, and what its author wrote into it.
//!
//! - [`table`]: its columns, and what identifies a row
//! - [`column`]: one of them: all that its values and comparisons depend on
//! - [`generated`]: columns that SQLite computes
//! - [`defaults`]: what rows show in a column that was added later
//! - [`condition`]: SQL over its rows

pub mod column;
pub mod condition;
pub mod defaults;
pub mod generated;
pub mod table;

pub use self::column::{Affinity, Column, ROWID_COLUMN, columns_from_json, columns_to_json};
pub use self::table::{Key, Table};
