//! Turns of reading a database that is in use, and of leaving it to its writers.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// For how long a lock that others hold is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// For how long a database with a rollback journal is read at a time, at first: a writer waits for
/// that.
pub const FIRST_TURN: Duration = Duration::from_millis(4);

/// For how long it is left to writers then.
pub const PAUSE: Duration = Duration::from_millis(4);

/// How long others may hold a lock while nothing moves on.
pub struct Patience(Instant);

impl Patience {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Something has moved on.
    pub fn renew(&mut self) {
        self.0 = Instant::now();
    }

    /// Fails, unless the error means that a lock is held, and that for not too long.
    pub fn bear(&self, error: Error) -> Result<()> {
        match error.is_busy() && self.0.elapsed() < PATIENCE {
            true => Ok(()),
            false => Err(error),
        }
    }
}
