//! The SQL that this library runs on the caller's connection.
//!
//! - [`text`]: names and values in it; small questions to SQLite
//! - [`transaction`]: one that ends whatever happens

pub mod text;
pub mod transaction;

pub use self::text::*;
