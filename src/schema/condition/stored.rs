//! Conditions that the database brings along: the `where` of a policy. The database may be a stranger's,
//! and the nightly run evaluates them unattended, on a connection whose application may have given it
//! functions of any power: `edit` of the sqlite3 shell starts a program. So such a condition may look at
//! nothing but the columns of the row, through a short list of SQLite's own functions.
//!
//! What it uses is found out by SQLite's parser, not by one of ours: it is prepared, never run, on a
//! connection of its own to an empty database in memory, with a table of the same columns and an authorizer.
//! The application's connection has but one authorizer, which may be the application's; and here none
//! of the application's functions, tables and collations exist.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use crate::error::{Error, Result};
use crate::schema::Table;
use crate::sql::quote;
use crate::sqlite::authorizer::{Action, Judged};

/// The functions that a stored condition may call: what each gives depends on its arguments alone and, for
/// those of time, on the clock.
const FUNCTIONS: [&str; 62] = [
    "->",
    "->>",
    "abs",
    "ceil",
    "ceiling",
    "coalesce",
    "concat",
    "concat_ws",
    "current_date",
    "current_time",
    "current_timestamp",
    "date",
    "datetime",
    "floor",
    "glob",
    "hex",
    "if",
    "ifnull",
    "iif",
    "instr",
    "json",
    "json_array_length",
    "json_extract",
    "json_type",
    "json_valid",
    "julianday",
    "length",
    "like",
    "likelihood",
    "likely",
    "ln",
    "log",
    "log10",
    "log2",
    "lower",
    "ltrim",
    "max",
    "min",
    "mod",
    "nullif",
    "octet_length",
    "pow",
    "power",
    "quote",
    "replace",
    "round",
    "rtrim",
    "sign",
    "sqrt",
    "strftime",
    "substr",
    "substring",
    "time",
    "timediff",
    "trim",
    "trunc",
    "typeof",
    "unhex",
    "unicode",
    "unixepoch",
    "unlikely",
    "upper",
];

/// Refuses a condition that is not one SQL expression over the columns of `table`, or that may do more
/// than look at a row.
pub fn check(connection: &Connection, table: &Table, condition: &str) -> Result<()> {
    let used = Sandbox::new(table, condition)?.functions(condition)?;
    match used.iter().find(|name| !is_harmless(connection, name)) {
        None => Ok(()),
        Some(name) => Err(Error::refused(format!(
            "option where of a policy must not call {name} while this connection has one of the \
             application's in its place; let the application register it as SQLITE_INNOCUOUS, or call \
             archive_table with this where"
        ))),
    }
}

/// Whether every function of this name on the application's connection is SQLite's own, or one that the
/// application itself has marked as fit for the SQL of strangers. (Before 3.41 SQLite's own for JSON are not.) The table is named as one of `temp`, so
/// that none of the database itself can take its place.
fn is_harmless(connection: &Connection, name: &str) -> bool {
    /// SQLITE_DIRECTONLY
    const DIRECT_ONLY: i64 = 0x0008_0000;
    /// SQLITE_INNOCUOUS
    const INNOCUOUS: i64 = 0x0020_0000;
    let functions = || -> Result<Vec<(bool, i64)>> {
        let sql = "SELECT builtin, flags FROM temp.pragma_function_list WHERE name = ?1";
        let mut statement = connection.prepare_cached(sql)?;
        let functions = statement.query_map([name], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(functions.collect::<Result<_, _>>()?)
    };
    // If SQLite does not tell, it may be anything.
    functions().is_ok_and(|all| {
        let harmless = |flags: &i64| flags & (DIRECT_ONLY | INNOCUOUS) == INNOCUOUS;
        all.iter()
            .all(|(builtin, flags)| *builtin || harmless(flags))
    })
}

/// An empty database in memory, with a table of the same columns.
struct Sandbox {
    connection: Judged,
    /// The table's name, quoted.
    source: String,
    seen: Arc<Mutex<Seen>>,
}

/// What the authorizer has seen of the statement that is being prepared.
#[derive(Debug, Default)]
struct Seen {
    selects: usize,
    functions: BTreeSet<String>,
    /// What the condition must not do.
    refused: Option<String>,
}

impl Sandbox {
    fn new(table: &Table, condition: &str) -> Result<Self> {
        // A name that the condition cannot mean.
        let condition = condition.to_ascii_lowercase();
        let mut name = "row".to_owned();
        while condition.contains(&name) {
            name.push('x');
        }
        let source = format!("main.{}", quote(&name));
        let columns: Vec<String> = table.columns.iter().map(|c| quote(&c.name)).collect();
        let connection = Connection::open_in_memory()?;
        connection.execute_batch(&format!("CREATE TABLE {source} ({})", columns.join(", ")))?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let notes = Arc::clone(&seen);
        let judge = move |action: Action<'_>| lock(&notes).judge(action, &name);
        let connection = Judged::new(connection, judge)?;
        Ok(Self {
            connection,
            source,
            seen,
        })
    }

    /// The functions that a condition calls, or why it is none.
    fn functions(&self, condition: &str) -> Result<BTreeSet<String>> {
        let mut functions = BTreeSet::new();
        for statement in super::statements(&self.source, condition) {
            *lock(&self.seen) = Seen::default();
            let prepared = statement.prepare(self.connection.connection());
            let mut seen = lock(&self.seen);
            if let Some(what) = &seen.refused {
                return Err(Error::refused(format!(
                    "option where of a policy must not {what}, which may do more than look at a row; \
                     leave it out, or call archive_table with this where"
                )));
            }
            prepared.map_err(|reason| {
                Error::refused(format!(
                    "option where of a policy must be one SQL expression over the columns of the table, \
                     with SQLite's own functions: {condition}: {reason}"
                ))
            })?;
            functions.append(&mut seen.functions);
        }
        Ok(functions)
    }
}

/// A panic leaves nothing half done behind this lock.
fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seen {
    /// Whether the parser may go on. `table` is the one whose columns may be read.
    fn judge(&mut self, action: Action<'_>, table: &str) -> bool {
        let what = match action {
            Action::Call { function } => {
                if FUNCTIONS.contains(&function) {
                    self.functions.insert(function.to_owned());
                    return true;
                }
                format!("call {function}")
            }
            Action::Read { table: read } => {
                if read == table {
                    return true;
                }
                format!("read {read}")
            }
            Action::Select => {
                self.selects += 1;
                if self.selects == 1 {
                    return true;
                }
                "have a query in it".to_owned()
            }
            Action::Other => "have a query in it".to_owned(),
        };
        self.refused.get_or_insert(what);
        false
    }
}
