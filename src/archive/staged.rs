//! Staged files: copies of rows that stay hot until a grace period is over.
//!
//! They are in the catalog, so that nobody takes them for leftovers, but none of their rows is
//! published, so that no query sees them. A later run publishes them as it does files of a run that
//! was cut off: rows that still equal their copies become cold, the others stay hot.

use std::ops::Range;

use chrono::{DateTime, Utc};
use rusqlite::Connection;

use super::layout::Layouts;
use super::plan::Plan;
use crate::catalog::files::{self, FileEntry};
use crate::error::{Error, Result};
use crate::format::file::OpenFile;
use crate::sql::write_transaction;
use crate::storage::Folder;
use crate::time::clock;

const SECONDS_PER_HOUR: i64 = 3600;

/// When files were staged that wait for the end of a grace period of `grace_hours`, at `now`. Hours are
/// counted whole, so that a nightly run that starts a few seconds earlier than the night before finds its
/// files due. Where that was in an hour that is yet to come, the clock was wrong: they do not wait for it.
pub fn waiting(now: DateTime<Utc>, grace_hours: i64) -> Result<Range<String>> {
    let next = now.timestamp().div_euclid(SECONDS_PER_HOUR) + 1;
    let start = |hour: i64| {
        let seconds = hour.checked_mul(SECONDS_PER_HOUR)?;
        Some(clock::stamp_of(DateTime::from_timestamp(seconds, 0)?))
    };
    let first = next.checked_sub(grace_hours).and_then(start);
    match (first, start(next)) {
        (Some(first), Some(next)) => Ok(first..next),
        _ => Err(Error::refused("option grace_hours reaches back too far")),
    }
}

/// Takes staged files that are missing or damaged out of the catalog, and returns how many. No row is
/// lost by that: all of theirs are hot, and are copied again.
pub fn discard_damaged(
    connection: &Connection,
    folder: &Folder,
    files: &[FileEntry],
) -> Result<u64> {
    let mut discarded = 0;
    for entry in files {
        match check(folder, entry) {
            Ok(()) => {}
            Err(Error::Damaged { .. }) => {
                write_transaction(connection, || files::remove(connection, entry))?;
                discarded += 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(discarded)
}

fn check(folder: &Folder, entry: &FileEntry) -> Result<()> {
    let file = OpenFile::open(folder, &entry.record)?;
    match file.checksum()? == entry.record.seal.checksum {
        true => Ok(()),
        false => Err(Error::damaged(file.path())(
            "its checksum is not the catalog's",
        )),
    }
}

/// Takes the rows that have a staged copy out of the plan.
pub fn exclude(
    plan: &mut Plan<'_>,
    folder: &Folder,
    layouts: &Layouts,
    files: &[FileEntry],
) -> Result<()> {
    for entry in files {
        let Some(layout) = layouts.get(entry.schema) else {
            continue;
        };
        let Some(time) = layout.time.filter(|_| layout.comparable) else {
            // Its rows will stay hot: they are copied again.
            continue;
        };
        let file = OpenFile::open(folder, &entry.record)?;
        for group in 0..file.row_groups() {
            let columns: Vec<_> = std::iter::once(&time)
                .chain(&layout.key)
                .map(|column| file.decode(group, *column))
                .collect::<Result<_>>()?;
            plan.exclude(&columns)?;
        }
    }
    Ok(())
}
