//! What every move of rows has in common, whichever way they go.
//!
//! - [`half_read`]: queries that rows must not move under
//! - [`pace`]: how long transactions hold the write lock, and leave it to others
//! - [`read`]: hot rows into memory, a row group at a time

pub mod half_read;
pub mod pace;
pub mod read;
