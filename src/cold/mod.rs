//! The flow in: query -> plan -> prune (catalog) -> open (file) -> select rows -> decode -> SQLite.
//!
//! - [`table`]: the virtual table
//! - [`planner`]: what is pushed down, and what it costs
//! - [`plan`]: what was decided, as it travels from xBestIndex to xFilter
//! - [`scan`]: the cursor
//! - [`ahead`]: row groups one after the other, prepared ahead by worker threads
//! - [`merge`]: the order of an ORDER BY, over files that overlap
//! - [`group`]: a row group: which rows count, and their columns page by page
//! - [`selection`]: the rows that are left
//! - [`stats`]: what scans did

pub mod ahead;
pub mod group;
pub mod merge;
pub mod plan;
pub mod planner;
pub mod scan;
pub mod selection;
pub mod stats;
pub mod table;
