//! The values of a cold file, all of them, against what the catalog says they are.

use std::cmp::Ordering;

use super::row::CatalogRow;
use crate::error::{Error, Result};
use crate::format::decode::{DecodedColumn, Scratch};
use crate::format::file::OpenFile;
use crate::time::canonical::MAX_LENGTH;
use crate::time::{TimeFormat, format_instant};
use crate::value::Value;

/// What was found while reading.
pub struct Values {
    hot_bytes: u64,
    /// The first and the last instant of each column whose values are all times of one format.
    times: Vec<(i64, i64)>,
}

impl Values {
    /// Decodes every value of a file, and holds each against the range of its column.
    pub fn read(file: &OpenFile, row: &CatalogRow) -> Result<Self> {
        let mut values = Self {
            hot_bytes: 0,
            times: Vec::new(),
        };
        for (index, (column, range)) in file.columns().iter().zip(&row.ranges).enumerate() {
            let name = &column.name;
            let mut formats = TimeFormat::ALL.map(|format| Some((format, i64::MAX, i64::MIN)));
            let mut before: Option<(DecodedColumn, usize)> = None;
            for group in 0..file.row_groups() {
                let decoded = file.decode(group, index)?;
                let (mut scratch, mut other): (Scratch, Scratch) =
                    ([0; MAX_LENGTH], [0; MAX_LENGTH]);
                for number in 0..decoded.rows() {
                    let value = decoded.value(number, &mut scratch);
                    if !range.contains(value) {
                        let what = "has a value outside the range of _archive_range";
                        return Err(Error::refused(format!("column {name} {what}")));
                    }
                    let last = match (number.checked_sub(1), &before) {
                        (Some(last), _) => Some(decoded.value(last, &mut other)),
                        (None, Some((column, last))) => Some(column.value(*last, &mut other)),
                        (None, None) => None,
                    };
                    if range.ascending
                        && last.is_some_and(|last| value.order(last) == Ordering::Less)
                    {
                        let what = "does not ascend, though _archive_range says so";
                        return Err(Error::refused(format!("column {name} {what}")));
                    }
                    values.hot_bytes = values.hot_bytes.saturating_add(value.stored_bytes());
                    formats.iter_mut().for_each(|format| widen(format, value));
                }
                let last = decoded.rows().saturating_sub(1);
                before = Some((decoded, last));
            }
            let times = formats.into_iter().flatten();
            values.times.extend(times.map(|(_, min, max)| (min, max)));
        }
        Ok(values)
    }

    /// Holds what was found against the rest of the catalog's row.
    pub fn check(&self, row: &CatalogRow) -> Result<()> {
        // Which column the rows were archived by is not known for certain: the call said so.
        let (min, max) = &row.times;
        let same = |times: &&(i64, i64)| {
            format_instant(times.0) == *min && format_instant(times.1) == *max
        };
        if !self.times.iter().any(|times| same(&times)) {
            return Err(Error::refused(
                "time_min and time_max are not those of any column",
            ));
        }
        match self.hot_bytes == row.hot_bytes {
            true => Ok(()),
            false => Err(Error::refused(format!(
                "hot_bytes is {}, its rows took {}",
                row.hot_bytes, self.hot_bytes
            ))),
        }
    }
}

/// Takes a value into the span of a format, which ends with the first value that is not in it.
fn widen(format: &mut Option<(TimeFormat, i64, i64)>, value: Value<'_>) {
    *format = format.and_then(|(format, min, max)| {
        let instant = format.instant(value)?;
        Some((format, min.min(instant), max.max(instant)))
    });
}
