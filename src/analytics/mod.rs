//! Analytics: DuckDB answers queries over all rows of a table, hot and cold, from inside SQLite.
//!
//! SQL -> names ([`syntax`]) -> tables ([`names`]) -> types ([`survey`]) -> views ([`view`]) -> DuckDB
//! ([`run`]) -> values ([`result`]) -> SQLite. DuckDB reads cold files itself, column by column; hot rows
//! come to it in batches, read through the connection that asks ([`feed`], [`rows`], [`sources`]).
//!
//! - [`table`]: `archive_query`, the virtual table
//! - [`engine`]: DuckDB itself, one instance for each connection, locked down
//! - [`dialect`]: how to talk to it
//! - [`spill`]: the folder for what does not fit into its memory
//! - [`cold`]: the cold files as DuckDB is to read them
//! - [`types`]: what a column is in DuckDB

mod batch;
mod callback;
mod cold;
mod dialect;
mod engine;
mod feed;
mod names;
mod options;
mod result;
mod rows;
mod run;
mod sources;
mod spill;
mod survey;
mod syntax;
mod table;
mod types;
mod view;

use std::rc::Rc;

use rusqlite::Connection;

use crate::error::Result;
use crate::sqlite::vtab::{self, Kind};

/// Makes `archive_query` known to a connection. DuckDB itself is started when it is first used.
pub fn register(connection: &Connection) -> Result<()> {
    let reports = Rc::default();
    vtab::register::<table::Report>(connection, c"archive_query", Kind::Both, reports)
}
