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
//! A room, as `docs/architecture.md` calls a module, uses only rooms beneath it; the floors are listed there.
//! That page also says why every crash point is safe.

#[cfg(feature = "duckdb")]
pub mod analytics;
pub mod archive;
pub mod attach;
pub mod catalog;
pub mod cold;
pub mod error;
pub mod extension;
pub mod fault;
pub mod format;
pub mod moving;
pub mod nightly;
pub mod options;
pub mod recover;
pub mod restore;
pub mod schema;
pub mod settings;
pub mod snapshot;
pub mod sql;
pub mod sqlite;
pub mod storage;
pub mod time;
pub mod upkeep;
pub mod value;
pub mod verify;

/// Decoding takes and gives back large buffers all the time. The system's allocator hands them to the
/// kernel and gets them back page by page, which costs more than decompressing them.
#[cfg(not(feature = "host-allocator"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
