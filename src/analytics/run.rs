//! One query from its text to its rows: what the thread of the connection does, and what DuckDB's does.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use arrow::array::RecordBatch;
use duckdb::types::Value as Parameter;
use duckdb::{InterruptHandle, Statement};
use rusqlite::Connection;

use super::dialect::duckdb_error;
use super::engine::{Engine, Parsed};
use super::feed::{Answer, Event, Feed};
use super::options::Options;
use super::result::ResultColumn;
use super::sources::Registered;
use super::survey::survey;
use super::syntax::Mentioned;
use super::view::Views;
use crate::error::{Error, Result};
use crate::sql;
use crate::sqlite::panic::guard;
use crate::sqlite::pin::ReadPin;

/// How many events may wait. DuckDB's thread is this many batches ahead.
const WAITING_EVENTS: usize = 4;

/// What a caller wants to be run.
#[derive(Debug, Clone)]
pub struct Request {
    pub sql: String,
    pub parameters: Vec<Parameter>,
    pub options: Options,
}

/// What the names in a query mean, as SQL.
struct Meaning {
    /// What is run before the query.
    before: String,
    /// What the query begins with.
    with: String,
}

/// A query that DuckDB runs. Dropping it ends the query.
pub struct Running {
    feed: Feed,
    interrupt: Arc<InterruptHandle>,
    columns: Vec<ResultColumn>,
    _sources: Vec<Registered>,
    engine: Rc<Engine>,
    /// Everything is read from one snapshot.
    _pin: ReadPin,
}

/// What is wanted of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Rows,
    /// Only what its columns are.
    Columns,
}

impl Running {
    /// Starts a query, and waits until it is known what its columns are.
    pub fn start(
        connection: &Rc<Connection>,
        engine: &Rc<Engine>,
        request: &Request,
        wanted: Wanted,
    ) -> Result<Self> {
        if let Some(running) = Self::attempt(connection, engine, request, wanted)? {
            return Ok(running);
        }
        // What is wrong with a file that is not the one it was is found when it is looked at again.
        engine.subjects.forget();
        Self::attempt(connection, engine, request, wanted)?
            .ok_or_else(|| Error::refused("cold files change while they are read"))
    }

    /// Starts a query; `None` if what was known of its files is not so any more.
    fn attempt(
        connection: &Rc<Connection>,
        engine: &Rc<Engine>,
        request: &Request,
        wanted: Wanted,
    ) -> Result<Option<Self>> {
        let pin = ReadPin::new(connection)?;
        let encoding = sql::encoding(connection)?;
        let (events, receiver) = sync_channel(WAITING_EVENTS);
        let (go, wait) = sync_channel(1);
        let duckdb = engine.connect()?;
        let interrupt = duckdb.interrupt_handle();
        let thread = Thread {
            connection: duckdb,
            request: request.clone(),
            wanted,
            parsed: engine.parsed.clone(),
            events: events.clone(),
        };
        engine.spawn(Arc::clone(&interrupt), move || thread.run(&wait))?;
        let mut running = Self {
            feed: Feed::new(connection, encoding, receiver)?,
            interrupt,
            columns: Vec::new(),
            _sources: Vec::new(),
            engine: Rc::clone(engine),
            _pin: pin,
        };
        let mentioned = match running.wait()? {
            Answer::Mentioned(mentioned) => mentioned,
            other => return Err(other.unexpected()),
        };
        let mut views = Views::default();
        let subjects = engine.subjects.find(connection, &mentioned)?;
        for subject in &subjects {
            let typed = request.options.typed_times;
            let survey = survey(connection, subject, &mentioned, encoding, typed)?;
            views.add(subject, survey, &engine.sources, &events)?;
        }
        let (before, with) = match mentioned.needs_views {
            true => (views.create(), String::new()),
            false => (String::new(), views.with()),
        };
        running.feed.relations = views.relations;
        running._sources = views.sources;
        // If the thread has ended, it has said why, which is read next.
        let _ = go.send(Meaning { before, with });
        // DuckDB plans meanwhile.
        for subject in &subjects {
            if !subject.files_are_unchanged(connection) {
                return Ok(None);
            }
        }
        match running.wait()? {
            Answer::Columns(columns) => running.columns = columns,
            other => return Err(other.unexpected()),
        }
        Ok(Some(running))
    }

    pub fn columns(&self) -> &[ResultColumn] {
        &self.columns
    }

    /// The next rows; `None` at the end.
    pub fn next(&mut self) -> Result<Option<RecordBatch>> {
        match self.wait()? {
            Answer::Rows(batch) => Ok(Some(batch)),
            Answer::Done(Ok(())) => Ok(None),
            other => Err(other.unexpected()),
        }
    }

    fn wait(&mut self) -> Result<Answer> {
        match self.feed.wait()? {
            Answer::Done(Err(error)) => {
                self.engine.failed(&error);
                Err(self.feed.take_failure().unwrap_or(error))
            }
            answer => Ok(answer),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The thread ends by itself: it is interrupted, or finds that nobody listens.
        self.interrupt.interrupt();
    }
}

/// The thread of a query, which calls DuckDB.
struct Thread {
    connection: duckdb::Connection,
    request: Request,
    wanted: Wanted,
    parsed: Parsed,
    events: SyncSender<Event>,
}

/// The other thread has given up the query.
struct Gone;

impl Thread {
    fn run(self, go: &Receiver<Meaning>) {
        let outcome = guard(|| Ok(self.steps(go)));
        let done = match outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Stop::Failed(error))) | Err(error) => Err(error),
            Ok(Err(Stop::Gone)) => return,
        };
        // Nobody may listen any more.
        let _ = self.answer(Answer::Done(done));
    }

    fn answer(&self, answer: Answer) -> Result<(), Gone> {
        self.events.send(Event::Answer(answer)).map_err(|_| Gone)
    }

    fn steps(&self, go: &Receiver<Meaning>) -> Result<(), Stop> {
        let sql = &self.request.sql;
        let parse = || Mentioned::parse(&self.connection, sql);
        self.answer(Answer::Mentioned(self.parsed.get(sql, parse)?))?;
        let Meaning { before, with } = go.recv().map_err(|_| Gone)?;
        if !before.is_empty() {
            self.connection
                .execute_batch(&before)
                .map_err(duckdb_error)?;
        }
        // A comment may be at its end.
        let query = format!("{with}SELECT * FROM ({sql}\n)");
        let mut statement = self.prepare(&query)?;
        let run = self.wanted == Wanted::Rows && is_direct(&statement);
        if !run {
            // What it would be like, for which DuckDB does not run it.
            statement = self.prepare(&format!("{query} LIMIT 0"))?;
        }
        self.start(&mut statement)?;
        let columns = columns(&statement)?;
        if self.wanted == Wanted::Rows && !run {
            drop(statement);
            let query = ResultColumn::query(&columns, sql);
            statement = self.prepare(&format!("{with}{query}"))?;
            self.start(&mut statement)?;
        }
        self.answer(Answer::Columns(columns))?;
        while let Some(rows) = statement.step().map_err(duckdb_error)? {
            self.answer(Answer::Rows(RecordBatch::from(&rows)))?;
        }
        Ok(())
    }

    fn prepare(&self, sql: &str) -> Result<Statement<'_>> {
        self.connection.prepare(sql).map_err(duckdb_error)
    }

    /// Starts a statement with the caller's parameters.
    fn start(&self, statement: &mut Statement<'_>) -> Result<()> {
        let parameters = &self.request.parameters;
        let (needed, given) = (statement.parameter_count(), parameters.len());
        if needed != given {
            return Err(Error::refused(format!(
                "the query has {needed} parameters, and {given} were given: \
                 archive_query('SELECT ?', '[1]')"
            )));
        }
        let parameters = duckdb::params_from_iter(parameters);
        let started = statement.stream_arrow(parameters);
        started.map(drop).map_err(duckdb_error)
    }
}

/// Whether the values of a prepared statement can surely be read as DuckDB hands them out.
fn is_direct(statement: &Statement<'_>) -> bool {
    let column = |column| ResultColumn::new("", &statement.column_logical_type(column));
    (0..statement.column_count()).all(|number| column(number).is_direct())
}

/// The columns of a statement that has been started.
fn columns(statement: &Statement<'_>) -> Result<Vec<ResultColumn>> {
    let column = |column| {
        let name = statement.column_name(column).map_err(duckdb_error)?;
        Ok(ResultColumn::new(
            name,
            &statement.column_logical_type(column),
        ))
    };
    (0..statement.column_count()).map(column).collect()
}

/// Why a query's thread ends before its end.
enum Stop {
    Gone,
    Failed(Error),
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}
