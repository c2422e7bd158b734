//! The arguments and options of `archive_table`.

use chrono::Utc;
use rusqlite::Connection;
use serde_json::{Map, Value as Json};

use crate::error::{Error, Result};
use crate::settings;
use crate::time::{self, Partition, TimeFormat};
use crate::value::Value;

/// What a call of `archive_table` asks for.
#[derive(Debug)]
pub struct Options {
    /// Rows before this instant move, in microseconds since 1970 UTC.
    pub cutoff: i64,
    pub time_column: Option<String>,
    /// `None` to find out from the values.
    pub time_format: Option<TimeFormat>,
    /// An SQL expression that rows must also match.
    pub condition: Option<String>,
    pub partition: Partition,
    /// The most rows that one write transaction moves.
    pub batch_size: usize,
    /// ZSTD, 1 to 22.
    pub compression_level: i32,
    /// Milliseconds to wait after each write transaction.
    pub pause_ms: u64,
    pub dry_run: bool,
    pub ignore_foreign_keys: bool,
    pub progress: bool,
}

const KNOWN: [&str; 11] = [
    "time_column",
    "time_format",
    "before",
    "where",
    "partition",
    "batch_size",
    "compression_level",
    "dry_run",
    "pause_ms",
    "ignore_foreign_keys",
    "progress",
];

/// The longest pause between two transactions: a minute.
const MAX_PAUSE_MS: u64 = 60_000;

impl Options {
    /// Reads `hot_days` and the options object, and fills in settings and defaults.
    pub fn parse(connection: &Connection, hot_days: Value<'_>, options: Value<'_>) -> Result<Self> {
        let object = Object(parse_object(options, &KNOWN)?);
        let number =
            |setting: &settings::Setting| setting.number(connection, object.get(setting.key));
        Ok(Self {
            cutoff: cutoff(hot_days, object.text("before")?)?,
            time_column: object.text("time_column")?.map(str::to_owned),
            time_format: object
                .choice("time_format", |name| match name {
                    "auto" => Some(None),
                    name => TimeFormat::from_name(name).map(Some),
                })?
                .flatten(),
            condition: object.text("where")?.map(str::to_owned),
            partition: object.choice("partition", Partition::from_name)?.unwrap_or(Partition::Day),
            batch_size: usize::try_from(number(&settings::BATCH_SIZE)?).unwrap_or(1),
            compression_level: i32::try_from(number(&settings::COMPRESSION_LEVEL)?).unwrap_or(1),
            pause_ms: match object.get("pause_ms") {
                None => 0,
                Some(value) => value.as_u64().filter(|ms| *ms <= MAX_PAUSE_MS).ok_or_else(|| {
                    Error::refused(format!(
                        "option pause_ms must be a number of milliseconds up to {MAX_PAUSE_MS}, not {value}"
                    ))
                })?,
            },
            dry_run: object.flag("dry_run")?,
            ignore_foreign_keys: object.flag("ignore_foreign_keys")?,
            progress: object.flag("progress")?,
        })
    }
}

fn cutoff(hot_days: Value<'_>, before: Option<&str>) -> Result<i64> {
    let too_far = || Error::refused("hot_days reaches back before the year 0000");
    match (hot_days, before) {
        (Value::Null, Some(before)) => time::parse_iso8601(before).ok_or_else(|| {
            Error::refused(format!(
                "option before must be a time such as 2024-01-31 or 2024-01-31T12:00:00Z, not {before}"
            ))
        }),
        (Value::Null, None) => Err(Error::refused(
            "hot_days is NULL; give a number of days, or the option before",
        )),
        (Value::Integer(days @ 0..), None) => time::cutoff(Utc::now(), days).ok_or_else(too_far),
        (Value::Integer(_), None) => Err(Error::refused("hot_days must not be negative")),
        (_, Some(_)) => Err(Error::refused(
            "hot_days and the option before exclude each other; make hot_days NULL",
        )),
        _ => Err(Error::refused("hot_days must be a whole number of days")),
    }
}

/// Reads a JSON object whose keys are all `known`; NULL is an empty one.
pub fn parse_object(options: Value<'_>, known: &[&str]) -> Result<Map<String, Json>> {
    let text = match options {
        Value::Null => return Ok(Map::new()),
        Value::Text(text) => text,
        _ => return Err(Error::refused("the options must be a JSON object")),
    };
    let object = match serde_json::from_str(text) {
        Ok(Json::Object(object)) => object,
        Ok(_) => return Err(Error::refused("the options must be a JSON object")),
        Err(error) => {
            return Err(Error::refused(format!("the options are not JSON: {error}")));
        }
    };
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(Error::refused(format!(
            "unknown option {key}; there are {}",
            known.join(", ")
        ))),
        None => Ok(object),
    }
}

/// Options by their type. A JSON null is the same as an option that is not there.
struct Object(Map<String, Json>);

impl Object {
    fn get(&self, key: &str) -> Option<&Json> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(text)),
            Some(other) => Err(Error::refused(format!(
                "option {key} must be text, not {other}"
            ))),
        }
    }

    fn flag(&self, key: &str) -> Result<bool> {
        match self.get(key) {
            None => Ok(false),
            Some(Json::Bool(flag)) => Ok(*flag),
            Some(Json::Number(number)) if number.as_i64() == Some(0) => Ok(false),
            Some(Json::Number(number)) if number.as_i64() == Some(1) => Ok(true),
            Some(other) => Err(Error::refused(format!(
                "option {key} must be true or false, not {other}"
            ))),
        }
    }

    fn choice<T>(&self, key: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        match parse(text) {
            Some(choice) => Ok(Some(choice)),
            None => {
                let choices = match key {
                    "partition" => "day, month or year",
                    _ => "auto, iso8601, unix_s, unix_ms, unix_us, unix_ns or julian",
                };
                Err(Error::refused(format!(
                    "option {key} must be {choices}, not {text}"
                )))
            }
        }
    }
}
