//! The flow in: query -> plan -> prune (catalog) -> open (file) -> select rows -> decode -> SQLite.
//!
//! - [`table`]: the virtual table
//! - [`columns`]: its columns, and which column of a file each is
//! - [`planner`]: what is pushed down, and what it costs
//! - [`plan`]: what was decided, as it travels from xBestIndex to xFilter
//! - [`state`]: what the catalog says of a table, and which files a query can skip
//! - [`scan`]: the cursor
//! - [`ahead`]: row groups one after the other, prepared ahead by worker threads
//! - [`merge`]: the order of an ORDER BY, over files that overlap
//! - [`group`]: a row group: which rows count, and their columns page by page
//! - [`predicate`], [`range`]: what a term rules out, and what is known of values
//! - [`retyped`]: columns that have another type by now
//! - [`selection`]: the rows that are left
//! - [`file`](mod@file), [`footer`]: an open cold file, and what it says of itself
//! - [`outline`], [`bounds`], [`pages`], [`thrift`]: what a file claims, before anything is made of it
//! - [`decode`]: Parquet columns back to SQLite values
//! - [`live`]: a file and its rows that count, for who needs no query
//! - [`cache`]: what was read and may be needed again
//! - [`stats`]: what scans did

pub mod ahead;
pub mod bounds;
pub mod cache;
pub mod columns;
pub mod decode;
pub mod file;
pub mod footer;
pub mod group;
pub mod live;
pub mod merge;
pub mod outline;
pub mod pages;
pub mod plan;
pub mod planner;
pub mod predicate;
pub mod range;
pub mod retyped;
pub mod scan;
pub mod selection;
pub mod state;
pub mod stats;
pub mod table;
pub mod thrift;
