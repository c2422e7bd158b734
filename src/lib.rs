//! sqlite-cold: a SQLite extension that keeps databases small for ever. Old rows move from a table
//! into compressed Parquet files; queries go on seeing all of them.
//!
//! Two flows, one back, and one catalog:
//!
//! - [`archive`]: hot rows -> plan -> read -> encode -> Parquet file -> verify -> publish
//! - [`restore`]: the flow back: cold files -> select -> insert -> tombstone
//! - [`cold`]: query -> plan -> prune -> open -> select rows -> decode -> SQLite
//! - `analytics`: the same rows -> DuckDB -> SQLite
//! - [`catalog`]: which files exist and which of their rows count, in the same database
//!
//! `docs/architecture.md` says why every crash point is safe.

#[cfg(feature = "duckdb")]
pub mod analytics;
pub mod archive;
pub mod attach;
pub mod catalog;
pub mod cleanup;
pub mod cold;
pub mod condition;
pub mod defaults;
pub mod error;
pub mod fault;
pub mod functions;
pub mod generated;
pub mod half_read;
pub mod listing;
pub mod nightly;
pub mod options;
pub mod pace;
pub mod policy;
pub mod recover;
pub mod rename;
pub mod restore;
pub mod rows;
pub mod settings;
pub mod sql;
pub mod sqlite;
pub mod storage;
pub mod stored;
pub mod table;
pub mod time;
pub mod transaction;
pub mod value;
pub mod verify;

/// Decoding takes and gives back large buffers all the time. The system's allocator hands them to the
/// kernel and gets them back page by page, which costs more than decompressing them.
#[cfg(not(feature = "host-allocator"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
