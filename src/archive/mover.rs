//! Moving rows within one transaction: the hot row is deleted, or its copy does not count.

use std::ops::Range;

use rusqlite::{Connection, Statement};

use super::check::Reference;
use super::plan::{Rule, max_rowid};
use super::unpublished::DecodedGroup;
use crate::catalog::tombstones::Burial;
use crate::error::{Error, Result};
use crate::fault;
use crate::format::decode::{DecodedColumn, Scratch};
use crate::moving::read::{HotReader, plain};
use crate::moving::run::Turn;
use crate::schema::{Key, Table};
use crate::sql::quote;
use crate::time::canonical::MAX_LENGTH;
use crate::value::{Encoding, Value};

/// The most rows that one statement deletes.
const RUN_ROWS: usize = 256;
/// Rows between two looks at the clock where each is compared.
const CLOCK_ROWS: usize = 32;

/// The table that rows leave.
pub struct HotTable<'a> {
    pub connection: &'a Connection,
    pub table: &'a Table,
    /// By which rows are old enough now, whatever it was when they were copied.
    pub rule: &'a Rule<'a>,
    pub reader: &'a HotReader,
    /// Foreign keys that must not be left dangling.
    pub references: &'a [Reference],
}

/// How many rows moved, and how many stayed hot because they had changed or must keep their id.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    pub rows: u64,
    pub kept: u64,
}

/// The file that rows are moved to.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// In the catalog.
    pub file: i64,
    /// The number in the file of the row group's first row.
    pub group_start: usize,
}

/// What one transaction has at hand.
pub struct Mover<'p> {
    hot: &'p HotTable<'p>,
    pub turn: Turn,
    /// The row that keeps SQLite from handing out an archived id again.
    newest: Option<i64>,
    /// What is to be written once `published` is raised.
    pub burial: Burial<'p>,
    scratch: Scratch,
    pub tally: Tally,
}

impl<'p> Mover<'p> {
    /// To be made inside the transaction.
    pub fn new(hot: &'p HotTable<'p>, turn: Turn) -> Result<Self> {
        let newest = match hot.table.reuses_ids() {
            true => max_rowid(hot.connection, hot.table)?,
            false => None,
        };
        Ok(Self {
            hot,
            turn,
            newest,
            burial: Burial::new(hot.connection),
            scratch: [0; MAX_LENGTH],
            tally: Tally::default(),
        })
    }

    /// Leaves a row hot: its copy in the file does not count.
    fn keep(&mut self, target: Target, row: usize) -> Result<()> {
        self.burial.bury(target.file, target.group_start + row)?;
        self.tally.kept += 1;
        Ok(())
    }

    /// Moves rows that cannot have changed, because nobody has committed anything since they were
    /// read, and returns the first that is left. Runs of consecutive rowids go in one statement.
    pub fn move_unchanged(
        &mut self,
        target: Target,
        group: &DecodedGroup,
        rows: Range<usize>,
    ) -> Result<usize> {
        let table = self.hot.table;
        let (Key::Rowid { name, .. }, [DecodedColumn::Integer(keys)]) =
            (&table.key, &group.keys[..])
        else {
            return Err(Error::Internal(format!("{} has no rowid", table.name)));
        };
        let mut delete = self.hot.connection.prepare(&format!(
            "DELETE FROM {} WHERE {name} BETWEEN ?1 AND ?2",
            table.qualified()
        ))?;
        let mut row = rows.start;
        while row < rows.end && (row == rows.start || !self.turn.is_over()) {
            let first = keys.value(row);
            if self.newest == Some(first) {
                self.keep(target, row)?;
                row += 1;
                continue;
            }
            let limit = rows.end.min(row + RUN_ROWS);
            let follows = |next: &usize| {
                let key = keys.value(*next);
                keys.value(next - 1).checked_add(1) == Some(key) && self.newest != Some(key)
            };
            let end = (row + 1..limit)
                .find(|next| !follows(next))
                .unwrap_or(limit);
            let deleted = delete.execute((first, keys.value(end - 1)))?;
            if deleted != end - row {
                return Err(Error::Internal(format!(
                    "{deleted} rows of {} were deleted where {} were archived",
                    table.name,
                    end - row
                )));
            }
            fault::point("publish.delete")?;
            self.tally.rows += deleted as u64;
            row = end;
        }
        Ok(row)
    }

    /// Moves the rows that still equal their copy in the file, value by value, that are to go by the
    /// present rule, and that no other table refers to. The others stay hot. Returns the first that is left.
    pub fn move_compared(
        &mut self,
        target: Target,
        group: &DecodedGroup,
        comparable: bool,
        rows: Range<usize>,
    ) -> Result<usize> {
        let (connection, table) = (self.hot.connection, self.hot.table);
        let mut select = connection.prepare(&select_hot(self.hot))?;
        let mut delete = connection.prepare(&delete_hot(self.hot))?;
        let mut row = rows.start;
        while row < rows.end {
            if row > rows.start && row.is_multiple_of(CLOCK_ROWS) && self.turn.is_over() {
                break;
            }
            if comparable
                && self.bind_key(group, row, &mut select)?
                && self.equals_copy(group, row, &mut select)?
            {
                self.bind_key(group, row, &mut delete)?;
                if delete.raw_execute()? != 1 {
                    let reason = format!("the key of a row of {} is not unique", table.name);
                    return Err(Error::Internal(reason));
                }
                fault::point("publish.delete")?;
                self.tally.rows += 1;
            } else {
                self.keep(target, row)?;
            }
            row += 1;
        }
        Ok(row)
    }

    /// Binds the key of a row; `false` if it must stay hot because of its key.
    fn bind_key(
        &mut self,
        group: &DecodedGroup,
        row: usize,
        to: &mut Statement<'_>,
    ) -> Result<bool> {
        for (index, column) in group.keys.iter().enumerate() {
            match column.value(row, &mut self.scratch) {
                Value::Integer(key) if index == 0 && self.newest == Some(key) => return Ok(false),
                // SQLite has no way to take malformed UTF-16 as a parameter.
                Value::RawText(_, Encoding::Utf16le | Encoding::Utf16be) => return Ok(false),
                key => to.raw_bind_parameter(index + 1, key)?,
            }
        }
        Ok(true)
    }

    /// Whether the hot row, whose key is bound, is to go and the same as its copy.
    fn equals_copy(
        &mut self,
        group: &DecodedGroup,
        row: usize,
        select: &mut Statement<'_>,
    ) -> Result<bool> {
        let reader = self.hot.reader;
        let mut hot = select.raw_query();
        let Some(hot) = hot.next()? else {
            return Ok(false);
        };
        let stays: bool = hot.get(reader.width())?;
        let time = plain(hot.get_ref(reader.width() + 1)?);
        let goes = !stays && self.hot.rule.due(time).is_some();
        let Some(values) = group.values.as_ref().filter(|_| goes) else {
            return Ok(false);
        };
        for (index, column) in values.iter().enumerate() {
            let cold = column.value(row, &mut self.scratch);
            if !reader.read(|n| hot.get_ref(n), index, |value| value.same(cold))? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Reads a hot row by its key, whether it stays as the caller's condition or another table's row wants
/// it to, and its time.
fn select_hot(hot: &HotTable<'_>) -> String {
    let table = hot.table;
    let referred = hot.references.iter().map(|other| {
        format!(
            " OR EXISTS (SELECT 1 FROM {} p JOIN main.{} c ON {} WHERE {})",
            table.qualified(),
            quote(&other.child),
            other.join(),
            hot.table.key_matches("p"),
        )
    });
    format!(
        "SELECT {}, NOT {}{}, t.{} FROM {} t WHERE {}",
        hot.reader.select_list(),
        hot.rule.condition(),
        referred.collect::<String>(),
        quote(&table.columns[hot.rule.time_column].name),
        table.qualified(),
        hot.table.key_matches("t"),
    )
}

fn delete_hot(hot: &HotTable<'_>) -> String {
    let table = hot.table.qualified();
    format!(
        "DELETE FROM {table} AS t WHERE {}",
        hot.table.key_matches("t")
    )
}
