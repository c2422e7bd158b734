//! One cold file: how it is written, and read again.
//!
//! - [`types`]: how the values of a column are stored
//! - [`rows`], [`encode`], [`write`](mod@write): rows in memory, and their way into a durable, verified file
//! - [`record`]: what a file is recognised by
//! - [`file`](mod@file), [`footer`]: an open file, and what it says of itself
//! - [`outline`], [`bounds`], [`pages`], [`thrift`]: what a file claims, before anything is made of it
//! - [`decode`]: Parquet columns back to SQLite values
//! - [`range`], [`predicate`]: what is known of the values of a column, and what a term rules out

pub mod bounds;
pub mod decode;
pub mod encode;
pub mod file;
pub mod footer;
pub mod outline;
pub mod pages;
pub mod predicate;
pub mod range;
pub mod record;
pub mod rows;
pub mod thrift;
pub mod types;
pub mod write;
