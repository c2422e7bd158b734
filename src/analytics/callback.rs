//! What DuckDB hands back to its callbacks by raw pointer.

#![allow(unsafe_code)]

use duckdb::vtab::BindInfo;

use super::sources::Sources;

/// The sources that [`register`](super::rows::register) gave to the table function.
pub fn sources(bind: &BindInfo) -> &Sources {
    // SAFETY: DuckDB passes the pointer that the function was registered with, which is to a value of this
    // type and lives as long as the instance.
    unsafe { &*bind.get_extra_info::<Sources>() }
}
