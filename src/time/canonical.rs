//! Timestamps that text can be rebuilt from, byte for byte.
//!
//! A text column in which every value has the same one of these shapes is stored as a Parquet
//! TIMESTAMP or DATE: smaller, and typed for other engines.

use std::ops::RangeInclusive;

use chrono::{NaiveDate, NaiveDateTime, NaiveTime};

/// What stands between the date and the time of day.
const SEPARATORS: [u8; 2] = [b' ', b'T'];
/// What may follow the time of day. The empty one is a local time in Parquet's terms.
const ZONES: [&str; 3] = ["", "Z", "+00:00"];

/// A shape of text: `YYYY-MM-DD`, or that with a time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Stored as days since 1970-01-01.
    Date,
    /// Stored as a number of [`Unit`]s since 1970-01-01 00:00.
    Timestamp {
        separator: u8,
        /// Digits after the decimal point: 0, 3, 6 or 9.
        fraction: u8,
        zone: &'static str,
    },
}

/// The unit that a timestamp is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Millis,
    Micros,
    Nanos,
}

impl Unit {
    fn nanos(self) -> i64 {
        match self {
            Self::Millis => 1_000_000,
            Self::Micros => 1_000,
            Self::Nanos => 1,
        }
    }
}

/// 0000-01-01 and 9999-12-31, in days since 1970-01-01.
const FIRST_DAY: i64 = -719_528;
const LAST_DAY: i64 = 2_932_896;
const NANOS_PER_SECOND: i64 = 1_000_000_000;
const NANOS_PER_DAY: i64 = 86_400 * NANOS_PER_SECOND;

/// The longest text a shape has: `YYYY-MM-DDTHH:MM:SS.123456789+00:00`.
pub const MAX_LENGTH: usize = 35;

impl Shape {
    /// The shape that `text` could have, by its length and punctuation alone.
    pub fn of(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() == 10 {
            return Some(Self::Date);
        }
        let separator = *bytes.get(10)?;
        let zone = ZONES.into_iter().rev().find(|zone| text.ends_with(zone))?;
        let fraction = match bytes.len().checked_sub(19 + zone.len())? {
            0 => 0,
            4 => 3,
            7 => 6,
            10 => 9,
            _ => return None,
        };
        SEPARATORS.contains(&separator).then_some(Self::Timestamp {
            separator,
            fraction,
            zone,
        })
    }

    /// Its name in a file's metadata, an example of the shape.
    pub fn name(self) -> String {
        let mut buffer = [0; MAX_LENGTH];
        self.format(0, &mut buffer).unwrap_or_default().to_owned()
    }

    /// The reverse of [`Self::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::of(name).filter(|shape| shape.name() == name)
    }

    /// The unit of its numbers; [`Self::Date`] counts days.
    pub fn unit(self) -> Option<Unit> {
        match self {
            Self::Date => None,
            Self::Timestamp { fraction: 9, .. } => Some(Unit::Nanos),
            Self::Timestamp { fraction: 6, .. } => Some(Unit::Micros),
            Self::Timestamp { .. } => Some(Unit::Millis),
        }
    }

    /// The numbers that [`Self::format`] makes text of: the years 0 to 9999, as far as they fit.
    pub fn numbers(self) -> RangeInclusive<i64> {
        let per_day = match self.unit() {
            None => 1,
            Some(Unit::Nanos) => return i64::MIN..=i64::MAX,
            Some(unit) => 86_400 * (1_000_000_000 / unit.nanos()),
        };
        FIRST_DAY * per_day..=(LAST_DAY + 1) * per_day - 1
    }

    /// Whether the text names UTC, in Parquet's terms "adjusted to UTC".
    pub fn is_utc(self) -> bool {
        matches!(self, Self::Timestamp { zone, .. } if !zone.is_empty())
    }

    /// The number that stands for `text`, if and only if [`Self::format`] gives back the same bytes.
    pub fn parse(self, text: &str) -> Option<i64> {
        if !text.is_ascii() {
            return None;
        }
        let date = text.get(..10)?;
        let field = |part: &str| part.parse::<u32>().ok();
        let date = NaiveDate::from_ymd_opt(
            date.get(..4)?.parse().ok()?,
            field(date.get(5..7)?)?,
            field(date.get(8..10)?)?,
        )?;
        let time = match self {
            Self::Date => NaiveTime::MIN,
            Self::Timestamp { fraction, .. } => {
                let nanos = match fraction {
                    0 => 0,
                    digits => {
                        let digits = usize::from(digits);
                        let number = field(text.get(20..20 + digits)?)?;
                        number.checked_mul(10_u32.pow(u32::try_from(9 - digits).ok()?))?
                    }
                };
                NaiveTime::from_hms_nano_opt(
                    field(text.get(11..13)?)?,
                    field(text.get(14..16)?)?,
                    field(text.get(17..19)?)?,
                    nanos,
                )?
            }
        };
        let number = self.count(date.and_time(time))?;
        let mut buffer = [0; MAX_LENGTH];
        (self.format(number, &mut buffer)? == text).then_some(number)
    }

    fn count(self, time: NaiveDateTime) -> Option<i64> {
        let time = time.and_utc();
        match self.unit() {
            None => Some(time.timestamp().div_euclid(86_400)),
            Some(Unit::Millis) => Some(time.timestamp_millis()),
            Some(Unit::Micros) => Some(time.timestamp_micros()),
            Some(Unit::Nanos) => time.timestamp_nanos_opt(),
        }
    }

    /// Writes the text that `number` stands for into `buffer`.
    pub fn format(self, number: i64, buffer: &mut [u8; MAX_LENGTH]) -> Option<&str> {
        let (days, nanos) = match self.unit() {
            None => (number, 0),
            // Each with a divisor that the compiler knows.
            Some(Unit::Millis) => days_and_nanos::<1_000_000>(number),
            Some(Unit::Micros) => days_and_nanos::<1_000>(number),
            Some(Unit::Nanos) => days_and_nanos::<1>(number),
        };
        let (year, month, day) = date(days)?;
        let mut out = Cursor { buffer, length: 0 };
        out.pair(year / 100);
        out.pair(year % 100);
        out.byte(b'-');
        out.pair(month);
        out.byte(b'-');
        out.pair(day);
        if let Self::Timestamp {
            separator,
            fraction,
            zone,
        } = self
        {
            let second = u32::try_from(nanos / NANOS_PER_SECOND).ok()?;
            out.byte(separator);
            out.pair(second / 3600);
            out.byte(b':');
            out.pair(second / 60 % 60);
            out.byte(b':');
            out.pair(second % 60);
            if fraction > 0 {
                let unused = 10_i64.pow(9 - u32::from(fraction));
                out.byte(b'.');
                out.number(nanos % NANOS_PER_SECOND / unused, usize::from(fraction));
            }
            zone.bytes().for_each(|byte| out.byte(byte));
        }
        let length = out.length;
        std::str::from_utf8(buffer.get(..length)?).ok()
    }
}

/// Splits a number of units of so many nanoseconds into days, and nanoseconds within the day.
fn days_and_nanos<const NANOS: i64>(number: i64) -> (i64, i64) {
    let per_day = NANOS_PER_DAY / NANOS;
    (
        number.div_euclid(per_day),
        number.rem_euclid(per_day) * NANOS,
    )
}

/// Year, month and day of the day that is `days` after 1970-01-01, in the years 0 to 9999.
///
/// It is asked for each time of each row that is read, so it does without a library's generality:
/// <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>
fn date(days: i64) -> Option<(u32, u32, u32)> {
    const DAYS_PER_ERA: u32 = 146_097; // 400 years
    if !(FIRST_DAY..=LAST_DAY).contains(&days) {
        return None;
    }
    // Counted from March 1st of the year -400.
    let days = u32::try_from(days + 719_468 + i64::from(DAYS_PER_ERA)).ok()?;
    let (era, day) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    Some((year + 400 * era + next_year - 400, month, day))
}

/// Appends to a fixed buffer. [`MAX_LENGTH`] is enough for every shape.
struct Cursor<'b> {
    buffer: &'b mut [u8; MAX_LENGTH],
    length: usize,
}

impl Cursor<'_> {
    fn byte(&mut self, byte: u8) {
        if let Some(slot) = self.buffer.get_mut(self.length) {
            *slot = byte;
        }
        self.length += 1;
    }

    /// Two decimal digits.
    fn pair(&mut self, number: u32) {
        self.byte(b'0' + (number / 10 % 10).to_le_bytes()[0]);
        self.byte(b'0' + (number % 10).to_le_bytes()[0]);
    }

    /// Decimal digits, with leading zeros up to `width`.
    fn number(&mut self, mut number: i64, width: usize) {
        if let Some(slots) = self.buffer.get_mut(self.length..self.length + width) {
            for slot in slots.iter_mut().rev() {
                *slot = b'0' + (number % 10).to_le_bytes()[0];
                number /= 10;
            }
        }
        self.length += width;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXAMPLES: [&str; 11] = [
        "2024-02-29",
        "2024-02-29 12:34:56",
        "2024-02-29T12:34:56",
        "2024-02-29T12:34:56Z",
        "2024-02-29T12:34:56+00:00",
        "2024-02-29 12:34:56.789",
        "2024-02-29T12:34:56.789Z",
        "0000-01-01 00:00:00",
        "9999-12-31T23:59:59.999999",
        "1969-12-31 23:59:59.999999+00:00",
        "2024-02-29T12:34:56.123456789Z",
    ];

    #[test]
    fn text_survives() {
        for text in EXAMPLES {
            let shape = Shape::of(text).unwrap();
            assert_eq!(Shape::from_name(&shape.name()), Some(shape));
            let number = shape.parse(text).unwrap();
            assert_eq!(shape.format(number, &mut [0; MAX_LENGTH]), Some(text));
        }
    }

    #[test]
    fn the_range_of_numbers_is_that_of_texts() {
        for example in EXAMPLES {
            let shape = Shape::of(example).unwrap();
            let (first, last) = shape.numbers().into_inner();
            let has_text = |number| shape.format(number, &mut [0; MAX_LENGTH]).is_some();
            assert!(has_text(first) && has_text(last), "{example}");
            assert!(!first.checked_sub(1).is_some_and(has_text), "{example}");
            assert!(!last.checked_add(1).is_some_and(has_text), "{example}");
        }
    }

    #[test]
    fn what_cannot_be_rebuilt_is_refused() {
        for text in [
            "2023-02-29",
            "2024-2-29 ",
            "2024-02-29 24:00:00",
            "2024-02-29 12:34:60",
            "2024-02-29t12:34:56",
            "2024-02-29T12:34:56z",
            "2024-02-29 12:34:56.7",
            "+024-02-29",
            "2024-02-29 +1:34:56",
            "2300-01-01T00:00:00.000000000",
            "not a date",
            "2024/02/29",
        ] {
            assert_eq!(
                Shape::of(text).and_then(|shape| shape.parse(text)),
                None,
                "{text}"
            );
        }
    }

    #[test]
    fn every_day_has_the_date_of_the_calendar() {
        let first = NaiveDate::from_ymd_opt(0, 1, 1).unwrap();
        for (days, date) in (FIRST_DAY..=LAST_DAY).zip(first.iter_days()) {
            let text = Shape::Date
                .format(days, &mut [0; MAX_LENGTH])
                .map(str::to_owned);
            let count = Shape::Date.count(date.and_time(NaiveTime::MIN));
            assert_eq!((count, text), (Some(days), Some(date.to_string())));
        }
    }

    proptest! {
        #[test]
        fn parse_never_changes_bytes(
            example in prop::sample::select(EXAMPLES.to_vec()),
            position in 0_usize..30,
            byte in b' '..b'z',
        ) {
            let mut bytes = example.as_bytes().to_vec();
            let position = position % bytes.len();
            bytes[position] = byte;
            let text = String::from_utf8(bytes).unwrap();
            if let Some(shape) = Shape::of(&text)
                && let Some(number) = shape.parse(&text)
            {
                let mut buffer = [0; MAX_LENGTH];
                prop_assert_eq!(shape.format(number, &mut buffer), Some(&*text));
            }
        }
    }
}
