//! Publishing: rows of a durable file move from hot to cold in short write transactions.
//!
//! Each transaction deletes the next hot rows of the file's order and raises the number of
//! published rows in the catalog by as many. So at every moment, in every snapshot, each row is on
//! exactly one side, and a run that dies is resumed from that number.

use std::ops::Range;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Statement};

use super::check::Reference;
use super::plan::max_rowid;
use super::read::HotReader;
use crate::catalog::files::{self, FileEntry, NewEntry};
use crate::cold::decode::{DecodedColumn, Scratch};
use crate::cold::file::ColdFile;
use crate::error::{Error, Result};
use crate::fault;
use crate::sql::{self, quote, write_transaction};
use crate::storage::Archive;
use crate::table::{Key, Table};
use crate::time::canonical::MAX_LENGTH;
use crate::value::{Encoding, Value};

/// How long a transaction may hold the write lock before it commits what it has, while nobody else
/// writes and while somebody does. A writer that comes meanwhile waits about as long.
const QUIET_BUDGET: Duration = Duration::from_millis(20);
const BUSY_BUDGET: Duration = Duration::from_millis(10);
/// The most rows that one statement deletes.
const RUN_ROWS: usize = 256;
/// Rows between two looks at the clock where each is compared.
const CLOCK_ROWS: usize = 32;
/// While nobody else writes, the pause after a transaction is this fraction of its length.
const QUIET_PAUSE: u32 = 8;

/// A durable file, on its way into the catalog or already there.
pub enum Publishing {
    New {
        entry: NewEntry,
        /// `sql::data_version` before the first row was read.
        read_at: i64,
    },
    /// Left unfinished by an earlier run.
    Unfinished(FileEntry),
}

/// What publishing a file came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Published {
    /// Rows that moved.
    pub rows: u64,
    /// Rows that stayed hot because they had changed, or must keep their id.
    pub kept: u64,
}

/// Moves rows of one table. While it works, the connection is in `sql::MoveMode`.
pub struct Publisher<'a> {
    pub connection: &'a Connection,
    pub table: &'a Table,
    pub reader: &'a HotReader,
    pub archive: &'a Archive,
    /// Foreign keys that must not be left dangling.
    pub references: &'a [Reference],
    /// `sql::data_version` before the references were checked.
    pub checked_at: i64,
    /// `sql::schema_version` when the run began.
    pub schema_version: i64,
    /// The most rows that one transaction moves.
    pub batch_size: usize,
    /// The shortest pause after a transaction.
    pub pause: Duration,
    /// Whether transactions are its own, and not parts of the caller's.
    pub own_transactions: bool,
}

/// Consecutive rows of one row group, on their way.
struct Batch<'a> {
    file: &'a ColdFile,
    group: usize,
    /// The number in the file of the group's first row.
    group_start: usize,
    /// The key of each row.
    keys: &'a [DecodedColumn],
    /// All columns of the group, if rows may have to be compared.
    values: &'a mut Option<Vec<DecodedColumn>>,
    /// Whether the table still has the columns that the file was written with.
    comparable: bool,
}

/// What one transaction did.
struct Step {
    file: i64,
    /// The number of rows of the group that are done.
    end: usize,
    moved: Published,
}

impl Publisher<'_> {
    /// Publishes what is left of a file, of this run or of one that was cut off. `total` grows with
    /// each transaction, so that it is right also if a later one fails.
    pub fn publish(&self, publishing: &Publishing, total: &mut Published) -> Result<()> {
        let (path, bytes, rows, published) = match publishing {
            Publishing::New { entry, .. } => (&entry.path, entry.bytes, entry.rows, 0),
            Publishing::Unfinished(entry) => {
                (&entry.path, entry.bytes, entry.rows, entry.published)
            }
        };
        let file = ColdFile::open(self.archive, path, bytes, rows)?;
        let key_columns = self.key_columns(&file)?;
        let mut id = match publishing {
            Publishing::New { .. } => None,
            Publishing::Unfinished(entry) => Some(entry.id),
        };
        let names = file.columns().iter().map(|column| &column.name);
        let comparable = names.eq(self.reader.names());
        let mut group_start = 0;
        for group in 0..file.row_groups() {
            let group_rows = file.rows(group);
            let mut done = published.saturating_sub(group_start).min(group_rows);
            if done < group_rows {
                let keys = key_columns.iter().map(|column| file.decode(group, *column));
                let keys: Vec<DecodedColumn> = keys.collect::<Result<_>>()?;
                let mut values = None;
                while done < group_rows {
                    if values.is_none() && !self.is_unchanged(publishing)? {
                        // Here rather than while the lock is held.
                        values = Some(file.decode_all(group)?);
                    }
                    let mut batch = Batch {
                        file: &file,
                        group,
                        group_start,
                        keys: &keys,
                        values: &mut values,
                        comparable,
                    };
                    let step = self.step(publishing, id, &mut batch, done)?;
                    id = Some(step.file);
                    done = step.end;
                    total.rows += step.moved.rows;
                    total.kept += step.moved.kept;
                }
            }
            group_start += group_rows;
        }
        fault::point("publish.done")
    }

    /// Whether nobody can have changed the rows since they were read.
    fn is_unchanged(&self, publishing: &Publishing) -> Result<bool> {
        let now = sql::data_version(self.connection)?;
        Ok(match publishing {
            Publishing::New { read_at, .. } => *read_at == now,
            Publishing::Unfinished(_) => false,
        })
    }

    /// Where the columns that identify a row are in the file.
    fn key_columns(&self, file: &ColdFile) -> Result<Vec<usize>> {
        let names = match &self.table.key {
            Key::Rowid { alias: None, .. } => vec![crate::stored::ROWID_COLUMN],
            Key::Rowid {
                alias: Some(column),
                ..
            } => vec![self.table.columns[*column].name.as_str()],
            Key::Primary(columns) => columns
                .iter()
                .map(|column| self.table.columns[*column].name.as_str())
                .collect(),
        };
        let position = |name: &str| {
            file.columns()
                .iter()
                .position(|column| column.name.eq_ignore_ascii_case(name))
                .ok_or_else(|| format!("it has no key column {name}"))
                .map_err(Error::damaged(file.path()))
        };
        names.into_iter().map(position).collect()
    }

    /// `t."a" = ?1 AND t."b" = ?2`, for the table by the name `alias`.
    fn key_matches(&self, alias: &str) -> String {
        let keys = self.table.key_expressions();
        let terms = keys
            .iter()
            .enumerate()
            .map(|(n, key)| format!("{alias}.{key} = ?{}", n + 1));
        terms.collect::<Vec<_>>().join(" AND ")
    }

    /// Reads a hot row by its key, and whether another table's row refers to it.
    fn select_hot(&self) -> String {
        let others = self
            .references
            .iter()
            .filter(|other| other.child != self.table.name);
        let referred = others.map(|other| {
            format!(
                " OR EXISTS (SELECT 1 FROM {} p JOIN main.{} c ON {} WHERE {})",
                self.table.qualified(),
                quote(&other.child),
                other.join(),
                self.key_matches("p"),
            )
        });
        format!(
            "SELECT {}, 0{} FROM {} t WHERE {}",
            self.reader.select_list(),
            referred.collect::<String>(),
            self.table.qualified(),
            self.key_matches("t"),
        )
    }

    fn delete_hot(&self) -> String {
        let table = self.table.qualified();
        format!("DELETE FROM {table} AS t WHERE {}", self.key_matches("t"))
    }

    /// One short transaction: moves rows of the batch's group from number `start` on, as many as
    /// the batch size and the clock allow.
    fn step(
        &self,
        publishing: &Publishing,
        id: Option<i64>,
        batch: &mut Batch<'_>,
        start: usize,
    ) -> Result<Step> {
        let mut began = Instant::now();
        let mut quiet = true;
        let step = write_transaction(self.connection, || {
            began = Instant::now();
            fault::point("publish.begin")?;
            let file = match (id, publishing) {
                (Some(id), _) => id,
                (None, Publishing::New { entry, .. }) => files::insert(self.connection, entry)?,
                (None, Publishing::Unfinished(entry)) => entry.id,
            };
            let unchanged = self.is_unchanged(publishing)?;
            quiet = self.checked_at == sql::data_version(self.connection)?;
            if !quiet && sql::schema_version(self.connection)? != self.schema_version {
                return Err(Error::refused(
                    "another connection changed the schema during the run; call it again",
                ));
            }
            let rows = batch.file.rows(batch.group);
            let end = rows.min(start.saturating_add(self.batch_size));
            let budget = if quiet { QUIET_BUDGET } else { BUSY_BUDGET };
            let mut mover = Mover::new(self, file, began + budget)?;
            let end = if unchanged && (quiet || self.references.is_empty()) {
                mover.move_unchanged(batch, start..end)?
            } else {
                mover.move_compared(batch, start..end)?
            };
            fault::point("publish.catalog")?;
            files::set_published(self.connection, file, batch.group_start + end)?;
            fault::point("publish.commit")?;
            Ok(Step {
                file,
                end,
                moved: mover.moved,
            })
        })?;
        self.give_way(began.elapsed(), quiet);
        Ok(step)
    }

    /// Leaves the database to others for a while. SQLite's lock is not fair: a writer that waits
    /// polls for it, and would starve between transactions that follow each other at once.
    fn give_way(&self, held: Duration, quiet: bool) {
        if self.own_transactions {
            let pause = if quiet { held / QUIET_PAUSE } else { held };
            std::thread::sleep(pause.max(self.pause));
        }
    }
}

/// What one transaction has at hand.
struct Mover<'p> {
    publisher: &'p Publisher<'p>,
    file: i64,
    deadline: Instant,
    /// The row that keeps SQLite from handing out an archived id again.
    newest: Option<i64>,
    bury: Statement<'p>,
    scratch: Scratch,
    moved: Published,
}

impl<'p> Mover<'p> {
    fn new(publisher: &'p Publisher<'p>, file: i64, deadline: Instant) -> Result<Self> {
        let newest = match publisher.table.reuses_ids() {
            true => max_rowid(publisher.connection, publisher.table)?,
            false => None,
        };
        Ok(Self {
            publisher,
            file,
            deadline,
            newest,
            bury: files::bury(publisher.connection)?,
            scratch: [0; MAX_LENGTH],
            moved: Published::default(),
        })
    }

    /// Whether the transaction has held the lock long enough. The caller's own transaction is not
    /// ours to end.
    fn out_of_time(&self) -> bool {
        self.publisher.own_transactions && Instant::now() >= self.deadline
    }

    /// Leaves a row hot: its copy in the file does not count.
    fn keep(&mut self, batch: &Batch<'_>, row: usize) -> Result<()> {
        self.bury.execute((self.file, batch.group_start + row))?;
        self.moved.kept += 1;
        Ok(())
    }

    /// Moves rows that cannot have changed, because nobody has committed anything since they were
    /// read. Runs of consecutive rowids go in one statement.
    fn move_unchanged(&mut self, batch: &mut Batch<'_>, rows: Range<usize>) -> Result<usize> {
        let table = self.publisher.table;
        let (Key::Rowid { name, .. }, [DecodedColumn::Integer(keys)]) = (&table.key, batch.keys)
        else {
            return self.move_compared(batch, rows);
        };
        let mut delete = self.publisher.connection.prepare(&format!(
            "DELETE FROM {} WHERE {name} BETWEEN ?1 AND ?2",
            table.qualified()
        ))?;
        let mut row = rows.start;
        while row < rows.end && (row == rows.start || !self.out_of_time()) {
            let first = keys.value(row);
            if self.newest == Some(first) {
                self.keep(batch, row)?;
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
            self.moved.rows += deleted as u64;
            row = end;
        }
        Ok(row)
    }

    /// Moves the rows that still equal their copy in the file, value by value, and that no other
    /// table refers to. The others stay hot.
    fn move_compared(&mut self, batch: &mut Batch<'_>, rows: Range<usize>) -> Result<usize> {
        let (connection, table) = (self.publisher.connection, self.publisher.table);
        let mut select = connection.prepare(&self.publisher.select_hot())?;
        let mut delete = connection.prepare(&self.publisher.delete_hot())?;
        if batch.values.is_none() {
            *batch.values = Some(batch.file.decode_all(batch.group)?);
        }
        let mut row = rows.start;
        while row < rows.end {
            if row > rows.start && row.is_multiple_of(CLOCK_ROWS) && self.out_of_time() {
                break;
            }
            if batch.comparable
                && self.bind_key(batch, row, &mut select)?
                && self.equals_copy(batch, row, &mut select)?
            {
                self.bind_key(batch, row, &mut delete)?;
                if delete.raw_execute()? != 1 {
                    let reason = format!("the key of a row of {} is not unique", table.name);
                    return Err(Error::Internal(reason));
                }
                fault::point("publish.delete")?;
                self.moved.rows += 1;
            } else {
                self.keep(batch, row)?;
            }
            row += 1;
        }
        Ok(row)
    }

    /// Binds the key of a row; `false` if it must stay hot because of its key.
    fn bind_key(&mut self, batch: &Batch<'_>, row: usize, to: &mut Statement<'_>) -> Result<bool> {
        for (index, column) in batch.keys.iter().enumerate() {
            match column.value(row, &mut self.scratch) {
                Value::Integer(key) if index == 0 && self.newest == Some(key) => return Ok(false),
                // SQLite has no way to take malformed UTF-16 as a parameter.
                Value::RawText(_, Encoding::Utf16le | Encoding::Utf16be) => return Ok(false),
                key => to.raw_bind_parameter(index + 1, key)?,
            }
        }
        Ok(true)
    }

    /// Whether the hot row, whose key is bound, is the same as its copy.
    fn equals_copy(
        &mut self,
        batch: &Batch<'_>,
        row: usize,
        select: &mut Statement<'_>,
    ) -> Result<bool> {
        let reader = self.publisher.reader;
        let mut hot = select.raw_query();
        let Some(hot) = hot.next()? else {
            return Ok(false);
        };
        let referred: bool = hot.get(reader.width())?;
        let mut same = !referred;
        for (index, column) in batch.values.iter().flatten().enumerate() {
            let cold = column.value(row, &mut self.scratch);
            same = same && reader.read(hot, index, |value| value.same(cold))?;
        }
        Ok(same)
    }
}
