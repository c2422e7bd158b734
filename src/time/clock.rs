//! The present time. Every date that decides or is written down comes from here.

use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};

/// The present time, UTC.
#[cfg(not(feature = "faults"))]
pub fn now() -> DateTime<Utc> {
    of_system(SystemTime::now())
}

/// A time of the system's clock, which may be set to before 1970: then `Utc::now` would panic.
fn of_system(time: SystemTime) -> DateTime<Utc> {
    time.into()
}

/// In a test build the environment variable `SQLITE_COLD_NOW` stops the clock, at a time such as
/// `2026-01-31T03:30:00Z`.
#[cfg(feature = "faults")]
pub fn now() -> DateTime<Utc> {
    std::env::var("SQLITE_COLD_NOW")
        .ok()
        .and_then(|time| super::parse_iso8601(&time))
        .and_then(DateTime::from_timestamp_micros)
        .unwrap_or_else(|| of_system(SystemTime::now()))
}

/// The present time in microseconds since 1970.
pub fn now_micros() -> i64 {
    now().timestamp_micros()
}

/// The present time as the catalog keeps it: texts that sort as the times do.
pub fn stamp() -> String {
    stamp_of(now())
}

/// A time as the catalog keeps it.
pub fn stamp_of(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_may_be_set_to_before_1970() {
        let long_ago = of_system(SystemTime::UNIX_EPOCH - Duration::from_millis(1500));
        assert_eq!(stamp_of(long_ago), "1969-12-31T23:59:58.500Z");
    }
}
