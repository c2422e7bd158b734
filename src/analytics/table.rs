//! `archive_query(sql [, parameters [, options]])`: what DuckDB answers, as rows of SQLite.
//!
//! Called as a function it has one column, a JSON object for each row. As a table made by `CREATE VIRTUAL
//! TABLE temp.report USING archive_query('SELECT ...')` it has the columns of the query, which runs again
//! at each scan.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::rc::Rc;

use lru::LruCache;
use rusqlite::Connection;

use super::engine::Engines;
use super::options::{Options, parameters};
use super::result::{ResultColumn, Rows};
use super::run::{Request, Running, Wanted};
use super::syntax::trimmed;
use crate::error::{Error, Result};
use crate::sqlite::pin::ReadPin;
use crate::sqlite::query::{Comparison, Query};
use crate::sqlite::value::{Arguments, Output};
use crate::sqlite::vtab::{Created, Cursor, Table};
use crate::value::Value;

const NAME: &str = "archive_query";

/// The column of a call, and the hidden ones for its arguments.
const ROW: &str = "row";
const ARGUMENTS: [&str; 3] = ["sql", "parameters", "options"];

/// What SQLite's planner is told: a query is dear, and how many rows it has is not known before.
const COST: f64 = 1e6;
const ROWS: i64 = 1000;

/// How many tables a connection knows the columns of.
const KNOWN: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);

/// What the reports of a connection share.
pub struct Reports {
    engines: Engines,
    /// Tables that were made, by the arguments of their statements: SQLite connects them again after any
    /// change of the schema, and nothing may run then.
    made: RefCell<LruCache<Vec<String>, Rc<Definition>>>,
}

impl Default for Reports {
    fn default() -> Self {
        Self {
            engines: Engines::default(),
            made: RefCell::new(LruCache::new(KNOWN)),
        }
    }
}

/// A query as a virtual table.
pub struct Report {
    connection: Rc<Connection>,
    reports: Rc<Reports>,
    /// What CREATE VIRTUAL TABLE says; a call says it each time.
    created: Option<Rc<Definition>>,
}

/// A query and the columns that it had when the table was made.
struct Definition {
    arguments: Vec<String>,
    request: Request,
    names: Vec<String>,
    /// The statement that declares the columns to SQLite.
    declaration: String,
}

impl Request {
    fn new(sql: Value<'_>, values: Value<'_>, options: Value<'_>) -> Result<Self> {
        let Value::Text(sql) = sql else {
            return Err(Error::refused(
                "give the query as text: archive_query('SELECT ...')",
            ));
        };
        Ok(Self {
            sql: trimmed(sql).to_owned(),
            parameters: parameters(values)?,
            options: Options::parse(options)?,
        })
    }
}

/// Puts the name of the function before what it has to say.
fn named(error: Error) -> Error {
    match error {
        Error::Refused(reason) => Error::Refused(format!("{NAME}: {reason}")),
        other => other,
    }
}

/// Starts a query.
fn start(
    connection: &Rc<Connection>,
    engines: &Engines,
    request: &Request,
    wanted: Wanted,
) -> Result<Running> {
    let engine = engines.get(connection)?;
    Running::start(connection, &engine, request, wanted)
}

impl Report {
    /// The table of a statement, as it was when it was made.
    fn made(
        connection: &Rc<Connection>,
        reports: &Reports,
        created: &Created<'_>,
    ) -> Result<Rc<Definition>> {
        if let Some(known) = reports.made.borrow_mut().get(&written(created)) {
            return Ok(Rc::clone(known));
        }
        let made = Rc::new(Self::create(connection, &reports.engines, created)?);
        let mut known = reports.made.borrow_mut();
        known.put(made.arguments.clone(), Rc::clone(&made));
        Ok(made)
    }

    /// The table that `CREATE VIRTUAL TABLE` makes.
    fn create(
        connection: &Rc<Connection>,
        engines: &Engines,
        created: &Created<'_>,
    ) -> Result<Definition> {
        if !created.schema.eq_ignore_ascii_case("temp") {
            return Err(Error::refused(format!(
                "such a table can only be in temp, as the database has to stay readable without this \
                 library: CREATE VIRTUAL TABLE temp.name USING {NAME}(...)"
            )));
        }
        let texts: Vec<Option<String>> = created.arguments.iter().map(|a| literal(a)).collect();
        let texts: Option<Vec<String>> = texts.into_iter().collect();
        let texts = texts.filter(|texts| (1..=ARGUMENTS.len()).contains(&texts.len()));
        let texts = texts.ok_or_else(|| {
            Error::refused(format!(
                "the arguments are the query and, if needed, its parameters and options, each in single \
                 quotes: {NAME}('SELECT ...', '[1, 2]', '{{}}')"
            ))
        })?;
        let value = |n: usize| texts.get(n).map_or(Value::Null, |text| Value::Text(text));
        let request = Request::new(value(0), value(1), value(2))?;
        let _pin = ReadPin::current(connection)?;
        let running = start(connection, engines, &request, Wanted::Columns)?;
        let columns = running.columns();
        let declared: Vec<String> = columns.iter().map(ResultColumn::declaration).collect();
        Ok(Definition {
            arguments: written(created),
            names: columns.iter().map(|column| column.name.clone()).collect(),
            declaration: format!("CREATE TABLE x({})", declared.join(", ")),
            request,
        })
    }
}

/// The arguments of a statement, to know it by.
fn written(created: &Created<'_>) -> Vec<String> {
    created.arguments.iter().map(|a| (*a).to_owned()).collect()
}

/// The text of an SQL string literal; NULL is an empty one.
fn literal(sql: &str) -> Option<String> {
    let inner = sql.trim().strip_prefix('\'')?.strip_suffix('\'')?;
    let doubled = inner.replace("''", "");
    (!doubled.contains('\'')).then(|| inner.replace("''", "'"))
}

impl Table for Report {
    type Cursor = Answers;
    type Shared = Rc<Reports>;

    const DIRECT_ONLY: bool = true;

    fn connect(
        connection: Rc<Connection>,
        reports: &Rc<Reports>,
        created: &Created<'_>,
    ) -> Result<(Self, String)> {
        let (definition, declaration) = match created.arguments[..] {
            [] => {
                let hidden = ARGUMENTS.map(|name| format!("{name} HIDDEN"));
                (
                    None,
                    format!("CREATE TABLE x({ROW} TEXT, {})", hidden.join(", ")),
                )
            }
            _ => {
                let definition = Self::made(&connection, reports, created).map_err(named)?;
                let declaration = definition.declaration.clone();
                (Some(definition), declaration)
            }
        };
        let report = Self {
            connection,
            reports: Rc::clone(reports),
            created: definition,
        };
        Ok((report, declaration))
    }

    fn best_index(&self, query: &mut Query<'_>) -> Result<()> {
        if self.created.is_some() {
            return query.finish("", COST, ROWS);
        }
        let constraints = query.constraints();
        let mut given = String::new();
        for (number, name) in ARGUMENTS.iter().enumerate() {
            let argument = constraints
                .iter()
                .find(|term| term.column == Some(number + 1) && term.comparison == Comparison::Eq);
            if let Some(argument) = argument {
                query.push_argument(argument, given.len());
                given.push(char::from(name.as_bytes()[0]));
            }
        }
        match given.starts_with('s') {
            true => query.finish(&given, COST, ROWS),
            // SQLite looks for a plan in which it has the text.
            false => query.finish(&given, 1e18, ROWS),
        }
    }

    fn dropped(&self) {
        if let Some(definition) = &self.created {
            self.reports.made.borrow_mut().pop(&definition.arguments);
        }
    }

    fn open(&self) -> Result<Answers> {
        Ok(Answers {
            connection: Rc::clone(&self.connection),
            engines: self.reports.engines.clone(),
            created: self.created.clone(),
            arguments: Default::default(),
            running: None,
            rows: None,
            current: 0,
            count: 0,
        })
    }
}

/// The rows of a query, one batch at a time.
pub struct Answers {
    connection: Rc<Connection>,
    engines: Engines,
    created: Option<Rc<Definition>>,
    /// Of a call, for who selects the hidden columns.
    arguments: [Option<String>; 3],
    running: Option<Running>,
    rows: Option<Rows>,
    current: usize,
    count: i64,
}

impl Answers {
    fn run(&self, request: &Request) -> Result<Running> {
        start(&self.connection, &self.engines, request, Wanted::Rows)
    }

    fn start(&mut self, plan: &str, arguments: &Arguments<'_>) -> Result<()> {
        let definition = self.created.clone();
        let running = match &definition {
            Some(definition) => self.run(&definition.request)?,
            None => {
                let mut values = [Value::Null; 3];
                for (position, first) in plan.bytes().enumerate() {
                    let wanted = ARGUMENTS
                        .iter()
                        .position(|name| name.as_bytes()[0] == first);
                    if let Some(slot) = wanted.and_then(|number| values.get_mut(number)) {
                        *slot = arguments.value(position)?;
                    }
                }
                let [sql, parameters, options] = values;
                self.arguments = values.map(|value| match value {
                    Value::Text(text) => Some(text.to_owned()),
                    _ => None,
                });
                let request = Request::new(sql, parameters, options)?;
                self.run(&request)?
            }
        };
        if let Some(definition) = definition {
            let names = running.columns().iter().map(|column| &column.name);
            if !names.eq(&definition.names) {
                return Err(Error::refused(
                    "the columns of the query have changed since the table was made; make it again",
                ));
            }
        }
        self.running = Some(running);
        self.advance()
    }

    /// Gets the next batch that has rows.
    fn advance(&mut self) -> Result<()> {
        (self.rows, self.current) = (None, 0);
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        while let Some(batch) = running.next()? {
            if batch.num_rows() > 0 {
                self.rows = Some(Rows::new(running.columns(), &batch)?);
                return Ok(());
            }
        }
        self.running = None;
        Ok(())
    }
}

impl Cursor for Answers {
    fn filter(&mut self, plan: &str, arguments: &Arguments<'_>) -> Result<()> {
        (self.running, self.rows, self.count) = (None, None, 0);
        self.start(plan, arguments).map_err(named)
    }

    fn next(&mut self) -> Result<()> {
        self.current += 1;
        self.count += 1;
        match self.eof() {
            true => self.advance().map_err(named),
            false => Ok(()),
        }
    }

    fn eof(&self) -> bool {
        self.rows
            .as_ref()
            .is_none_or(|rows| self.current >= rows.count)
    }

    fn column(&mut self, column: usize, output: &mut Output) -> Result<()> {
        let (Some(rows), Some(running)) = (&self.rows, &self.running) else {
            return Ok(());
        };
        match (&self.created, column) {
            (Some(_), column) => rows.value(column, self.current, |value| output.set(value)),
            (None, 0) => output.set(Value::Text(&rows.json(running.columns(), self.current))),
            (None, hidden) => {
                let argument = self.arguments.get(hidden - 1).and_then(Option::as_deref);
                output.set(argument.map_or(Value::Null, Value::Text));
            }
        }
        Ok(())
    }

    fn rowid(&mut self) -> Result<i64> {
        Ok(self.count)
    }
}
