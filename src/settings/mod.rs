//! Settings: where a value comes from. An option of the call is stronger than `archive_config`,
//! which is stronger than the environment, which is stronger than the default.
//!
//! - [`setting`]: one setting
//! - [`list`]: every setting
//! - [`config`]: what `archive_config` shows and sets
//! - [`folder`](mod@folder): where the archive folder is

mod config;
mod folder;
mod list;
mod setting;

pub use self::config::{Change, of_variable, show, show_all};
pub use self::folder::{
    archive, archive_in, check_not_query_only, check_writable, folder, folder_variable,
};
pub use self::list::*;
pub use self::setting::{Config, Setting};
