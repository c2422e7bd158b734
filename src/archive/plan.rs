//! Which rows go, and in which order.
//!
//! The keys of the rows that are old enough are written to a TEMP table, which SQLite keeps sorted
//! by partition, time and key, and on disk if it grows. The scan takes many short read
//! transactions, so that it never holds up a writer in rollback-journal mode; rows that change
//! after it are found out before they are deleted.

use rusqlite::{Connection, params_from_iter};

use super::check::Reference;
use super::options::Options;
use crate::error::{Error, Result};
use crate::fault;
use crate::format::decode::DecodedColumn;
use crate::format::rows::{FileRows, RowGroup};
use crate::format::types::MAX_GROUP_ROWS;
use crate::moving::read::{HotReader, plain};
use crate::schema::{Table, condition};
use crate::sql::{patiently, quote, temp_transaction};
use crate::time::TimeFormat;
use crate::time::canonical::MAX_LENGTH;
use crate::value::{Encoding, OwnedKey, Value};

/// Rows that one read transaction looks at.
const CHUNK_ROWS: usize = 20_000;
const GROUP_BYTES: usize = 16 << 20;
/// A file is what is in memory at once, three times over: read, encoded and waiting between.
const FILE_BYTES: usize = 32 << 20;

/// The rule by which rows are old enough.
pub struct Rule<'a> {
    pub table: &'a Table,
    pub time_column: usize,
    pub format: TimeFormat,
    pub options: &'a Options,
}

impl Rule<'_> {
    /// The instant of a row, if it is before the cutoff.
    pub fn due(&self, time: Value<'_>) -> Option<i64> {
        self.format
            .instant(time)
            .filter(|instant| *instant < self.options.cutoff)
    }

    /// SQL for whether a row matches the caller's condition.
    pub fn condition(&self) -> String {
        condition::sql(self.options.condition.as_deref())
    }

    /// Refuses a condition that is not one SQL expression.
    pub fn check_condition(&self, connection: &Connection) -> Result<()> {
        let condition = self.options.condition.as_deref();
        condition::check(connection, &self.table.qualified(), condition)
    }

    /// Fails if a row that stays refers to one that goes.
    pub fn check_references(
        &self,
        connection: &Connection,
        references: &[Reference],
    ) -> Result<()> {
        let time = quote(&self.table.columns[self.time_column].name);
        for reference in references {
            let own = reference.child == self.table.name;
            // Of a table that refers to itself, the rows that go along do not count.
            let child_time = if own {
                format!("c.{time}")
            } else {
                "NULL".to_owned()
            };
            let mut statement = connection.prepare(&format!(
                "SELECT p.{time}, {child_time} FROM main.{} c JOIN {} p ON {}",
                quote(&reference.child),
                self.table.qualified(),
                reference.join(),
            ))?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let due = |column| Ok::<_, Error>(self.due(plain(row.get_ref(column)?)).is_some());
                if due(0)? && !(own && due(1)?) {
                    return Err(reference.refusal(&self.table.name));
                }
            }
        }
        Ok(())
    }
}

/// The rows that are to go, and where reading them has got to.
pub struct Plan<'a> {
    connection: &'a Connection,
    rule: &'a Rule<'a>,
    reader: &'a HotReader,
    /// The partitions that are left, the next one last.
    partitions: Vec<i64>,
    /// Time and key of the last row that was read of the present partition.
    after: Option<Vec<OwnedKey>>,
    pub rows: u64,
    /// Rows whose time is NULL or unreadable.
    pub skipped: u64,
    /// Rows that qualify but stay, to keep their id from being handed out again.
    pub kept: u64,
}

impl<'a> Plan<'a> {
    /// Finds the rows that are old enough.
    pub fn new(
        connection: &'a Connection,
        rule: &'a Rule<'a>,
        reader: &'a HotReader,
    ) -> Result<Self> {
        let mut plan = Self {
            connection,
            rule,
            reader,
            partitions: Vec::new(),
            after: None,
            rows: 0,
            skipped: 0,
            kept: 0,
        };
        plan.create_table()?;
        plan.collect()?;
        plan.list_partitions()?;
        Ok(plan)
    }

    fn list_partitions(&mut self) -> Result<()> {
        let sql = format!(
            "SELECT DISTINCT _archive_part FROM {} ORDER BY _archive_part DESC",
            self.temp_table()
        );
        let mut statement = self.connection.prepare(&sql)?;
        let partitions = statement.query_map([], |row| row.get(0))?;
        self.partitions = partitions.collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Takes rows out again: `columns` are their times and their keys.
    pub fn exclude(&mut self, columns: &[DecodedColumn]) -> Result<()> {
        let keys = self.keys().into_iter().map(|key| format!("AND {key} = ?"));
        let mut delete = self.connection.prepare(&format!(
            "DELETE FROM {} WHERE _archive_part = ? AND _archive_time = ? {}",
            self.temp_table(),
            keys.collect::<Vec<_>>().join(" ")
        ))?;
        let mut scratch = [0; MAX_LENGTH];
        'rows: for row in 0..columns.first().map_or(0, DecodedColumn::rows) {
            for (index, column) in columns.iter().enumerate() {
                let value = column.value(row, &mut scratch);
                if let Value::RawText(_, Encoding::Utf16le | Encoding::Utf16be) = value {
                    continue 'rows; // It cannot be bound, nor has it been planned.
                }
                if index == 0 {
                    let Some(instant) = self.rule.format.instant(value) else {
                        continue 'rows;
                    };
                    delete.raw_bind_parameter(1, self.rule.options.partition.number(instant))?;
                }
                delete.raw_bind_parameter(index + 2, value)?;
            }
            self.rows = self.rows.saturating_sub(delete.raw_execute()? as u64);
        }
        drop(delete);
        self.list_partitions()
    }

    /// How many folders of files the rows go to.
    pub fn partitions(&self) -> usize {
        self.partitions.len()
    }

    fn keys(&self) -> Vec<String> {
        (1..=self.rule.table.key_expressions().len())
            .map(|n| format!("_archive_k{n}"))
            .collect()
    }

    /// One table for each number of key columns. It is emptied, never dropped: DROP TABLE fails
    /// while the caller's own statement reads a table.
    fn temp_table(&self) -> String {
        format!("temp._archive_plan_{}", self.keys().len())
    }

    fn create_table(&self) -> Result<()> {
        let (name, keys) = (self.temp_table(), self.keys().join(", "));
        self.connection.execute_batch(&format!(
            "CREATE TABLE IF NOT EXISTS {name}
                 (_archive_part, _archive_time, {keys},
                  PRIMARY KEY (_archive_part, _archive_time, {keys})) WITHOUT ROWID;
             DELETE FROM {name};"
        ))?;
        Ok(())
    }

    /// Forgets the rows.
    pub fn clear(&self) -> Result<()> {
        self.connection
            .execute(&format!("DELETE FROM {}", self.temp_table()), [])?;
        Ok(())
    }

    fn collect(&mut self) -> Result<()> {
        let table = self.rule.table;
        let newest = match table.reuses_ids() {
            true => max_rowid(self.connection, table)?,
            false => None,
        };
        let mut last: Option<Vec<OwnedKey>> = None;
        loop {
            let chunk = patiently(|| {
                temp_transaction(self.connection, || {
                    self.collect_chunk(last.as_deref(), newest)
                })
            })?;
            self.rows += chunk.rows;
            self.skipped += chunk.skipped;
            self.kept += chunk.kept;
            fault::point("plan.chunk")?;
            if chunk.last.is_none() {
                return Ok(());
            }
            if chunk.last == last {
                // Only malformed UTF-16 in a primary key can come back as something else.
                return Err(Error::refused(format!(
                    "{} has a malformed key",
                    table.name
                )));
            }
            last = chunk.last;
        }
    }

    /// Looks at the next rows in the order of their keys. Of `main` it only reads.
    fn collect_chunk(&self, after: Option<&[OwnedKey]>, newest: Option<i64>) -> Result<Chunk> {
        let (table, keys) = (self.rule.table, self.rule.table.key_expressions());
        let list = keys.join(", ");
        let bound = match after {
            Some(_) => format!("WHERE ({list}) > ({})", marks(keys.len())),
            None => String::new(),
        };
        let mut select = self.connection.prepare(&format!(
            "SELECT {}, {}, {list} FROM {} AS t {bound} ORDER BY {list} LIMIT {CHUNK_ROWS}",
            quote(&table.columns[self.rule.time_column].name),
            self.rule.condition(),
            table.qualified(),
        ))?;
        let mut insert = self.connection.prepare(&format!(
            "INSERT OR IGNORE INTO {} VALUES (?, {})",
            self.temp_table(),
            marks(keys.len() + 1)
        ))?;
        let mut chunk = Chunk::default();
        let mut rows = select.query(params_from_iter(after.unwrap_or_default()))?;
        let mut seen = 0;
        while let Some(row) = rows.next()? {
            seen += 1;
            if seen == CHUNK_ROWS {
                let key = (2..2 + keys.len()).map(|column| row.get(column));
                chunk.last = Some(key.collect::<Result<_, _>>()?);
            }
            let time = row.get_ref(0)?;
            let matches = row.get_ref(1)?.as_i64_or_null().ok().flatten() == Some(1);
            if !matches {
                continue;
            }
            let Some(instant) = self.rule.format.instant(plain(time)) else {
                chunk.skipped += 1;
                continue;
            };
            if instant >= self.rule.options.cutoff {
                continue;
            }
            if newest.is_some() && row.get_ref(2)?.as_i64_or_null().ok().flatten() == newest {
                chunk.kept += 1;
                continue;
            }
            insert.raw_bind_parameter(1, self.rule.options.partition.number(instant))?;
            insert.raw_bind_parameter(2, plain(time))?;
            for column in 0..keys.len() {
                insert.raw_bind_parameter(3 + column, plain(row.get_ref(2 + column)?))?;
            }
            insert.raw_execute()?;
            chunk.rows += 1;
        }
        Ok(chunk)
    }

    /// Reads the rows of the next file, or `None` if there are no more.
    pub fn next_file(&mut self) -> Result<Option<FileRows>> {
        while let Some(partition) = self.partitions.last().copied() {
            let mut file = FileRows {
                partition,
                groups: Vec::new(),
                time_min: i64::MAX,
                time_max: i64::MIN,
            };
            loop {
                let (group, after) = patiently(|| self.read_group(&mut file))?;
                let ended = after.is_none();
                self.after = after;
                if group.rows > 0 {
                    file.groups.push(group);
                }
                fault::point("read.rows")?;
                if ended {
                    self.partitions.pop();
                }
                if ended || file.bytes() >= FILE_BYTES {
                    break;
                }
            }
            if !file.groups.is_empty() {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    /// Reads the next row group of a file in one read transaction, and says after which row the
    /// next one starts.
    fn read_group(&self, file: &mut FileRows) -> Result<(RowGroup, Option<Vec<OwnedKey>>)> {
        let table = self.rule.table;
        let keys = self.keys();
        let list = keys
            .iter()
            .map(|key| format!("p.{key}"))
            .collect::<Vec<_>>()
            .join(", ");
        let join = keys.iter().zip(table.key_expressions());
        let join: Vec<String> = join
            .map(|(key, column)| format!("t.{column} = p.{key}"))
            .collect();
        let bound = match &self.after {
            Some(after) => format!("AND (p._archive_time, {list}) > ({})", marks(after.len())),
            None => String::new(),
        };
        let mut statement = self.connection.prepare(&format!(
            "SELECT {}, {}, t.{}, p._archive_time, {list} FROM {} p CROSS JOIN {} t ON {}
             WHERE p._archive_part = ? {bound} ORDER BY p._archive_time, {list}",
            self.reader.select_list(),
            self.rule.condition(),
            quote(&table.columns[self.rule.time_column].name),
            self.temp_table(),
            table.qualified(),
            join.join(" AND "),
        ))?;
        let condition = self.reader.width();
        let (hot_time, planned_time) = (condition + 1, condition + 2);
        let partition = OwnedKey::Other(file.partition.into());
        let after = self.after.as_deref().unwrap_or_default();
        let mut rows =
            statement.query(params_from_iter(std::iter::once(&partition).chain(after)))?;
        let mut group = RowGroup::new(self.reader.columns());
        while let Some(row) = rows.next()? {
            // The row may have changed since it was planned. If its time or the condition did, it
            // is no longer this run's business.
            let time = plain(row.get_ref(hot_time)?);
            let matches = row.get_ref(condition)?.as_i64_or_null().ok().flatten() == Some(1);
            if let Some(instant) = self.rule.due(time)
                && matches
                && time.same(plain(row.get_ref(planned_time)?))
            {
                for column in 0..self.reader.columns() {
                    self.reader.read(
                        |n| row.get_ref(n),
                        column,
                        |value| group.push(column, value),
                    )?;
                }
                group.rows += 1;
                file.time_min = file.time_min.min(instant);
                file.time_max = file.time_max.max(instant);
            }
            if group.rows >= MAX_GROUP_ROWS || group.bytes >= GROUP_BYTES {
                let position = (planned_time..=planned_time + keys.len()).map(|c| row.get(c));
                return Ok((group, Some(position.collect::<Result<_, _>>()?)));
            }
        }
        Ok((group, None))
    }
}

/// What a look at some rows found.
#[derive(Default)]
struct Chunk {
    rows: u64,
    skipped: u64,
    kept: u64,
    /// The key after which the next chunk begins; `None` after the last row.
    last: Option<Vec<OwnedKey>>,
}

/// The largest rowid in use.
pub fn max_rowid(connection: &Connection, table: &Table) -> Result<Option<i64>> {
    let keys = table.key_expressions();
    let sql = format!("SELECT max({}) FROM {}", keys.join(", "), table.qualified());
    Ok(connection.query_row(&sql, [], |row| row.get(0))?)
}

fn marks(count: usize) -> String {
    vec!["?"; count].join(", ")
}
