//! How long transactions hold the write lock, and how long they leave it to others in between.

use std::time::{Duration, Instant};

/// How long a transaction may hold the write lock before it commits what it has, while nobody else
/// writes and while somebody does. A writer that comes meanwhile waits about as long.
const QUIET_BUDGET: Duration = Duration::from_millis(20);
const BUSY_BUDGET: Duration = Duration::from_millis(5);
/// While nobody else writes, the pause after a transaction is this fraction of its length.
const QUIET_PAUSE: u32 = 8;
/// While somebody does, it is this many times its length: a writer that polls for the lock, waiting
/// longer each time, then finds it free at its fifth look, 18 ms after the first.
const BUSY_PAUSE: u32 = 2;

/// The pace of many short transactions. Inside the caller's transaction there is none: that is not
/// ours to end, and no pause would let anybody in.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The shortest pause after a transaction.
    pub pause: Duration,
    /// The most rows that move in a second; 0 for no limit.
    pub rows_per_second: u64,
    /// Whether transactions are our own, and not parts of the caller's.
    pub own_transactions: bool,
}

impl Pace {
    /// The most rows for one transaction, if it may have `batch_size`: not more than a second's.
    pub fn batch(&self, batch_size: usize) -> usize {
        match usize::try_from(self.rows_per_second) {
            Ok(rows @ 1..) if self.own_transactions => batch_size.min(rows),
            _ => batch_size,
        }
    }

    /// When a transaction that began at `began` ought to end. `quiet` says that nobody else writes.
    pub fn deadline(&self, began: Instant, quiet: bool) -> Option<Instant> {
        let budget = if quiet { QUIET_BUDGET } else { BUSY_BUDGET };
        self.own_transactions.then(|| began + budget)
    }

    /// Leaves the database to others for a while, after a transaction that moved `rows`. SQLite's
    /// lock is not fair: a writer that waits polls for it, and would starve between transactions
    /// that follow each other at once.
    pub fn give_way(&self, held: Duration, quiet: bool, rows: u64) {
        if self.own_transactions {
            std::thread::sleep(self.pause_after(held, quiet, rows));
        }
    }

    fn pause_after(&self, held: Duration, quiet: bool, rows: u64) -> Duration {
        let pause = match quiet {
            true => held / QUIET_PAUSE,
            false => held * BUSY_PAUSE,
        };
        let millis = rows
            .saturating_mul(1000)
            .checked_div(self.rows_per_second)
            .unwrap_or(0);
        let limited = Duration::from_millis(millis).saturating_sub(held);
        pause.max(self.pause).max(limited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELD: Duration = Duration::from_millis(16);

    fn pace(rows_per_second: u64) -> Pace {
        Pace {
            pause: Duration::from_millis(5),
            rows_per_second,
            own_transactions: true,
        }
    }

    #[test]
    fn pauses_follow_the_strictest_rule() {
        let millis = Duration::from_millis;
        assert_eq!(pace(0).pause_after(HELD, true, 500), millis(5));
        assert_eq!(pace(0).pause_after(HELD, false, 500), millis(32));
        assert_eq!(pace(1000).pause_after(HELD, true, 500), millis(484));
    }

    #[test]
    fn a_transaction_has_no_more_rows_than_a_second() {
        assert_eq!(pace(0).batch(10_000), 10_000);
        assert_eq!(pace(70).batch(10_000), 70);
        let inside = Pace {
            own_transactions: false,
            ..pace(70)
        };
        assert_eq!(inside.batch(10_000), 10_000);
        assert_eq!(inside.deadline(Instant::now(), true), None);
    }
}
