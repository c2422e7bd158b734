//! What a table has in cold files at one moment, and how its present columns show it.
//!
//! - [`state`]: what the catalog says of a table, and which files a query can skip
//! - [`columns`]: the columns of `cold_t`, and which column of a file each is
//! - [`retyped`]: columns that have another type by now
//! - [`live`]: a file and its rows that count
//! - [`cache`]: what was read and may be needed again

pub mod cache;
pub mod columns;
pub mod live;
pub mod order;
pub mod retyped;
pub mod shape;
pub mod state;
pub mod statements;
