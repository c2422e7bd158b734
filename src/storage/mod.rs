//! All file access: the archive folder, the cold files in it, and its lock.
//!
//! - [`folder`]: the folder that holds the cold files of a database
//! - [`archive`]: how a run uses it
//! - [`write`](mod@write): a cold file while it is written
//! - [`read`](mod@read): a cold file that gives out only the bytes that were written
//! - [`seal`]: what it is recognised by; [`identity`]: what tells a file from every other
//! - [`copies`]: copies of catalogs
//! - [`access`]: who may use what is made
//! - [`durable`]: what a power cut cannot take
//! - [`lock`](mod@lock): locks between processes
//! - [`names`], [`places`]: names on disk, and where links lead
//!
//! A path in the catalog is relative to the archive folder and may not leave it: a database from a
//! stranger must not make us read or write elsewhere.

pub mod access;
mod archive;
pub mod copies;
mod durable;
mod folder;
mod identity;
mod lock;
mod names;
mod places;
pub mod read;
pub mod seal;
pub mod write;

pub use self::archive::{Archive, OwnFile, run_of};
pub use self::durable::{prepare, sync_folder};
pub use self::folder::Folder;
pub use self::identity::{Identity, file_identity};
pub use self::lock::{Lock, lock};
pub use self::names::folder_name;
pub use self::places::check_beside;
