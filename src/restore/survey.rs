//! What a call of `archive_restore` is about to do.

use super::insert::Probe;
use super::options::OnConflict;
use super::rows::Rows;
use super::select::Selection;
use super::target::Target;
use super::twins::Twins;
use crate::error::Result;
use crate::sql::temp_transaction;

/// What is to come, found out before anything moves; that also shows that all files are there.
#[derive(Default)]
pub struct Survey {
    pub rows: u64,
    /// Rows that a hot row has a key of, or a row that came back before, and what the first of them is
    /// called.
    pub conflicts: u64,
    pub first: Option<String>,
    /// How many of them no hot row is in the way of.
    pub twins: u64,
    /// Files that would have no more rows, if conflicts are replaced, and if they stay cold.
    pub emptied: u64,
    pub emptied_alone: u64,
}

/// Rows that are looked at in one transaction: each is noted in a TEMP table, and a transaction for each
/// would take several times as long.
const CHUNK_ROWS: usize = 2_000;

/// What finds conflicts.
struct Search<'a> {
    target: &'a Target<'a>,
    probe: Probe<'a>,
    twins: Option<Twins<'a>>,
    /// Whether a row takes the place of one that is in its way.
    replace: bool,
}

impl Search<'_> {
    /// Looks at some rows of a row group; returns how many are in conflict.
    fn look(&mut self, survey: &mut Survey, decoded: &Rows, rows: &[usize]) -> Result<u64> {
        let mut conflicts = 0;
        for row in rows {
            let hot = self.probe.conflict(decoded, *row)?;
            // A row that stays cold is in nobody's way.
            let twins = self.twins.as_mut();
            let meets = match twins.filter(|_| hot.is_none() || self.replace) {
                Some(twins) => twins.meets(decoded, *row, self.replace)?,
                None => false,
            };
            if hot.is_none() && !meets {
                continue;
            }
            conflicts += 1;
            survey.twins += u64::from(hot.is_none());
            let name = || self.target.describe(decoded, *row);
            survey.first.get_or_insert_with(|| hot.unwrap_or_else(name));
        }
        Ok(conflicts)
    }
}

impl Survey {
    /// Counts the rows, and looks for conflicts if it is told what becomes of them.
    pub fn new(
        selection: &Selection<'_>,
        target: &Target<'_>,
        probe: Option<OnConflict>,
    ) -> Result<Self> {
        let mut survey = Self::default();
        let keys = target.keys();
        let mut search = match probe {
            Some(on_conflict) => Some(Search {
                target,
                probe: Probe::new(target)?,
                twins: Twins::new(target)?,
                replace: on_conflict == OnConflict::Replace,
            }),
            None => None,
        };
        for entry in &selection.files {
            let file = selection.open(entry)?;
            let (mut found, mut conflicts) = (0_usize, 0_u64);
            for group in 0..file.file.row_groups() {
                let rows = selection.rows(&file, group)?;
                found += rows.len();
                let Some(search) = search.as_mut().filter(|_| !rows.is_empty()) else {
                    continue;
                };
                let decoded = Rows::decode(&file, &selection.shape, group, &keys)?;
                for rows in rows.chunks(CHUNK_ROWS) {
                    conflicts += temp_transaction(target.connection, || {
                        search.look(&mut survey, &decoded, rows)
                    })?;
                }
            }
            survey.rows += found as u64;
            survey.conflicts += conflicts;
            let emptied = found > 0 && file.is_empty_after(found);
            survey.emptied += u64::from(emptied);
            survey.emptied_alone += u64::from(emptied && conflicts == 0);
        }
        let twins = search.and_then(|search| search.twins);
        twins.map(Twins::clear).transpose()?;
        Ok(survey)
    }
}
