//! When a schedule has a run: its slots, to the second.
//!
//! Times are those of the machine's local time. Where the clock goes forward, a time of day that does
//! not exist comes as soon as the gap is over; where it goes back, a time of day that comes twice is a
//! slot only the first time. A cron expression with more than one time of day follows the clock on the
//! wall instead: it skips the gap, and comes again in the hour that is repeated.

use std::cmp::Ordering;

use chrono::{DateTime, Local, SubsecRound, Utc};
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use croner::{CivilDateTime, Cron, CronDateTime, Resolution, Weekday};

use crate::error::{Error, Result};
use crate::time::clock;

/// Long enough for a time every ten minutes.
const LONGEST: usize = 1000;

/// The slots of a schedule.
#[derive(Debug, Clone)]
pub struct Times {
    text: String,
    patterns: Vec<Cron>,
}

impl Times {
    /// Reads `03:30`, a list such as `03:30,15:30`, or a cron expression of 5 fields, or of 6 with the
    /// seconds first.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |reason: &str| {
            Error::refused(format!(
                "the times must be like '03:30', '03:30,15:30' or a cron expression like \
                 '30 3 * * 1-5': {reason}"
            ))
        };
        if text.len() > LONGEST {
            return Err(refuse(&format!(
                "they are longer than {LONGEST} characters"
            )));
        }
        let wrong = || refuse(&format!("'{text}' is none of these"));
        let expressions = match text.contains(':') {
            true => text.split(',').map(daily).collect::<Option<Vec<_>>>(),
            false => matches!(text.split_whitespace().count(), 5 | 6).then(|| vec![text.into()]),
        };
        let parser = CronParser::builder()
            .seconds(Seconds::Optional)
            .year(Year::Disallowed)
            .build();
        let patterns = expressions
            .ok_or_else(wrong)?
            .iter()
            .map(|expression| parser.parse(expression))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| refuse(&format!("'{text}': {error}")))?;
        let times = Self {
            text: text.to_owned(),
            patterns,
        };
        match times.next(clock::now()) {
            Some(_) => Ok(times),
            None => Err(refuse(&format!("'{text}' never comes"))),
        }
    }

    /// The text they were read from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The first slot after `time`.
    pub fn next(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let time = Moment::of(time);
        let next = |cron: &Cron| Some(cron.find_next_occurrence(&time, false).ok()?.0.to_utc());
        self.patterns.iter().filter_map(next).min()
    }

    /// The last slot that was not after `time`.
    pub fn last(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let time = Moment::of(time);
        let last = |cron: &Cron| Some(cron.find_previous_occurrence(&time, true).ok()?.0.to_utc());
        self.patterns.iter().filter_map(last).max()
    }
}

/// A local time, to the second.
#[derive(Clone)]
struct Moment(DateTime<Local>);

impl Moment {
    fn of(time: DateTime<Utc>) -> Self {
        Self(time.with_timezone(&Local).trunc_subsecs(0))
    }
}

/// As chrono does it, but for which moments have a time of day: at the edges of a change chrono names
/// some that have another one, and of two it may name the later one first, so that slots are lost.
impl CronDateTime for Moment {
    fn to_civil(&self) -> CivilDateTime {
        self.0.to_civil()
    }

    fn civil_weekday(&self) -> Weekday {
        self.0.civil_weekday()
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let (one, other) = match self.0.resolve_civil(civil)? {
            Resolution::Single(one) => (Some(one), None),
            Resolution::Ambiguous(one, other) => (Some(one.min(other)), Some(one.max(other))),
            Resolution::Gap => (None, None),
        };
        let checked = |time: Option<DateTime<Local>>| {
            let moment = Self::of(time?.to_utc());
            (moment.to_civil() == civil).then_some(moment)
        };
        Ok(match (checked(one), checked(other)) {
            (Some(earlier), Some(later)) => Resolution::Ambiguous(earlier, later),
            (Some(one), None) | (None, Some(one)) => Resolution::Single(one),
            (None, None) => Resolution::Gap,
        })
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        self.0.checked_add_seconds(seconds).map(Self)
    }

    fn cmp_instant(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

/// A time of day, `HH:MM`, as a cron expression.
fn daily(time: &str) -> Option<String> {
    let (hour, minute) = time.trim().split_once(':')?;
    let number = |digits: &str| match digits.bytes().all(|byte| byte.is_ascii_digit()) {
        true => digits.parse::<u8>().ok(),
        false => None,
    };
    let (hour, minute) = match (hour.len(), minute.len()) {
        (1..=2, 2) => (number(hour)?, number(minute)?),
        _ => return None,
    };
    (hour < 24 && minute < 60).then(|| format!("{minute} {hour} * * *"))
}

#[cfg(test)]
mod tests {
    use chrono::{Duration, TimeZone, Timelike};

    use super::*;

    fn of_day(times: &Times, from: DateTime<Utc>) -> Vec<(u32, u32, u32)> {
        let end = from + Duration::days(1);
        let slots = std::iter::successors(times.next(from), |slot| times.next(*slot));
        let slots = slots.take_while(|slot| *slot < end);
        let time = |slot: DateTime<Utc>| {
            let slot = slot.with_timezone(&Local);
            (slot.hour(), slot.minute(), slot.second())
        };
        slots.map(time).collect()
    }

    fn noon() -> DateTime<Utc> {
        let noon = Local.with_ymd_and_hms(2026, 1, 15, 12, 0, 0).unwrap();
        noon.to_utc() + Duration::milliseconds(700)
    }

    #[test]
    fn times_of_day_and_cron_expressions_are_slots() {
        let slots = |text| of_day(&Times::parse(text).unwrap(), noon());
        assert_eq!(slots("03:30"), [(3, 30, 0)]);
        assert_eq!(slots(" 3:30 , 15:45"), [(15, 45, 0), (3, 30, 0)]);
        assert_eq!(slots("30 3,15 * * *"), [(15, 30, 0), (3, 30, 0)]);
        assert_eq!(slots("15 30 3 * * *"), [(3, 30, 15)]);
        // Tomorrow's: that of this second has been.
        assert_eq!(slots("12:00"), [(12, 0, 0)]);
    }

    #[test]
    fn the_last_slot_is_found_from_any_time_after_it() {
        let times = Times::parse("03:30,12:00").unwrap();
        let noon = noon().trunc_subsecs(0);
        for later in [0, 1, 700, 3_600_000] {
            let time = noon + Duration::milliseconds(later);
            assert_eq!(times.last(time), Some(noon), "{later} ms later");
        }
        let earlier = times.last(noon - Duration::milliseconds(1)).unwrap();
        assert_eq!(noon - earlier, Duration::minutes(510));
    }

    #[test]
    fn anything_else_is_refused_with_examples() {
        let bad = [
            "",
            " ",
            "3",
            "24:00",
            "03:60",
            "3:5",
            "003:30",
            "03:30,",
            ",",
            "03:30:00",
            "+3:30",
            "-1:30",
            "03.30",
            "٠٣:٣٠",
            "* * * *",
            "* * * * * * *",
            "61 3 * * *",
            "x 3 * * *",
            "@daily",
            "@every 5 4 3 2",
            "0 0 30 2 *",
            "03:30 * * * *",
            "é * * * *",
        ];
        for text in bad
            .map(str::to_owned)
            .into_iter()
            .chain(["03:30,".repeat(200)])
        {
            let error = Times::parse(&text).unwrap_err().to_string();
            assert!(error.contains("'03:30,15:30'"), "{text}: {error}");
        }
    }
}
