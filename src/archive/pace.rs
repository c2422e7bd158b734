//! How long a write transaction lasts, and how long the pause after it is: writers wait milliseconds.

use std::time::{Duration, Instant};

use super::options::Options;

/// How long a transaction may hold the write lock before it commits what it has, while nobody else
/// writes and while somebody does. A writer that comes meanwhile waits about as long.
const QUIET_BUDGET: Duration = Duration::from_millis(20);
const BUSY_BUDGET: Duration = Duration::from_millis(5);
/// While nobody else writes, the pause after a transaction is this fraction of its length.
const QUIET_PAUSE: u32 = 8;
/// While somebody does, it is this many times its length: a writer that polls for the lock, waiting
/// longer each time, then finds it free at its fifth look, 18 ms after the first.
const BUSY_PAUSE: u32 = 2;

/// The limits that the caller has set.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    /// The shortest pause after a transaction.
    pub pause: Duration,
    /// The most rows in a second; 0 for no limit.
    pub max_rows_per_second: u64,
}

impl Pace {
    pub fn new(options: &Options) -> Self {
        Self {
            pause: Duration::from_millis(options.pause_ms),
            max_rows_per_second: options.max_rows_per_second,
        }
    }

    /// When a transaction that began at `began` ought to commit. `quiet`: nobody else writes.
    pub fn deadline(began: Instant, quiet: bool) -> Instant {
        began + if quiet { QUIET_BUDGET } else { BUSY_BUDGET }
    }

    /// Leaves the database to others for a while, after a transaction that began at `began` and moved
    /// `rows`. SQLite's lock is not fair: a writer that waits polls for it, and would starve between
    /// transactions that follow each other at once.
    pub fn give_way(&self, began: Instant, quiet: bool, rows: u64) {
        std::thread::sleep(self.pause_after(began.elapsed(), quiet, rows));
    }

    fn pause_after(&self, held: Duration, quiet: bool, rows: u64) -> Duration {
        let polite = match quiet {
            true => held / QUIET_PAUSE,
            false => held * BUSY_PAUSE,
        };
        let due = match self.max_rows_per_second {
            0 => Duration::ZERO,
            limit => Duration::from_millis(rows.saturating_mul(1000) / limit).saturating_sub(held),
        };
        polite.max(self.pause).max(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_pause_counts() {
        let held = Duration::from_millis(16);
        let pause = |pause, limit, quiet, rows| {
            let pace = Pace {
                pause: Duration::from_millis(pause),
                max_rows_per_second: limit,
            };
            pace.pause_after(held, quiet, rows).as_millis()
        };
        assert_eq!(pause(0, 0, true, 1000), 2);
        assert_eq!(pause(0, 0, false, 1000), 32);
        assert_eq!(pause(50, 0, false, 1000), 50);
        assert_eq!(pause(50, 10_000, false, 1000), 84);
    }
}
