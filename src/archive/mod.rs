//! The flow out: hot rows -> plan -> read -> encode -> Parquet file -> verify -> publish.
//!
//! - [`options`]: what the caller asked for
//! - [`check`]: whether the table can be archived
//! - [`plan`]: which rows go, and into which file
//! - [`publish`]: the short transactions that move rows from one side to the other
//! - [`staged`]: copies of rows that stay hot until a grace period is over
//! - [`unpublished`], [`layout`], [`mover`]: a file on its way, and its rows within a transaction
//! - [`pipeline`]: reading, writing and publishing at the same time
//! - [`run`], [`steps`]: all of it, in order

pub mod check;
pub mod checked;
pub mod ids;
pub mod layout;
pub mod mover;
pub mod options;
pub mod pipeline;
pub mod plan;
pub mod progress;
pub mod publish;
pub mod run;
pub mod staged;
pub mod steps;
pub mod unpublished;
