//! The SQL that this library runs on the caller's connection.
//!
//! - [`text`]: names and values in it
//! - [`pragma`]: what SQLite says of a connection and its database
//! - [`patience`]: waiting for a lock
//! - [`transaction`]: one that ends whatever happens

mod patience;
mod pragma;
mod text;
pub mod transaction;

pub use self::patience::patiently;
pub use self::pragma::{data_version, encoding, journal_mode, reads_uncommitted, schema_version};
pub use self::text::{literal, quote, unquote, without_comments};
pub use self::transaction::{read_transaction, temp_transaction, write_transaction};
