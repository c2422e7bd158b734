//! What a call of `archive_restore` is about to do.

use super::insert::{Probe, Rows};
use super::select::Selection;
use super::target::Target;
use crate::error::Result;

/// What is to come, found out before anything moves; that also shows that all files are there.
#[derive(Default)]
pub struct Survey {
    pub rows: u64,
    /// Rows that a hot row has a key of, and what the first of them is called.
    pub conflicts: u64,
    pub first: Option<String>,
    /// Files that would have no more rows, if conflicts are replaced, and if they stay cold.
    pub emptied: u64,
    pub emptied_alone: u64,
}

impl Survey {
    /// With `probe` it looks for conflicts.
    pub fn new(selection: &Selection<'_>, target: &Target<'_>, probe: bool) -> Result<Self> {
        let mut survey = Self::default();
        let keys = target.keys();
        let mut probe = probe.then(|| Probe::new(target)).transpose()?;
        for entry in &selection.files {
            let file = selection.open(entry)?;
            let (mut found, mut conflicts) = (0_usize, 0_u64);
            for group in 0..file.file.row_groups() {
                let rows = selection.rows(&file, group)?;
                found += rows.len();
                let Some(probe) = probe.as_mut().filter(|_| !rows.is_empty()) else {
                    continue;
                };
                let decoded = Rows::decode(&file, &selection.shape, group, &keys)?;
                for row in rows {
                    if let Some(name) = probe.conflict(&decoded, row)? {
                        conflicts += 1;
                        survey.first.get_or_insert(name);
                    }
                }
            }
            survey.rows += found as u64;
            survey.conflicts += conflicts;
            let emptied = found > 0 && file.is_empty_after(found);
            survey.emptied += u64::from(emptied);
            survey.emptied_alone += u64::from(emptied && conflicts == 0);
        }
        Ok(survey)
    }
}
