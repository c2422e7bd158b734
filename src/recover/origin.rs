//! Where the rows of a file are from, and what is wrong with those that do not say so.

use crate::error::{Error, Result};
use crate::format::file::OpenFile;
use crate::format::types::Origin;
use crate::verify;

/// Where the rows of a file are from, and when they were written.
pub fn of(file: &OpenFile) -> Result<Origin> {
    let damaged = Error::damaged(file.path());
    let origin = file.footer().origin();
    origin.ok_or_else(|| damaged("it does not say which table it is of"))
}

/// Whether a file was written before `since`.
pub fn is_before(origin: &Origin, since: Option<&str>) -> bool {
    since.is_some_and(|since| origin.written.as_str() < since)
}

/// What is wrong with a file, for the list of problems. That the database or the system fails is no such
/// problem: next time the file may be read.
pub fn problem(error: Error) -> Result<String> {
    match error {
        error @ (Error::Internal(_) | Error::Io { .. }) => Err(error),
        error if verify::is_failure(&error) => Err(error),
        error => Ok(error.to_string()),
    }
}
