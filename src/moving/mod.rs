//! What every move of rows has in common, whichever way they go.
//!
//! - [`half_read`]: queries that rows must not move under
//! - [`leftovers`]: what runs left behind that died
//! - [`mode`]: triggers and foreign keys, switched off meanwhile
//! - [`run`](mod@run): one run, and the short transactions that it is made of
//! - [`pace`]: how long transactions hold the write lock, and leave it to others
//! - [`read`]: hot rows into memory, a row group at a time

pub mod half_read;
pub mod leftovers;
pub mod mode;
pub mod pace;
pub mod read;
pub mod run;
