//! The table-valued functions that show the catalog: `archive_status`, `archive_files(table)` and
//! `archive_history`; and `archive_scan_stats`, which shows what queries did.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rusqlite::types::Value as Owned;
use rusqlite::{Connection, Params};

use crate::catalog;
use crate::catalog::identity::{self, Location};
use crate::catalog::places::Places;
use crate::cold::stats::{self, ScanLog};
use crate::error::{Error, Result};
use crate::sql::{quote, unquote, without_comments};
use crate::sqlite::query::{Comparison, Query};
use crate::sqlite::value::{Arguments, Output};
use crate::sqlite::vtab::{Created, Cursor, Table};
use crate::value::Value;

/// One of the functions.
pub trait Definition {
    const NAME: &'static str;
    const COLUMNS: &'static [&'static str];
    /// The name of its argument, which is a hidden column.
    const ARGUMENT: Option<&'static str>;
    /// What it shows that is not in the catalog.
    type Shared: Clone + Default;

    /// All rows. There is a catalog.
    fn rows(
        connection: &Connection,
        shared: &Self::Shared,
        argument: Option<Value<'_>>,
    ) -> Result<Vec<Vec<Owned>>>;
}

/// `archive_status`: a row for each archived table, and for each that has a policy.
pub struct Status;

impl Definition for Status {
    const NAME: &'static str = "archive_status";
    const COLUMNS: &'static [&'static str] = &[
        "table",
        "hot_rows",
        "cold_rows",
        "staged_rows",
        "files",
        "cold_bytes",
        "compression_ratio",
        "oldest",
        "newest",
        "policy",
        "last_run",
    ];
    const ARGUMENT: Option<&'static str> = None;
    type Shared = ();

    fn rows(
        connection: &Connection,
        (): &(),
        _argument: Option<Value<'_>>,
    ) -> Result<Vec<Vec<Owned>>> {
        let mut rows = query(connection, include_str!("../../sql/status.sql"), [])?;
        let places = Places::read(connection)?;
        let mut present = HashMap::new();
        for (table, location) in identity::survey(connection, &places)? {
            if let Location::Here(name) = location {
                present.insert(table.name, name);
            }
        }
        for row in &mut rows {
            let [Owned::Text(name), hot_rows, ..] = &mut row[..] else {
                continue;
            };
            if let Some(hot) = present.get(name) {
                name.clone_from(hot);
                let sql = format!("SELECT count(*) FROM main.{}", quote(hot));
                *hot_rows = connection.query_row(&sql, [], |row| row.get(0))?;
            }
        }
        Ok(rows)
    }
}

/// `archive_files(table)`: a row for each cold file of a table.
pub struct Files;

impl Definition for Files {
    const NAME: &'static str = "archive_files";
    const COLUMNS: &'static [&'static str] =
        &["path", "rows", "bytes", "oldest", "newest", "state"];
    const ARGUMENT: Option<&'static str> = Some("table");
    type Shared = ();

    fn rows(
        connection: &Connection,
        (): &(),
        argument: Option<Value<'_>>,
    ) -> Result<Vec<Vec<Owned>>> {
        let Some(Value::Text(name)) = argument else {
            return Err(Error::refused(
                "give the name of a table: archive_files('task_queue')",
            ));
        };
        let name = unquote(name);
        let table = identity::find(connection, &name)?
            .ok_or_else(|| Error::refused(format!("{name} has never been archived")))?;
        query(connection, include_str!("../../sql/files.sql"), [table.id])
    }
}

/// `archive_history`: a row for each run, newest first.
pub struct History;

impl Definition for History {
    const NAME: &'static str = "archive_history";
    const COLUMNS: &'static [&'static str] = &[
        "operation",
        "table",
        "started_at",
        "finished_at",
        "cutoff",
        "planned_rows",
        "rows",
        "files",
        "bytes",
        "status",
        "error",
    ];
    const ARGUMENT: Option<&'static str> = None;
    type Shared = ();

    fn rows(
        connection: &Connection,
        (): &(),
        _argument: Option<Value<'_>>,
    ) -> Result<Vec<Vec<Owned>>> {
        query(connection, include_str!("../../sql/history.sql"), [])
    }
}

/// `archive_scan_stats`: what the connection's last cold scans did, newest first.
pub struct ScanStats;

impl Definition for ScanStats {
    const NAME: &'static str = "archive_scan_stats";
    const COLUMNS: &'static [&'static str] = &[
        "scan",
        "table",
        "plan",
        "loops",
        "files",
        "files_opened",
        "row_groups",
        "row_groups_read",
        "row_groups_skipped",
        "pages_read",
        "pages_skipped",
        "bytes_read",
        "rows_decoded",
        "rows_returned",
        "cache_hits",
        "elapsed_ms",
    ];
    const ARGUMENT: Option<&'static str> = None;
    type Shared = ScanLog;

    fn rows(
        _connection: &Connection,
        log: &ScanLog,
        _argument: Option<Value<'_>>,
    ) -> Result<Vec<Vec<Owned>>> {
        let integer = |number: u64| Owned::Integer(i64::try_from(number).unwrap_or(i64::MAX));
        let row = |scan: &stats::ScanStats| {
            let counters = &scan.counters;
            let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed) as u64;
            let groups_read = count(&counters.groups_read);
            let elapsed = scan.elapsed.unwrap_or_else(|| scan.began.elapsed());
            vec![
                integer(scan.number),
                Owned::Text(scan.table.clone()),
                Owned::Text(scan.plan.clone()),
                integer(scan.loops),
                integer(scan.files),
                integer(count(&counters.files_opened)),
                integer(scan.row_groups),
                integer(groups_read),
                integer(scan.row_groups.saturating_sub(groups_read)),
                integer(count(&counters.pages_read)),
                integer(count(&counters.pages_skipped)),
                integer(count(&counters.bytes_read)),
                integer(count(&counters.rows_decoded)),
                integer(scan.rows_returned),
                integer(count(&counters.cache_hits)),
                Owned::Real(elapsed.as_secs_f64() * 1e3),
            ]
        };
        Ok(log.scans().iter().map(|scan| row(&scan.borrow())).collect())
    }
}

fn query(connection: &Connection, sql: &str, parameters: impl Params) -> Result<Vec<Vec<Owned>>> {
    let mut statement = connection.prepare(&without_comments(sql))?;
    let width = statement.column_count();
    let rows = statement.query_map(parameters, |row| (0..width).map(|n| row.get(n)).collect())?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// A function as a virtual table.
pub struct Listing<D: Definition> {
    connection: Rc<Connection>,
    shared: D::Shared,
}

/// The rows of a call, all in memory: they are as many as there are tables, files or runs.
pub struct Rows<D: Definition> {
    connection: Rc<Connection>,
    shared: D::Shared,
    rows: Vec<Vec<Owned>>,
    current: usize,
}

impl<D: Definition> Table for Listing<D> {
    type Cursor = Rows<D>;
    type Shared = D::Shared;

    fn connect(
        connection: Rc<Connection>,
        shared: &D::Shared,
        _created: &Created<'_>,
    ) -> Result<(Self, String)> {
        let columns = D::COLUMNS.iter().map(|name| format!("\"{name}\""));
        let hidden = D::ARGUMENT.iter().map(|name| format!("\"{name}\" HIDDEN"));
        let columns: Vec<String> = columns.chain(hidden).collect();
        let listing = Self {
            connection,
            shared: shared.clone(),
        };
        Ok((listing, format!("CREATE TABLE x({})", columns.join(", "))))
    }

    fn best_index(&self, query: &mut Query<'_>) -> Result<()> {
        let is_argument = |column: Option<usize>| column == Some(D::COLUMNS.len());
        let constraints = query.constraints();
        let argument = constraints
            .iter()
            .find(|term| is_argument(term.column) && term.comparison == Comparison::Eq);
        match argument {
            Some(argument) => {
                query.push(argument, 0);
                query.finish("", 100.0, 100)
            }
            // Dear, so that SQLite looks for a plan that has the argument.
            None => query.finish("", 1e9, 100),
        }
    }

    fn open(&self) -> Result<Rows<D>> {
        Ok(Rows {
            connection: Rc::clone(&self.connection),
            shared: self.shared.clone(),
            rows: Vec::new(),
            current: 0,
        })
    }
}

impl<D: Definition> Cursor for Rows<D> {
    fn filter(&mut self, _plan: &str, arguments: &Arguments<'_>) -> Result<()> {
        self.current = 0;
        let argument = match arguments.is_empty() {
            true => None,
            false => Some(arguments.value(0)?),
        };
        self.rows = match catalog::exists(&self.connection)? {
            true => D::rows(&self.connection, &self.shared, argument)
                .map_err(|error| Error::refused(format!("{}: {error}", D::NAME)))?,
            false => Vec::new(),
        };
        if let Some(Value::Text(argument)) = argument {
            // SQLite checks the hidden column against the argument.
            self.rows
                .iter_mut()
                .for_each(|row| row.push(Owned::Text(argument.to_owned())));
        }
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        self.current += 1;
        Ok(())
    }

    fn eof(&self) -> bool {
        self.current >= self.rows.len()
    }

    fn column(&mut self, column: usize, output: &mut Output) -> Result<()> {
        let value = self.rows.get(self.current).and_then(|row| row.get(column));
        output.set(value.map_or(Value::Null, Value::from));
        Ok(())
    }

    fn rowid(&mut self) -> Result<i64> {
        Ok(i64::try_from(self.current).unwrap_or(i64::MAX))
    }
}
