//! Cold rows into the hot table, exactly as they were.

use rusqlite::Statement;

use super::options::OnConflict;
use super::rows::Rows;
use super::target::{Target, Unique};
use crate::error::{Error, Result};
use crate::fault;
use crate::format::decode::Scratch;
use crate::schema::Key;
use crate::sql::quote;
use crate::time::canonical::MAX_LENGTH;
use crate::value::{Encoding, Value};

/// Tells beforehand whether the hot table has room for a row.
pub struct Probe<'a> {
    target: &'a Target<'a>,
    statements: Vec<(Statement<'a>, &'a Unique)>,
    scratch: Scratch,
}

impl<'a> Probe<'a> {
    pub fn new(target: &'a Target<'a>) -> Result<Self> {
        let mut statements = Vec::new();
        for unique in &target.unique {
            let term = |(n, (column, collation)): (usize, &(usize, String))| {
                let name = target.table.columns.get(*column).map(|c| quote(&c.name));
                let name = name.unwrap_or_default();
                format!("{name} = ?{} COLLATE {}", n + 1, quote(collation))
            };
            let terms: Vec<String> = unique.columns.iter().enumerate().map(term).collect();
            let sql = format!(
                "SELECT 1 FROM {} WHERE {}",
                target.table.qualified(),
                terms.join(" AND ")
            );
            statements.push((target.connection.prepare(&sql)?, unique));
        }
        Ok(Self {
            target,
            statements,
            scratch: [0; MAX_LENGTH],
        })
    }

    /// What a row is called, if a hot row has one of its keys.
    pub fn conflict(&mut self, rows: &Rows, row: usize) -> Result<Option<String>> {
        for (statement, unique) in &mut self.statements {
            let mut known = true;
            for (n, (column, _)) in unique.columns.iter().enumerate() {
                match rows.value(*column, row, &mut self.scratch) {
                    // SQLite has no way to take malformed UTF-16 as a parameter: INSERT will tell.
                    Value::RawText(_, Encoding::Utf16le | Encoding::Utf16be) => known = false,
                    value => statement.raw_bind_parameter(n + 1, value)?,
                }
            }
            if known && statement.raw_query().next()?.is_some() {
                return Ok(Some(self.target.describe(rows, row)));
            }
        }
        Ok(None)
    }
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It is hot again.
    Alone,
    /// It is, in the place of another.
    Replacing,
    /// A hot row has its place.
    Ignored,
}

/// Inserts rows within one transaction.
pub struct Inserter<'a> {
    target: &'a Target<'a>,
    on_conflict: OnConflict,
    insert: Statement<'a>,
    /// Whether a rowid, which may be another one, has been given to another row.
    taken: Option<Statement<'a>>,
    /// The largest rowid in use.
    last: Option<Statement<'a>>,
    scratch: Scratch,
    /// Rows that got another rowid.
    pub renumbered: u64,
}

impl<'a> Inserter<'a> {
    pub fn new(target: &'a Target<'a>, on_conflict: OnConflict) -> Result<Self> {
        let (connection, table) = (target.connection, target.table);
        let (taken, last) = match &table.key {
            Key::Rowid { name, alias }
                if alias.is_none() || on_conflict == OnConflict::Renumber =>
            {
                let from = format!("FROM {}", table.qualified());
                let taken = format!("SELECT 1 {from} WHERE {name} = ?1");
                let last = format!("SELECT max({name}) {from}");
                (
                    Some(connection.prepare(&taken)?),
                    Some(connection.prepare(&last)?),
                )
            }
            _ => (None, None),
        };
        Ok(Self {
            target,
            on_conflict,
            insert: connection.prepare(&target.insert(false, &[]))?,
            taken,
            last,
            scratch: [0; MAX_LENGTH],
            renumbered: 0,
        })
    }

    /// Inserts a row.
    pub fn insert(&mut self, rows: &Rows, row: usize) -> Result<Inserted> {
        let rowid = self.rowid(rows, row)?;
        let raw = bind(
            self.target,
            &mut self.insert,
            rows,
            row,
            rowid,
            &mut self.scratch,
        )?;
        let done = if raw.contains(&true) {
            self.insert_by(&self.target.insert(false, &raw), rows, row, rowid)
        } else {
            self.insert.raw_execute().map_err(Error::from)
        };
        let outcome = match done {
            Ok(1) => Inserted::Alone,
            Ok(count) => {
                return Err(Error::Internal(format!(
                    "{count} rows were inserted in the place of one"
                )));
            }
            Err(error) => self.settle(error, &raw, rows, row, rowid)?,
        };
        let original = self.original(rows, row);
        if outcome != Inserted::Ignored && self.taken.is_some() && rowid != original {
            self.renumbered += 1;
        }
        fault::point("restore.insert")?;
        Ok(outcome)
    }

    /// The rowid that a row had.
    fn original(&mut self, rows: &Rows, row: usize) -> Option<i64> {
        match self.target.table.rowid_alias() {
            None => rows.rowid(row),
            Some(alias) => match rows.value(alias, row, &mut self.scratch) {
                Value::Integer(id) => Some(id),
                _ => None,
            },
        }
    }

    /// The rowid for a row. If it may be another one, as nobody chose it or the caller says so, SQLite may
    /// have given it to another row since: then the row gets a new one, which no other row needs that is
    /// to come back. NULL leaves the choice to SQLite.
    fn rowid(&mut self, rows: &Rows, row: usize) -> Result<Option<i64>> {
        let original = self.original(rows, row);
        let (Some(taken), Some(last)) = (&mut self.taken, &mut self.last) else {
            return Ok(original);
        };
        match original {
            Some(rowid) if taken.exists([rowid])? => {
                let last: Option<i64> = last.query_row([], |row| row.get(0))?;
                let last = last.max(self.target.largest_rowid);
                Ok(last.and_then(|last| last.checked_add(1)))
            }
            rowid => Ok(rowid),
        }
    }

    fn insert_by(
        &mut self,
        sql: &str,
        rows: &Rows,
        row: usize,
        rowid: Option<i64>,
    ) -> Result<usize> {
        let mut statement = self.target.connection.prepare_cached(sql)?;
        let scratch = &mut self.scratch;
        bind(self.target, &mut statement, rows, row, rowid, scratch)?;
        Ok(statement.raw_execute()?)
    }

    /// Does what the caller asked for where a constraint keeps a row out.
    fn settle(
        &mut self,
        error: Error,
        raw: &[bool],
        rows: &Rows,
        row: usize,
        rowid: Option<i64>,
    ) -> Result<Inserted> {
        let Some(is_unique) = constraint(&error) else {
            return Err(error);
        };
        match self.on_conflict {
            OnConflict::Ignore => return Ok(Inserted::Ignored),
            // Of other constraints REPLACE would change the row, or fail as well.
            OnConflict::Replace if is_unique => {
                let sql = self.target.insert(true, raw);
                if self.insert_by(&sql, rows, row, rowid)? == 1 {
                    return Ok(Inserted::Replacing);
                }
            }
            OnConflict::Replace | OnConflict::Abort | OnConflict::Renumber => {}
        }
        Err(Error::refused(format!(
            "a row of {} ({}) cannot come back: {error}",
            self.target.table.name,
            self.target.describe(rows, row),
        )))
    }
}

/// Binds the values of a row, and says which of them are the bytes of text: SQLite has no other way
/// to take malformed UTF-16.
fn bind(
    target: &Target<'_>,
    statement: &mut Statement<'_>,
    rows: &Rows,
    row: usize,
    rowid: Option<i64>,
    scratch: &mut Scratch,
) -> Result<Vec<bool>> {
    let mut raw = Vec::new();
    let alias = target.table.rowid_alias();
    for (n, column) in target.columns.iter().enumerate() {
        let value = match rowid.filter(|_| alias == Some(*column)) {
            Some(id) => Value::Integer(id),
            None => rows.value(*column, row, scratch),
        };
        match value {
            Value::RawText(bytes, Encoding::Utf16le | Encoding::Utf16be) => {
                raw.resize(target.columns.len(), false);
                if let Some(raw) = raw.get_mut(n) {
                    *raw = true;
                }
                statement.raw_bind_parameter(n + 1, Value::Blob(bytes))?;
            }
            value => statement.raw_bind_parameter(n + 1, value)?,
        }
    }
    if target.table.stores_rowid() {
        statement.raw_bind_parameter(target.columns.len() + 1, rowid)?;
    }
    Ok(raw)
}

/// Whether a constraint of the hot table kept a row out and, if so, whether that is because another
/// row is in the way. That SQLite only says in its message, unless the application has asked for
/// extended result codes.
fn constraint(error: &Error) -> Option<bool> {
    let Error::Sqlite(rusqlite::Error::SqliteFailure(code, message)) = error else {
        return None;
    };
    let message = message.as_deref().unwrap_or_default();
    let is_unique = message.starts_with("UNIQUE constraint failed");
    (code.code == rusqlite::ErrorCode::ConstraintViolation).then_some(is_unique)
}
