//! Waiting for a lock that another connection holds.

use std::time::{Duration, Instant};

use crate::error::Result;

/// How long an archive run keeps trying for a lock that another connection holds, on top of the
/// connection's own busy timeout.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);

/// Runs `body` again while another connection holds the lock it needs, for at most 30 seconds.
/// `body` must leave nothing behind when it fails.
pub fn patiently<T>(mut body: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        match body() {
            Err(error) if error.is_busy() && start.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            outcome => return outcome,
        }
    }
}
