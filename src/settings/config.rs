//! `archive_config`: what a database says of its settings, shown and changed.

use rusqlite::Connection;
use rusqlite::types::Value as Owned;
use serde_json::{Value as Json, json};

use super::list::ALL;
use super::setting::{Config, Setting};
use crate::catalog;
use crate::error::{Error, Result};

/// The setting of this key, or what there is.
fn find(key: &str) -> Result<&'static Setting> {
    ALL.into_iter()
        .find(|setting| setting.key == key)
        .ok_or_else(|| {
            let keys: Vec<&str> = ALL.iter().map(|setting| setting.key).collect();
            Error::refused(format!(
                "unknown setting {key}; there are {}",
                keys.join(", ")
            ))
        })
}

/// The setting that an environment variable sets.
pub fn of_variable(variable: &str) -> Option<&'static Setting> {
    ALL.into_iter()
        .find(|setting| setting.variable == Some(variable))
}

/// A change of what a database says of a setting.
pub struct Change {
    key: &'static str,
    /// `None` to forget what was set.
    value: Option<Owned>,
}

impl Change {
    /// Setting `key` to `value`, or with NULL forgetting what was set.
    pub fn new(key: &str, value: &Json) -> Result<Self> {
        let setting = find(key)?;
        let value = match value {
            Json::Null => None,
            value => Some(setting.for_database(value)?),
        };
        Ok(Self {
            key: setting.key,
            value,
        })
    }

    /// Whether it is kept in the catalog, which there must be then.
    pub fn is_kept(&self) -> bool {
        self.value.is_some()
    }

    pub fn make(&self, connection: &Connection) -> Result<()> {
        if let Some(value) = &self.value {
            let sql = "INSERT OR REPLACE INTO main._archive_config VALUES (?1, ?2)";
            connection.execute(sql, (self.key, value))?;
        } else if catalog::exists(connection)? {
            let sql = "DELETE FROM main._archive_config WHERE key = ?1";
            connection.execute(sql, [self.key])?;
        }
        Ok(())
    }
}

/// The value of `key` and where it is from, as `archive_config(key)` shows it.
pub fn show(connection: &Connection, key: &str) -> Result<Json> {
    let setting = find(key)?;
    setting.show(&Config::read(connection)?)
}

/// Every setting as [`show`] shows it. A value that is wrong is shown with what is wrong with it.
pub fn show_all(connection: &Connection) -> Result<Json> {
    let config = Config::read(connection)?;
    let shown = ALL.into_iter().map(|setting| {
        let wrong = |error: Error| json!({"key": setting.key, "error": error.to_string()});
        setting.show(&config).unwrap_or_else(wrong)
    });
    Ok(shown.collect())
}
