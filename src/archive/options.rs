//! The arguments and options of `archive_table`.

use crate::error::{Error, Result};
use crate::options::Object;
use crate::settings::{self, Config, Setting};
use crate::time::{self, Partition, TimeFormat, clock};
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
    /// Milliseconds to wait after each write transaction, at least.
    pub pause_ms: u64,
    /// The most rows that move in a second; 0 for no limit.
    pub max_rows_per_second: u64,
    /// How many hours rows stay hot after they were copied; 0 to move them at once.
    pub grace_hours: i64,
    /// Cold rows before this instant are dropped.
    pub expire_before: Option<i64>,
    pub dry_run: bool,
    pub ignore_foreign_keys: bool,
    pub progress: bool,
    /// The most threads that write files.
    pub max_workers: usize,
    /// What else the call goes by.
    pub config: Config,
}

/// All options there are.
pub const KNOWN: [&str; 14] = [
    "time_column",
    "time_format",
    "before",
    "where",
    "partition",
    "batch_size",
    "compression_level",
    "grace_hours",
    "expire_days",
    "dry_run",
    "pause_ms",
    "max_rows_per_second",
    "ignore_foreign_keys",
    "progress",
];

impl Options {
    /// Fills in settings and defaults. `grace_hours` is what counts if no option says otherwise.
    pub fn new(
        config: Config,
        hot_days: Value<'_>,
        object: &Object,
        grace_hours: i64,
    ) -> Result<Self> {
        let number = |setting: &Setting| setting.number(&config, object.get(setting.key));
        let count = |setting: &Setting| Ok::<_, Error>(number(setting)?.unsigned_abs());
        let cutoff = cutoff(hot_days, object.text("before")?)?;
        Ok(Self {
            cutoff,
            max_workers: settings::MAX_WORKERS.count(&config)?,
            time_column: object.text("time_column")?.map(str::to_owned),
            time_format: object
                .choice("time_format", &format_choices(), |name| match name {
                    "auto" => Some(None),
                    name => TimeFormat::from_name(name).map(Some),
                })?
                .flatten(),
            condition: object.text("where")?.map(str::to_owned),
            partition: object
                .choice("partition", "day, month or year", Partition::from_name)?
                .unwrap_or(Partition::Day),
            batch_size: usize::try_from(number(&settings::BATCH_SIZE)?).unwrap_or(1),
            compression_level: i32::try_from(number(&settings::COMPRESSION_LEVEL)?).unwrap_or(1),
            pause_ms: count(&settings::PAUSE_MS)?,
            max_rows_per_second: count(&settings::MAX_ROWS_PER_SECOND)?,
            grace_hours: match object.get(settings::GRACE_HOURS.key) {
                Some(_) => number(&settings::GRACE_HOURS)?,
                None => grace_hours,
            },
            expire_before: expire_before(object, cutoff)?,
            dry_run: object.flag("dry_run")?,
            ignore_foreign_keys: object.flag("ignore_foreign_keys")?,
            progress: object.flag("progress")?,
            config,
        })
    }
}

fn format_choices() -> String {
    let names: Vec<&str> = TimeFormat::ALL.into_iter().map(TimeFormat::name).collect();
    format!("auto or one of {}", names.join(", "))
}

const BEFORE_TIME: &str = "reaches back before the year 0000";

fn cutoff(hot_days: Value<'_>, before: Option<&str>) -> Result<i64> {
    match (hot_days, before) {
        (Value::Null, Some(before)) => time::parse_iso8601(before).ok_or_else(|| {
            Error::refused(format!(
                "option before must be a time such as 2024-01-31 or 2024-01-31T12:00:00Z, not {before}"
            ))
        }),
        (Value::Null, None) => Err(Error::refused(
            "hot_days is NULL; give a number of days, or the option before",
        )),
        (_, Some(_)) => Err(Error::refused(
            "hot_days and the option before exclude each other; make hot_days NULL",
        )),
        (days, None) => match days.whole() {
            Some(days @ 0..) => time::cutoff(clock::now(), days)
                .ok_or_else(|| Error::refused(format!("hot_days {BEFORE_TIME}"))),
            Some(_) => Err(Error::refused("hot_days must not be negative")),
            None => Err(Error::refused("hot_days must be a whole number of days")),
        },
    }
}

fn expire_before(object: &Object, cutoff: i64) -> Result<Option<i64>> {
    let expected = "a whole number of days, at least 1";
    let days = match object.whole("expire_days", expected)? {
        None => return Ok(None),
        Some(days @ 1..) => days,
        Some(days) => {
            return Err(Error::refused(format!(
                "option expire_days must be {expected}, not {days}"
            )));
        }
    };
    let before = time::cutoff(clock::now(), days)
        .ok_or_else(|| Error::refused(format!("option expire_days {BEFORE_TIME}")))?;
    match before <= cutoff {
        true => Ok(Some(before)),
        false => Err(Error::refused(
            "option expire_days is less than hot_days: rows would be dropped as soon as they are \
             cold",
        )),
    }
}
