//! The flow back: cold files -> select -> insert -> tombstone.
//!
//! Each short write transaction inserts the next rows of a file into the hot table and writes their
//! tombstones. So at every moment, in every snapshot, each row is on exactly one side, and a call
//! that dies has restored what it had committed; the next one finds the rest. The file itself never
//! changes. Once none of its rows counts, it leaves the catalog in the same transaction.
//!
//! - [`options`]: what the caller asked for
//! - [`select`]: which rows come back
//! - [`survey`]: how many, and whether there is room for them
//! - [`target`]: the hot table
//! - [`twins`]: cold rows that have a key in common
//! - [`insert`]: rows into the hot table, and what happens if they do not fit
//! - [`batches`]: the short transactions
//! - [`run`]: all of it, in order

pub mod batches;
pub mod insert;
pub mod options;
pub mod rows;
pub mod run;
pub mod select;
pub mod survey;
pub mod target;
pub mod twins;
