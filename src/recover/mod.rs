//! What is there when a catalog is lost: copies of it, beside the cold files.
//!
//! - [`copy`]: the copies
//!
//! A copy is a projection of the catalog: nothing reads it while the catalog is there.

pub mod copy;
