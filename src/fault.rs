//! Fault points: named places where a test build can fail or stop on purpose.
//!
//! With the cargo feature `faults`, the environment variable `SQLITE_COLD_FAULT` holds
//! `name:nth:action`: at the `nth` pass (from 1) over the point `name` the process kills itself
//! (`kill`, which nothing can catch), or the step fails (`error`), panics (`panic`), or waits a second
//! (`sleep`).
//! Without the feature every point compiles to nothing.

use crate::error::Result;

/// Every point there is, in the order of an archive run, then those of other flows. Tests walk this
/// list, which `archive_version()` shows in a test build.
#[cfg(feature = "faults")]
pub const POINTS: [&str; 24] = [
    "run.begin",
    "plan.chunk",
    "read.rows",
    "file.create",
    "file.write",
    "file.close",
    "file.sync",
    "folder.sync",
    "file.verify",
    "publish.begin",
    "publish.delete",
    "publish.catalog",
    "publish.commit",
    "publish.done",
    "run.end",
    "restore.insert",
    "restore.commit",
    "expire.commit",
    "catalog.copy",
    "catalog.rename",
    "recover.tables",
    "recover.read",
    "recover.files",
    "recover.commit",
];

/// Passes the point `name`.
#[cfg(not(feature = "faults"))]
pub fn point(_name: &'static str) -> Result<()> {
    Ok(())
}

/// [`point`] where an I/O error is expected.
#[cfg(not(feature = "faults"))]
pub fn io_point(_name: &'static str) -> std::io::Result<()> {
    Ok(())
}

#[cfg(feature = "faults")]
pub use active::{io_point, point};

#[cfg(feature = "faults")]
mod active {
    use std::sync::{Mutex, PoisonError};

    use super::Result;
    use crate::error::Error;

    /// What is planned, and how often its point was passed since.
    static PASSES: Mutex<(String, u64)> = Mutex::new((String::new(), 0));

    /// Counts a pass over the point of a plan.
    fn pass(plan: &str) -> u64 {
        let mut passes = PASSES.lock().unwrap_or_else(PoisonError::into_inner);
        if passes.0 != plan {
            *passes = (plan.to_owned(), 0);
        }
        passes.1 += 1;
        passes.1
    }

    pub fn point(name: &'static str) -> Result<()> {
        io_point(name).map_err(|error| Error::Refused(error.to_string()))
    }

    #[expect(clippy::panic, reason = "to show that a panic does not reach the host")]
    pub fn io_point(name: &'static str) -> std::io::Result<()> {
        assert!(
            super::POINTS.contains(&name),
            "{name} is not in the list of points"
        );
        let Ok(plan) = std::env::var("SQLITE_COLD_FAULT") else {
            // The same plan may be made again later.
            PASSES
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .0
                .clear();
            return Ok(());
        };
        let mut parts = plan.split(':');
        if parts.next() != Some(name) {
            return Ok(());
        }
        let nth: u64 = parts.next().and_then(|nth| nth.parse().ok()).unwrap_or(1);
        if pass(&plan) != nth {
            return Ok(());
        }
        match parts.next() {
            Some("error") => Err(std::io::Error::other(format!("fault at {name}"))),
            Some("panic") => panic!("fault at {name}"),
            Some("sleep") => {
                std::thread::sleep(std::time::Duration::from_secs(1));
                Ok(())
            }
            _ => {
                let process = std::process::id().to_string();
                let _ = std::process::Command::new("kill")
                    .args(["-KILL", &process])
                    .status();
                std::process::abort()
            }
        }
    }
}
