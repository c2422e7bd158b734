//! The options of `archive_restore`.

use std::time::Duration;

use rusqlite::Connection;

use crate::error::{Error, Result};
use crate::moving::pace::Pace;
use crate::options::Object;
use crate::settings::{self, Config, Setting};
use crate::snapshot::live::Window;
use crate::time;

/// What happens to a cold row that a constraint of the hot table keeps out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    /// The call fails.
    Abort,
    /// The hot row stays, and the cold one stays cold.
    Ignore,
    /// The cold row takes the hot one's place.
    Replace,
    /// The cold row gets a new id, if it is the id that is taken.
    Renumber,
}

impl OnConflict {
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "abort" => Some(Self::Abort),
            "ignore" => Some(Self::Ignore),
            "replace" => Some(Self::Replace),
            "renumber" => Some(Self::Renumber),
            _ => None,
        }
    }
}

/// What a call of `archive_restore` asks for.
#[derive(Debug)]
pub struct Options {
    /// Rows whose time is in it come back.
    pub window: Window,
    /// An SQL expression that rows must also match.
    pub condition: Option<String>,
    pub on_conflict: OnConflict,
    /// The most rows that one write transaction moves.
    pub batch_size: usize,
    pub pace: Pace,
    pub dry_run: bool,
    /// What else the call goes by.
    pub config: Config,
}

const KNOWN: [&str; 8] = [
    "from",
    "to",
    "where",
    "on_conflict",
    "batch_size",
    "pause_ms",
    "max_rows_per_second",
    "dry_run",
];

impl Options {
    pub fn new(connection: &Connection, options: crate::value::Value<'_>) -> Result<Self> {
        let object = Object::parse(options, &KNOWN)?;
        let config = Config::read(connection)?;
        let number = |setting: &Setting| setting.number(&config, object.get(setting.key));
        let window = Window {
            from: instant(&object, "from")?,
            to: instant(&object, "to")?,
        };
        if let (Some(from), Some(to)) = (window.from, window.to)
            && from >= to
        {
            return Err(Error::refused(
                "option from must be before option to; a row whose time is that of to is not \
                 restored",
            ));
        }
        Ok(Self {
            window,
            condition: object.text("where")?.map(str::to_owned),
            on_conflict: object
                .choice(
                    "on_conflict",
                    "abort, ignore, replace or renumber",
                    OnConflict::from_name,
                )?
                .unwrap_or(OnConflict::Abort),
            batch_size: usize::try_from(number(&settings::BATCH_SIZE)?).unwrap_or(1),
            pace: Pace {
                pause: Duration::from_millis(number(&settings::PAUSE_MS)?.unsigned_abs()),
                rows_per_second: number(&settings::MAX_ROWS_PER_SECOND)?.unsigned_abs(),
                own_transactions: connection.is_autocommit(),
            },
            dry_run: object.flag("dry_run")?,
            config,
        })
    }
}

fn instant(object: &Object, key: &str) -> Result<Option<i64>> {
    let parse = |text: &str| {
        time::parse_iso8601(text).ok_or_else(|| {
            Error::refused(format!(
                "option {key} must be a time such as 2024-01-31 or 2024-01-31T12:00:00Z, not {text}"
            ))
        })
    };
    object.text(key)?.map(parse).transpose()
}
