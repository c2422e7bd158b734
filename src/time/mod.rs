//! Time: which instant a row's time column names, and where the day of an instant is filed.
//!
//! Instants are microseconds since 1970-01-01 00:00 UTC in an `i64`.

pub mod canonical;
pub mod clock;

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, Utc};

use crate::error::{Error, Result};
use crate::value::Value;

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;
/// The Julian day number of 1970-01-01 00:00 UTC.
const JULIAN_EPOCH: f64 = 2_440_587.5;

/// How the values of a time column name instants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeFormat {
    /// Text as SQLite's date functions read it, UTC unless it says otherwise.
    Iso8601,
    UnixSeconds,
    UnixMillis,
    UnixMicros,
    UnixNanos,
    /// Days since noon in Greenwich on November 24, 4714 B.C.
    Julian,
}

impl TimeFormat {
    pub const ALL: [Self; 6] = [
        Self::Iso8601,
        Self::UnixSeconds,
        Self::UnixMillis,
        Self::UnixMicros,
        Self::UnixNanos,
        Self::Julian,
    ];

    /// Its name in the option `time_format` and in the catalog.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iso8601 => "iso8601",
            Self::UnixSeconds => "unix_s",
            Self::UnixMillis => "unix_ms",
            Self::UnixMicros => "unix_us",
            Self::UnixNanos => "unix_ns",
            Self::Julian => "julian",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The instant that `value` names, or `None` if it is NULL, not in this format, or outside the
    /// years 0000 to 9999.
    pub fn instant(self, value: Value<'_>) -> Option<i64> {
        let micros = match (self, value) {
            (Self::Iso8601, Value::Text(text)) => parse_iso8601(text)?,
            (Self::UnixSeconds, Value::Integer(n)) => n.checked_mul(MICROS_PER_SECOND)?,
            (Self::UnixMillis, Value::Integer(n)) => n.checked_mul(1_000)?,
            (Self::UnixMicros, Value::Integer(n)) => n,
            (Self::UnixNanos, Value::Integer(n)) => n.div_euclid(1_000),
            (Self::UnixSeconds, Value::Real(n)) => float_micros(n, 1e6)?,
            (Self::UnixMillis, Value::Real(n)) => float_micros(n, 1e3)?,
            (Self::UnixMicros, Value::Real(n)) => float_micros(n, 1.0)?,
            (Self::UnixNanos, Value::Real(n)) => float_micros(n, 1e-3)?,
            (Self::Julian, Value::Real(n)) => float_micros(n - JULIAN_EPOCH, 86_400e6)?,
            (Self::Julian, Value::Integer(n)) => {
                float_micros(f64::from(i32::try_from(n).ok()?) - JULIAN_EPOCH, 86_400e6)?
            }
            _ => return None,
        };
        in_calendar(micros).then_some(micros)
    }

    /// The format in which `value` is plainly a time between 1980 and 2200, by its class and size.
    fn guess(value: Value<'_>) -> Option<Self> {
        let number = match value {
            Value::Text(text) => return parse_iso8601(text).map(|_| Self::Iso8601),
            #[expect(clippy::cast_precision_loss, reason = "only the magnitude counts")]
            Value::Integer(n) => n as f64,
            Value::Real(n) => n,
            _ => return None,
        };
        // Seconds from 1980 to 2200; each finer unit is a thousand times that.
        const SECONDS: std::ops::Range<f64> = 315e6..7_258e6;
        if (2_444_239.5..2_524_594.5).contains(&number) {
            return Some(Self::Julian);
        }
        [
            (Self::UnixSeconds, 1.0),
            (Self::UnixMillis, 1e3),
            (Self::UnixMicros, 1e6),
            (Self::UnixNanos, 1e9),
        ]
        .into_iter()
        .find(|(_, unit)| SECONDS.contains(&(number / unit)))
        .map(|(format, _)| format)
    }

    /// The one format that all of `sample` are in. NULLs do not count. `column` is for the message.
    pub fn detect(sample: &[rusqlite::types::Value], column: &str) -> Result<Option<Self>> {
        let values = sample.iter().map(Value::from);
        let mut seen: Vec<(Option<Self>, &rusqlite::types::Value)> = Vec::new();
        for (value, shown) in values.zip(sample) {
            let guess = Self::guess(value);
            if !matches!(value, Value::Null) && !seen.iter().any(|(other, _)| *other == guess) {
                seen.push((guess, shown));
            }
        }
        match seen[..] {
            [] => Ok(None),
            [(Some(format), _)] => Ok(Some(format)),
            _ => {
                let shown: Vec<String> = seen
                    .iter()
                    .map(|(guess, value)| {
                        let looks = guess.map_or("unknown", Self::name);
                        format!("{} ({looks})", show(value))
                    })
                    .collect();
                let names: Vec<&str> = Self::ALL.into_iter().map(Self::name).collect();
                Err(Error::refused(format!(
                    "the time format of column {column} is ambiguous, it has values like {}; \
                     say which it is with {{\"time_format\":\"...\"}}, one of {}",
                    shown.join(", "),
                    names.join(", ")
                )))
            }
        }
    }
}

/// A value for an error message, short enough to read.
fn show(value: &rusqlite::types::Value) -> String {
    use rusqlite::types::Value as Sql;
    match value {
        Sql::Null => "NULL".to_owned(),
        Sql::Integer(n) => n.to_string(),
        Sql::Real(n) => n.to_string(),
        Sql::Text(text) => format!("'{}'", text.chars().take(40).collect::<String>()),
        Sql::Blob(blob) => format!("a blob of {} bytes", blob.len()),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
fn float_micros(number: f64, micros_per_unit: f64) -> Option<i64> {
    let micros = (number * micros_per_unit).round();
    (micros.abs() < 9e18).then_some(micros as i64)
}

fn in_calendar(micros: i64) -> bool {
    DateTime::from_timestamp_micros(micros).is_some_and(|time| (0..=9999).contains(&time.year()))
}

/// Reads `YYYY-MM-DD`, optionally followed by a space or `T`, `HH:MM`, `:SS`, a fraction, and `Z`
/// or `±HH:MM` (<https://www.sqlite.org/lang_datefunc.html#time_values>).
pub fn parse_iso8601(text: &str) -> Option<i64> {
    let text = text.as_bytes();
    let (date, mut rest) = text.split_at_checked(10)?;
    let (&[y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1], true) =
        (<&[u8; 10]>::try_from(date).ok()?, date.is_ascii())
    else {
        return None;
    };
    let year = digits(&[y0, y1, y2, y3])?;
    let date = NaiveDate::from_ymd_opt(
        i32::try_from(year).ok()?,
        digits(&[m0, m1])?,
        digits(&[d0, d1])?,
    )?;
    let mut time = NaiveTime::MIN;
    let mut offset_minutes = 0;
    if !rest.is_empty() {
        rest = rest
            .strip_prefix(b" ")
            .or_else(|| rest.strip_prefix(b"T"))?;
        (time, rest) = parse_clock(rest)?;
        offset_minutes = parse_zone(rest)?;
    }
    let micros = date.and_time(time).and_utc().timestamp_micros();
    Some(micros - offset_minutes * 60 * MICROS_PER_SECOND)
}

fn parse_clock(text: &[u8]) -> Option<(NaiveTime, &[u8])> {
    let (hour, rest) = two_digits(text)?;
    let (minute, mut rest) = two_digits(rest.strip_prefix(b":")?)?;
    let (mut second, mut micros) = (0, 0);
    if let Some(after) = rest.strip_prefix(b":") {
        (second, rest) = two_digits(after)?;
        if let Some(after) = rest.strip_prefix(b".") {
            let count = after
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            let (fraction, after) = after.split_at(count);
            if fraction.is_empty() {
                return None;
            }
            let mut scale = 100_000;
            for digit in fraction.iter().take(6) {
                micros += u32::from(digit - b'0') * scale;
                scale /= 10;
            }
            rest = after;
        }
    }
    Some((
        NaiveTime::from_hms_micro_opt(hour, minute, second, micros)?,
        rest,
    ))
}

/// Minutes east of UTC.
fn parse_zone(text: &[u8]) -> Option<i64> {
    let text = text.trim_ascii();
    let (sign, text) = match text.split_first() {
        None => return Some(0),
        Some((b'Z' | b'z', [])) => return Some(0),
        Some((b'+', rest)) => (1, rest),
        Some((b'-', rest)) => (-1, rest),
        _ => return None,
    };
    let (hours, rest) = two_digits(text)?;
    let (minutes, rest) = two_digits(rest.strip_prefix(b":")?)?;
    let valid = rest.is_empty() && hours <= 14 && minutes < 60;
    valid.then(|| sign * i64::from(hours * 60 + minutes))
}

fn two_digits(text: &[u8]) -> Option<(u32, &[u8])> {
    let (pair, rest) = text.split_at_checked(2)?;
    Some((digits(pair)?, rest))
}

fn digits(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0, |number, byte| {
        byte.is_ascii_digit()
            .then(|| number * 10 + u32::from(byte - b'0'))
    })
}

/// The start of the UTC day of `now`, `days` days earlier.
pub fn cutoff(now: DateTime<Utc>, days: i64) -> Option<i64> {
    let today = now.timestamp_micros().div_euclid(MICROS_PER_DAY);
    let cutoff = today.checked_sub(days)?.checked_mul(MICROS_PER_DAY)?;
    in_calendar(cutoff).then_some(cutoff)
}

/// `YYYY-MM-DDTHH:MM:SSZ`, with a fraction only where there is one.
pub fn format_instant(micros: i64) -> String {
    use chrono::SecondsFormat::AutoSi;
    match DateTime::from_timestamp_micros(micros) {
        Some(time) => time.to_rfc3339_opts(AutoSi, true),
        None => micros.to_string(),
    }
}

/// How long a time one folder of cold files covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partition {
    Day,
    Month,
    Year,
}

impl Partition {
    /// Its name in the option `partition`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Day, Self::Month, Self::Year]
            .into_iter()
            .find(|partition| partition.name() == name)
    }

    /// The partition of an instant, as a number `YYYYMMDD` whose last parts are 0 if they do not
    /// count; it grows with time.
    pub fn number(self, instant: i64) -> i64 {
        let Some(time) = DateTime::from_timestamp_micros(instant) else {
            return 0;
        };
        let (year, month, day) = (i64::from(time.year()), time.month(), time.day());
        match self {
            Self::Day => year * 10_000 + i64::from(month * 100 + day),
            Self::Month => year * 10_000 + i64::from(month * 100),
            Self::Year => year * 10_000,
        }
    }

    /// The Hive folders of a partition number: `year=2024/month=05/day=01`.
    pub fn folder(self, number: i64, key_prefix: &str) -> String {
        let (year, month, day) = (number / 10_000, number / 100 % 100, number % 100);
        let mut folder = format!("{key_prefix}year={year:04}");
        if self != Self::Year {
            folder += &format!("/{key_prefix}month={month:02}");
        }
        if self == Self::Day {
            folder += &format!("/{key_prefix}day={day:02}");
        }
        folder
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::types::Value as Sql;

    fn at(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text)
            .unwrap()
            .timestamp_micros()
    }

    #[test]
    fn iso8601_reads_what_sqlite_reads() {
        for (text, expected) in [
            ("2024-02-29", "2024-02-29T00:00:00Z"),
            ("2024-02-29 12:34", "2024-02-29T12:34:00Z"),
            ("2024-02-29T12:34:56", "2024-02-29T12:34:56Z"),
            ("2024-02-29 12:34:56.789", "2024-02-29T12:34:56.789Z"),
            (
                "2024-02-29 12:34:56.1234567Z",
                "2024-02-29T12:34:56.123456Z",
            ),
            ("2024-02-29 12:34:56+02:00", "2024-02-29T10:34:56Z"),
            ("2024-02-29T00:00:00-05:30", "2024-02-29T05:30:00Z"),
        ] {
            assert_eq!(parse_iso8601(text), Some(at(expected)), "{text}");
        }
        for text in [
            "",
            "2024",
            "2023-02-29",
            "2024-13-01",
            "2024-02-29 25:00",
            "2024-02-29x",
            "2024-02-29 12:34:56.",
            "2024-02-29 12:34:56 nonsense",
            "20240229",
            "2024-1-1",
            "2024-02-29 12",
            "١٢٣٤-٠١-٠١",
        ] {
            assert_eq!(parse_iso8601(text), None, "{text}");
        }
    }

    #[test]
    fn every_unit_names_the_same_instant() {
        let instant = at("2024-05-06T07:08:09Z");
        let seconds = instant / 1_000_000;
        for (format, value) in [
            (TimeFormat::UnixSeconds, Value::Integer(seconds)),
            (TimeFormat::UnixMillis, Value::Integer(seconds * 1_000)),
            (TimeFormat::UnixMicros, Value::Integer(seconds * 1_000_000)),
            (
                TimeFormat::UnixNanos,
                Value::Integer(seconds * 1_000_000_000),
            ),
            (TimeFormat::Iso8601, Value::Text("2024-05-06 07:08:09")),
        ] {
            assert_eq!(format.instant(value), Some(instant), "{format:?}");
            assert_eq!(TimeFormat::guess(value), Some(format));
        }
        let julian = TimeFormat::Julian
            .instant(Value::Real(2_460_436.5))
            .unwrap();
        assert_eq!(julian, at("2024-05-06T00:00:00Z"));
    }

    #[test]
    fn unreadable_times_are_nothing() {
        assert_eq!(
            TimeFormat::UnixSeconds.instant(Value::Integer(i64::MAX)),
            None
        );
        assert_eq!(TimeFormat::UnixSeconds.instant(Value::Null), None);
        assert_eq!(
            TimeFormat::Iso8601.instant(Value::Integer(1_700_000_000)),
            None
        );
        assert_eq!(
            TimeFormat::UnixSeconds.instant(Value::Real(f64::INFINITY)),
            None
        );
    }

    #[test]
    fn mixed_formats_are_ambiguous_and_shown() {
        let sample = [
            Sql::Integer(1_700_000_000),
            Sql::Null,
            Sql::Integer(1_700_000_000_000),
        ];
        let message = TimeFormat::detect(&sample, "ts").unwrap_err().to_string();
        assert!(message.contains("1700000000 (unix_s)"), "{message}");
        assert!(message.contains("1700000000000 (unix_ms)"), "{message}");
        let sample = [Sql::Integer(20_240_105)];
        assert!(TimeFormat::detect(&sample, "ts").is_err());
        assert_eq!(TimeFormat::detect(&[Sql::Null], "ts").unwrap(), None);
    }

    #[test]
    fn days_are_whole_and_utc() {
        let now = DateTime::from_timestamp_micros(at("2024-03-01T23:59:59Z")).unwrap();
        assert_eq!(cutoff(now, 1), Some(at("2024-02-29T00:00:00Z")));
        assert_eq!(cutoff(now, i64::MAX), None);
        let before_epoch = at("1969-12-31T23:59:59Z");
        assert_eq!(Partition::Day.number(before_epoch), 19_691_231);
        assert_eq!(
            Partition::Day.folder(20_240_229, ""),
            "year=2024/month=02/day=29"
        );
        assert_eq!(
            Partition::Month.folder(20_240_200, "archive_"),
            "archive_year=2024/archive_month=02"
        );
        assert_eq!(Partition::Year.folder(10_000, ""), "year=0001");
    }
}
