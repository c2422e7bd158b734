//! The only place with raw SQLite pointers and `unsafe` code. Everything above it is safe Rust.
//!
//! - [`function`]: scalar SQL functions
//! - [`vtab`]: virtual tables and table-valued functions
//! - [`query`]: what SQLite asks them when it plans a query
//! - [`authorizer`]: what a statement would do
//! - [`api`]: functions of SQLite that the bindings do not have
//! - [`value`]: `sqlite3_value` in, `sqlite3_context` out
//! - [`statement`]: a query read bit by bit, without a borrow
//! - [`pin`]: a read transaction held open by such a query
//! - [`file`](mod@file): the database file as SQLite has it open
//! - [`filename`]: where the database file is
//! - [`panic`]: no panic crosses into SQLite
//! - [`fork`]: what a process that forks must not hand to its child

#![allow(unsafe_code)]

pub mod api;
pub mod authorizer;
pub mod file;
pub mod filename;
pub mod fork;
pub mod function;
pub mod panic;
pub mod pin;
pub mod query;
pub mod statement;
pub mod value;
pub mod vtab;
