//! A panic must never unwind into SQLite, nor print: it becomes an error of the call it broke.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

thread_local! {
    static LAST_PANIC: Cell<Option<String>> = const { Cell::new(None) };
}

/// Makes panics of this library silent. The hook belongs to this library's own copy of the Rust
/// runtime, so a host that is written in Rust keeps its own.
pub fn silence() {
    // No lock that a fork could find taken.
    static SILENT: AtomicBool = AtomicBool::new(false);
    if SILENT.swap(true, Ordering::AcqRel) {
        return;
    }
    set_hook(Box::new(|panic| {
        // The thread may be ending: then there is no one left to tell.
        let _ = LAST_PANIC.try_with(|last| last.set(Some(panic.to_string().replace('\n', " "))));
    }));
}

/// Runs `body`, turning a panic into [`Error::Internal`].
pub fn guard<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        let message = LAST_PANIC.with(Cell::take);
        Err(Error::Internal(message.unwrap_or_else(|| "panic".into())))
    })
}
