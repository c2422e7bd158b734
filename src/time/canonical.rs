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
        let example = NaiveDate::default().and_time(NaiveTime::MIN);
        let mut buffer = [0; MAX_LENGTH];
        self.write(example, &mut buffer)
            .unwrap_or_default()
            .to_owned()
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
        const FIRST_DAY: i64 = -719_528;
        const LAST_DAY: i64 = 2_932_896;
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
        let (seconds, nanos) = match self.unit() {
            None => (number.checked_mul(86_400)?, 0),
            Some(unit) => {
                let per_second = 1_000_000_000 / unit.nanos();
                let nanos = number.rem_euclid(per_second) * unit.nanos();
                (number.div_euclid(per_second), nanos)
            }
        };
        let nanos = u32::try_from(nanos).ok()?;
        let time = chrono::DateTime::from_timestamp(seconds, nanos)?.naive_utc();
        self.write(time, buffer)
    }

    fn write(self, time: NaiveDateTime, buffer: &mut [u8; MAX_LENGTH]) -> Option<&str> {
        use chrono::{Datelike, Timelike};
        let mut out = Cursor { buffer, length: 0 };
        out.number(
            u32::try_from(time.year())
                .ok()
                .filter(|year| *year <= 9999)?,
            4,
        );
        for part in [time.month(), time.day()] {
            out.byte(b'-');
            out.number(part, 2);
        }
        if let Self::Timestamp {
            separator,
            fraction,
            zone,
        } = self
        {
            let parts = [
                (separator, time.hour()),
                (b':', time.minute()),
                (b':', time.second()),
            ];
            for (before, part) in parts {
                out.byte(before);
                out.number(part, 2);
            }
            if fraction > 0 {
                out.byte(b'.');
                let unused = 10_u32.pow(9 - u32::from(fraction));
                out.number(time.nanosecond() / unused, usize::from(fraction));
            }
            zone.bytes().for_each(|byte| out.byte(byte));
        }
        let length = out.length;
        std::str::from_utf8(buffer.get(..length)?).ok()
    }
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

    /// Decimal digits, with leading zeros up to `width`.
    fn number(&mut self, mut number: u32, width: usize) {
        if let Some(slots) = self.buffer.get_mut(self.length..self.length + width) {
            for slot in slots.iter_mut().rev() {
                *slot = b'0' + u8::try_from(number % 10).unwrap_or(0);
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
