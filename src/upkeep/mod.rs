//! What keeps an archive in order.
//!
//! - [`expire`]: cold rows that are dropped for good
//! - [`gc`]: files that nobody needs
//! - [`rename`]: tables that have another name, or were made again

pub mod expire;
pub mod gc;
pub mod rename;
