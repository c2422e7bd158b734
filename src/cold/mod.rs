//! The flow in: query -> prune (catalog) -> open (file) -> decode -> SQLite.
//!
//! - [`table`]: the virtual table, and what it pushes down
//! - [`plan`]: the pushed-down terms, as they travel from xBestIndex to xFilter
//! - [`columns`]: the columns, and which column of a file each is
//! - [`range`]: which files and row groups a term rules out
//! - [`scan`]: the cursor over the files that are left
//! - [`file`](mod@file): an open cold file
//! - [`footer`]: a look at a footer before it is trusted
//! - [`decode`]: Parquet columns back to SQLite values

pub mod columns;
pub mod decode;
pub mod file;
pub mod footer;
pub mod plan;
pub mod range;
pub mod scan;
pub mod table;
