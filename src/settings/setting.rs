//! One setting: what it may be, and where its value comes from.

use std::collections::HashMap;
use std::env::VarError;
use std::path::{Component, Path};

use rusqlite::Connection;
use rusqlite::types::Value as Owned;
use serde_json::{Value as Json, json};

use crate::catalog;
use crate::error::{Error, Result};
use crate::options::whole;

/// The source of a value that nobody has set, which may be one that nobody could set.
const DEFAULT: &str = "its default";

/// What kind of values a setting takes.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A whole number within these bounds.
    Number { min: i64, max: i64 },
    /// A folder below the database's own.
    Folder,
    /// A number of bytes with a unit, as DuckDB reads it, or nothing.
    Memory,
    /// On or off.
    Switch,
    /// Any text.
    Text,
}

/// Where a setting may be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the database, by `archive_config`, and in the environment.
    Database,
    /// Only in the environment: a database from a stranger must not start threads or send anything.
    Environment,
}

/// A setting that `archive_config` knows.
#[derive(Debug)]
pub struct Setting {
    pub key: &'static str,
    /// The environment variable that sets it for a process.
    pub variable: Option<&'static str>,
    pub kind: Kind,
    pub place: Place,
    pub default: &'static str,
}

impl Setting {
    /// Checks a value for this setting. `source` says where it is from.
    fn check(&self, value: &Json, source: &str) -> Result<Json> {
        let refuse = |expected: String| {
            Error::refused(format!(
                "{} must be {expected}, not {value} (from {source})",
                self.key
            ))
        };
        match self.kind {
            Kind::Number { min, max } => {
                let number = match value {
                    Json::String(text) => text.trim().parse().ok(),
                    other => whole(other),
                };
                match number {
                    Some(number) if (min..=max).contains(&number) => Ok(json!(number)),
                    _ => Err(refuse(format!("a whole number from {min} to {max}"))),
                }
            }
            Kind::Folder => match value.as_str() {
                Some(folder) if !folder.is_empty() => Ok(value.clone()),
                _ => Err(refuse("the path of a folder".to_owned())),
            },
            Kind::Text => match value {
                Json::String(_) => Ok(value.clone()),
                _ => Err(refuse("text".to_owned())),
            },
            Kind::Memory => match value.as_str() {
                Some(text) if is_memory(text) => Ok(value.clone()),
                Some("") if source == DEFAULT => Ok(value.clone()),
                _ => Err(refuse("an amount of memory like 512MB or 2GB".to_owned())),
            },
            Kind::Switch => {
                let word = match (value, whole(value)) {
                    (Json::String(text), _) => text.trim().to_ascii_lowercase(),
                    (_, Some(number)) => number.to_string(),
                    (other, None) => other.to_string(),
                };
                match word.as_str() {
                    "true" | "on" | "yes" | "1" => Ok(json!(true)),
                    "false" | "off" | "no" | "0" => Ok(json!(false)),
                    _ => Err(refuse("true or false".to_owned())),
                }
            }
        }
    }

    /// Its value and where that is from: `config`, `environment` or `default`.
    pub fn resolve(&self, config: &Config) -> Result<(Json, &'static str)> {
        if self.place == Place::Database
            && let Some(value) = config.0.get(self.key)
        {
            let value = match value {
                Owned::Integer(number) => json!(number),
                Owned::Real(number) => json!(number),
                Owned::Text(text) => json!(text),
                _ => Json::Null,
            };
            let value = self.check(&value, "archive_config")?;
            if let Kind::Folder = self.kind {
                below(value.as_str().unwrap_or_default())?;
            }
            return Ok((value, "config"));
        }
        if let Some(variable) = self.variable {
            match std::env::var(variable) {
                Ok(text) if !text.is_empty() => {
                    return Ok((self.check(&json!(text), variable)?, "environment"));
                }
                // What somebody has set must not end in the default.
                Err(VarError::NotUnicode(_)) => {
                    return Err(Error::refused(format!(
                        "the environment variable {variable} is not UTF-8"
                    )));
                }
                _ => {}
            }
        }
        Ok((self.check(&json!(self.default), DEFAULT)?, "default"))
    }

    /// Its value as a number; an option of the call is stronger than any setting.
    pub fn number(&self, config: &Config, option: Option<&Json>) -> Result<i64> {
        match option {
            Some(value) => self.as_number(&self.check(value, "the options")?),
            None => self.as_number(&self.resolve(config)?.0),
        }
    }

    fn as_number(&self, value: &Json) -> Result<i64> {
        value
            .as_i64()
            .ok_or_else(|| Error::Internal(format!("{} is no number", self.key)))
    }

    /// How `archive_config` shows it: `key`, `value`, `source` and the environment `variable`, if any.
    pub fn show(&self, config: &Config) -> Result<Json> {
        let (value, source) = self.resolve(config)?;
        Ok(json!({
            "key": self.key,
            "value": value,
            "source": source,
            "variable": self.variable,
        }))
    }

    /// `value` as the database keeps it.
    pub fn for_database(&self, value: &Json) -> Result<Owned> {
        let key = self.key;
        if self.place == Place::Environment {
            return Err(Error::refused(format!(
                "{key} cannot be set in a database, which may travel; set the environment variable {}",
                self.variable.unwrap_or_default()
            )));
        }
        let value = self.check(value, "archive_config")?;
        Ok(match (&value, self.kind) {
            (Json::String(folder), Kind::Folder) => {
                below(folder)?;
                Owned::Text(folder.clone())
            }
            (Json::String(text), _) => Owned::Text(text.clone()),
            (Json::Bool(on), _) => Owned::Integer(i64::from(*on)),
            _ => Owned::Integer(value.as_i64().unwrap_or_default()),
        })
    }

    /// Whether it is a number of days that rows stay hot.
    pub fn is_hot_days(&self) -> bool {
        self.key.starts_with("hot_days_")
    }

    /// Its value as text.
    pub fn text(&self, config: &Config) -> Result<String> {
        let value = self.resolve(config)?.0;
        Ok(value.as_str().unwrap_or_default().to_owned())
    }

    /// Whether neither the database nor the environment switches it off: a master switch is off if
    /// anybody says so.
    pub fn is_on_everywhere(&self, config: &Config) -> Result<bool> {
        Ok(self.is_on(config)? && self.is_on(&Config::default())?)
    }

    /// Whether something says what it is to be, and not only its default.
    pub fn is_set(&self, config: &Config) -> Result<bool> {
        Ok(self.resolve(config)?.1 != "default")
    }

    /// Its value as a number of things.
    pub fn count(&self, config: &Config) -> Result<usize> {
        let number = self.as_number(&self.resolve(config)?.0)?;
        Ok(usize::try_from(number).unwrap_or(0))
    }

    /// Whether it is switched on.
    pub fn is_on(&self, config: &Config) -> Result<bool> {
        Ok(self.resolve(config)?.0 == json!(true))
    }
}

/// Whether DuckDB would read `text` as an amount of memory: `512MB`, `1.5 GiB`.
fn is_memory(text: &str) -> bool {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let units = ["kb", "mb", "gb", "tb", "kib", "mib", "gib", "tib"];
    number.parse::<f64>().is_ok_and(|number| number > 0.0)
        && units.contains(&unit.trim().to_ascii_lowercase().as_str())
}

/// What `archive_config` has set in a database. A call reads it once, so that all it does is by one state of it.
#[derive(Debug, Clone, Default)]
pub struct Config(HashMap<String, Owned>);

impl Config {
    /// Reads all of it.
    pub fn read(connection: &Connection) -> Result<Self> {
        if !catalog::exists(connection)? {
            return Ok(Self::default());
        }
        Self::read_table(connection)
    }

    /// What a catalog says that may be damaged.
    pub fn read_remains(connection: &Connection) -> Result<Self> {
        match catalog::has_table(connection, "_archive_config")? {
            true => Self::read_table(connection),
            false => Ok(Self::default()),
        }
    }

    fn read_table(connection: &Connection) -> Result<Self> {
        let sql = "SELECT key, value FROM main._archive_config";
        let mut statement = connection.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Self(rows.collect::<Result<_, _>>()?))
    }
}

/// A folder that is set in the database may only be below the database's own: the database may be
/// from a stranger.
pub fn below(folder: &str) -> Result<()> {
    let plain = |component| matches!(component, Component::Normal(_) | Component::CurDir);
    let names = |component| matches!(component, Component::Normal(_));
    let mut components = Path::new(folder).components();
    // The database's own folder has other things in it.
    let is_below = components.clone().all(plain) && components.any(names);
    match !folder.contains('\0') && is_below {
        true => Ok(()),
        false => Err(Error::refused(format!(
            "archive_dir must be a folder below the database's own, not {folder}; any other folder \
             can be set with the environment variable ARCHIVE_DIR"
        ))),
    }
}
