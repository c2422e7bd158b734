//! Staged files: copies of rows that stay hot until a grace period is over.
//!
//! They are in the catalog, so that nobody takes them for leftovers, but none of their rows is
//! published, so that no query sees them. A later run publishes them as it does files of a run that
//! was cut off: rows that still equal their copies become cold, the others stay hot.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use rusqlite::Connection;

use super::layout::Layouts;
use super::plan::Plan;
use crate::catalog::files::{self, FileEntry};
use crate::cold::file::OpenFile;
use crate::error::{Error, Result};
use crate::sql::write_transaction;
use crate::storage::Folder;
use crate::time::clock;

/// Files that were staged before this time are due after `grace_hours`, at `now`. Hours are counted
/// whole, so that a nightly run that starts a few seconds earlier than the night before finds
/// them due.
pub fn due_before(now: DateTime<Utc>, grace_hours: i64) -> Result<String> {
    let too_long = || Error::refused("option grace_hours reaches back too far");
    let hour = now
        .duration_trunc(TimeDelta::hours(1))
        .map_err(|_| too_long())?;
    let back = TimeDelta::try_hours(grace_hours - 1).ok_or_else(too_long)?;
    let due = hour.checked_sub_signed(back).ok_or_else(too_long)?;
    Ok(clock::stamp_of(due))
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
