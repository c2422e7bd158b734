//! What is there when a catalog is lost: copies of it, and the cold files, which say what they are.
//!
//! - [`copy`]: the copies that every run leaves beside the cold files
//! - [`copies`]: which copies are this database's
//! - [`remains`], [`lost`]: what is left, and whether the catalog is lost
//! - [`run`]: `archive_recover`, all steps in order
//! - [`fill`]: what the newest copy says
//! - [`origin`], [`found`]: where the rows of a file are from; files that the copy does not know
//! - [`settle`], [`twins`]: which of their rows count
//!
//! A copy is a projection of the catalog: nothing reads it while the catalog is there.

mod copies;
pub mod copy;
mod fill;
mod found;
pub mod lost;
mod origin;
pub mod remains;
pub mod run;
mod settle;
mod twins;
