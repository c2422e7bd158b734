//! What SQLite sees: the SQL surface. The only place that knows it as a whole.
//!
//! - [`entry`]: what SQLite calls when it loads the library
//! - [`functions`]: every function and table
//! - [`listing`]: the table-valued functions over the catalog

pub mod entry;
pub mod functions;
pub mod listing;
