//! Settings: where a value comes from. An option of the call is stronger than `archive_config`,
//! which is stronger than the environment, which is stronger than the default.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use rusqlite::types::Value as Owned;
use rusqlite::{Connection, MAIN_DB};
use serde_json::{Value as Json, json};

use crate::catalog;
use crate::error::{Error, Result};
use crate::storage::{self, Archive, Folder};

/// What kind of values a setting takes.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// A whole number within these bounds.
    Number { min: i64, max: i64 },
    /// A folder below the database's own.
    Folder,
    /// On or off.
    Switch,
}

/// A setting that `archive_config` knows.
#[derive(Debug)]
pub struct Setting {
    pub key: &'static str,
    /// The environment variable that sets it for a process.
    variable: Option<&'static str>,
    kind: Kind,
    default: &'static str,
}

/// Where the cold files are: relative to the database file's folder.
pub const ARCHIVE_DIR: Setting = Setting {
    key: "archive_dir",
    variable: Some("ARCHIVE_DIR"),
    kind: Kind::Folder,
    default: "archive/parquet",
};

/// The most rows that one write transaction moves.
pub const BATCH_SIZE: Setting = Setting {
    key: "batch_size",
    variable: Some("ARCHIVE_BATCH_SIZE"),
    kind: Kind::Number {
        min: 1,
        max: 1_000_000,
    },
    default: "10000",
};

/// The ZSTD level of new cold files.
pub const COMPRESSION_LEVEL: Setting = Setting {
    key: "compression_level",
    variable: None,
    kind: Kind::Number { min: 1, max: 22 },
    default: "3",
};

/// How many days a file that nothing refers to is kept.
pub const RETENTION_DAYS: Setting = Setting {
    key: "retention_days",
    variable: None,
    kind: Kind::Number {
        min: 0,
        max: 36_500,
    },
    default: "7",
};

/// Bytes of footers and decoded pages that the process keeps for later queries.
pub const CACHE_BYTES: Setting = Setting {
    key: "cache_bytes",
    variable: None,
    kind: Kind::Number {
        min: 0,
        max: 1 << 40,
    },
    default: "64000000",
};

/// Whether anything is kept for later queries.
pub const QUERY_CACHE_ENABLED: Setting = Setting {
    key: "query_cache_enabled",
    variable: Some("ARCHIVE_QUERY_CACHE_ENABLED"),
    kind: Kind::Switch,
    default: "true",
};

/// After how many seconds without use what is kept is dropped.
pub const QUERY_CACHE_TTL: Setting = Setting {
    key: "query_cache_ttl",
    variable: Some("ARCHIVE_QUERY_CACHE_TTL"),
    kind: Kind::Number {
        min: 0,
        max: 31_536_000,
    },
    default: "300",
};

/// How many threads of the process may decode ahead of scans.
pub const MAX_WORKERS: Setting = Setting {
    key: "max_workers",
    variable: Some("ARCHIVE_MAX_WORKERS"),
    kind: Kind::Number { min: 0, max: 64 },
    default: "2",
};

const ALL: [&Setting; 8] = [
    &ARCHIVE_DIR,
    &BATCH_SIZE,
    &CACHE_BYTES,
    &COMPRESSION_LEVEL,
    &MAX_WORKERS,
    &QUERY_CACHE_ENABLED,
    &QUERY_CACHE_TTL,
    &RETENTION_DAYS,
];

impl Setting {
    fn find(key: &str) -> Result<&'static Self> {
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
                    other => other.as_i64(),
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
            Kind::Switch => {
                let word = match value {
                    Json::String(text) => text.trim().to_ascii_lowercase(),
                    other => other.to_string(),
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
    fn resolve(&self, config: &Config) -> Result<(Json, &'static str)> {
        if let Some(value) = config.0.get(self.key) {
            let value = match value {
                Owned::Integer(number) => json!(number),
                Owned::Text(text) => json!(text),
                _ => Json::Null,
            };
            let value = self.check(&value, "archive_config")?;
            if let Kind::Folder = self.kind {
                below(value.as_str().unwrap_or_default())?;
            }
            return Ok((value, "config"));
        }
        if let Some(variable) = self.variable
            && let Ok(text) = std::env::var(variable)
            && !text.is_empty()
        {
            return Ok((self.check(&json!(text), variable)?, "environment"));
        }
        Ok((self.check(&json!(self.default), "its default")?, "default"))
    }

    /// Its value as a number; an option of the call is stronger than any setting.
    pub fn number(&self, connection: &Connection, option: Option<&Json>) -> Result<i64> {
        match option {
            Some(value) => self.as_number(&self.check(value, "the options")?),
            None => self.as_number(&self.resolve(&Config::read(connection)?)?.0),
        }
    }

    fn as_number(&self, value: &Json) -> Result<i64> {
        value
            .as_i64()
            .ok_or_else(|| Error::Internal(format!("{} is no number", self.key)))
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

/// What `archive_config` has set in a database.
#[derive(Debug, Default)]
pub struct Config(HashMap<String, Owned>);

impl Config {
    /// Reads all of it.
    pub fn read(connection: &Connection) -> Result<Self> {
        if !catalog::exists(connection)? {
            return Ok(Self::default());
        }
        let sql = "SELECT key, value FROM main._archive_config";
        let mut statement = connection.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Self(rows.collect::<Result<_, _>>()?))
    }
}

/// A folder that is set in the database may only be below the database's own: the database may be
/// from a stranger.
fn below(folder: &str) -> Result<()> {
    let plain = |component| matches!(component, Component::Normal(_) | Component::CurDir);
    match Path::new(folder).components().all(plain) {
        true => Ok(()),
        false => Err(Error::refused(format!(
            "archive_dir must be a folder below the database's own, not {folder}; any other folder \
             can be set with the environment variable ARCHIVE_DIR"
        ))),
    }
}

/// The value of `key` and where it is from, as `archive_config(key)` shows it.
pub fn show(connection: &Connection, key: &str) -> Result<Json> {
    let setting = Setting::find(key)?;
    let (value, source) = setting.resolve(&Config::read(connection)?)?;
    Ok(json!({"key": setting.key, "value": value, "source": source}))
}

/// Sets `key` in the database, or with NULL forgets what was set.
pub fn set(connection: &Connection, key: &str, value: &Json) -> Result<()> {
    let setting = Setting::find(key)?;
    if value.is_null() {
        if catalog::exists(connection)? {
            connection.execute("DELETE FROM main._archive_config WHERE key = ?1", [key])?;
        }
        return Ok(());
    }
    let value = setting.check(value, "archive_config")?;
    let value = match (&value, setting.kind) {
        (Json::String(folder), Kind::Folder) => {
            below(folder)?;
            Owned::Text(folder.clone())
        }
        (Json::Bool(on), _) => Owned::Integer(i64::from(*on)),
        _ => Owned::Integer(value.as_i64().unwrap_or_default()),
    };
    catalog::ensure(connection)?;
    let sql = "INSERT OR REPLACE INTO main._archive_config VALUES (?1, ?2)";
    connection.execute(sql, (key, value))?;
    Ok(())
}

/// The folder with the database's cold files, as an archive run uses it. There must be a catalog.
pub fn archive(connection: &Connection) -> Result<Archive> {
    let folder = folder(connection, &Config::read(connection)?)?;
    let id: String = catalog::meta(connection, "database_id")?;
    // A copy of the database is another database: it must not take the files that the original
    // writes after the copy was made for leftovers of its own.
    let place = match connection.path() {
        Some(path) if !path.is_empty() => {
            std::path::absolute(path).map_err(Error::io(Path::new(path)))?
        }
        _ => PathBuf::new(),
    };
    let place = place.canonicalize().unwrap_or(place);
    let identity = format!("{id} {}", place.display());
    let owner = xxhash_rust::xxh3::xxh3_64(identity.as_bytes());
    let lock = storage::file_identity(connection.path());
    Ok(Archive::new(folder, format!("{owner:016x}"), lock))
}

/// The folder with the database's cold files, which it has even before its catalog. A relative path
/// counts from the database file's folder, whatever the working directory is.
pub fn folder(connection: &Connection, config: &Config) -> Result<Folder> {
    archive_root(connection, config).map(Folder::new)
}

/// What the environment has to say on [`folder`].
pub fn folder_variable() -> Option<OsString> {
    ARCHIVE_DIR.variable.and_then(std::env::var_os)
}

fn archive_root(connection: &Connection, config: &Config) -> Result<PathBuf> {
    let (folder, source) = ARCHIVE_DIR.resolve(config)?;
    let folder = PathBuf::from(folder.as_str().unwrap_or_default());
    let database = match connection.path().filter(|path| !path.is_empty()) {
        Some(database) => Path::new(database),
        None if source == "environment" => {
            return std::path::absolute(&folder).map_err(Error::io(&folder));
        }
        None => {
            return Err(Error::refused(
                "the database is in memory, so its cold files have no place; set the environment \
                 variable ARCHIVE_DIR",
            ));
        }
    };
    let absolute = std::path::absolute(database).map_err(Error::io(database))?;
    let home = absolute.parent().unwrap_or(&absolute);
    let root = home.join(folder);
    if source != "environment" && root.exists() {
        let real = |path: &Path| path.canonicalize().map_err(Error::io(path));
        if !real(&root)?.starts_with(real(home)?) {
            return Err(Error::refused(format!(
                "{} is a link that leads away from the database; set the environment variable \
                 ARCHIVE_DIR to use it",
                root.display()
            )));
        }
    }
    Ok(root)
}

/// Refuses a database that cannot be written.
pub fn check_writable(connection: &Connection) -> Result<()> {
    match connection.is_readonly(MAIN_DB)? {
        true => Err(Error::refused("the database is read-only")),
        false => Ok(()),
    }
}
