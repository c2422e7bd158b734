//! One query from its text to its rows: what the thread of the connection does, and what DuckDB's does.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use arrow::array::RecordBatch;
use duckdb::InterruptHandle;
use duckdb::types::Value as Parameter;
use rusqlite::Connection;

use super::engine::{Engine, Registered, duckdb_error};
use super::feed::{Event, Feed};
use super::options::Options;
use super::result::ResultColumn;
use super::subject;
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

/// What the thread of a query sends, in this order.
pub enum Answer {
    /// The names in the SQL. It waits for the views then.
    Mentioned(Mentioned),
    /// What the rows will be like. It waits for whether they are wanted.
    Columns(Vec<ResultColumn>),
    Rows(RecordBatch),
    /// There are no more rows, or why not.
    Done(Result<()>),
}

/// A query that DuckDB runs. Dropping it ends the query.
pub struct Running {
    feed: Feed,
    interrupt: Arc<InterruptHandle>,
    /// The SQL of the views; dropping it ends the thread that waits for it.
    go: Option<SyncSender<String>>,
    /// After the columns are known, what ends or starts the rest.
    columns: Vec<ResultColumn>,
    _sources: Vec<Registered>,
    _engine: Rc<Engine>,
    /// Everything is read from one snapshot.
    _pin: ReadPin,
}

impl Running {
    /// Starts a query, up to knowing what its columns are.
    pub fn start(
        connection: &Rc<Connection>,
        engine: Rc<Engine>,
        request: &Request,
    ) -> Result<Self> {
        let pin = ReadPin::new(connection)?;
        let encoding = sql::encoding(connection)?;
        let (events, receiver) = sync_channel(WAITING_EVENTS);
        let (go, wait) = sync_channel(1);
        let duckdb = engine.connect()?;
        let interrupt = duckdb.interrupt_handle();
        let thread = Thread {
            connection: duckdb,
            request: request.clone(),
            events: events.clone(),
        };
        engine.spawn(move || thread.run(&wait))?;
        let mut running = Self {
            feed: Feed::new(connection, encoding, receiver)?,
            interrupt,
            go: Some(go),
            columns: Vec::new(),
            _sources: Vec::new(),
            _engine: Rc::clone(&engine),
            _pin: pin,
        };
        let mentioned = match running.wait()? {
            Answer::Mentioned(mentioned) => mentioned,
            other => return Err(other.unexpected()),
        };
        let mut views = Views::default();
        for subject in subject::find(connection, &mentioned.tables)? {
            let typed = request.options.typed_times;
            let survey = survey(connection, &subject, &mentioned, encoding, typed)?;
            views.add(&subject, &survey, &engine.sources, &events)?;
        }
        running.feed.relations = views.relations;
        running._sources = views.sources;
        running.go(views.sql);
        match running.wait()? {
            Answer::Columns(columns) => running.columns = columns,
            other => return Err(other.unexpected()),
        }
        Ok(running)
    }

    pub fn columns(&self) -> &[ResultColumn] {
        &self.columns
    }

    /// Lets DuckDB run the query.
    pub fn run(&mut self) {
        self.go(String::new());
    }

    /// The next rows; `None` at the end.
    pub fn next(&mut self) -> Result<Option<RecordBatch>> {
        match self.wait()? {
            Answer::Rows(batch) => Ok(Some(batch)),
            Answer::Done(Ok(())) => Ok(None),
            other => Err(other.unexpected()),
        }
    }

    fn go(&mut self, sql: String) {
        // If the thread has ended, it has said why, which is read next.
        let _ = self.go.as_ref().map(|go| go.send(sql));
    }

    fn wait(&mut self) -> Result<Answer> {
        match self.feed.wait()? {
            Answer::Done(Err(error)) => Err(self.feed.take_failure().unwrap_or(error)),
            answer => Ok(answer),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The thread ends by itself: it is interrupted, or finds that nobody listens.
        self.go = None;
        self.interrupt.interrupt();
    }
}

impl Answer {
    fn unexpected(self) -> Error {
        match self {
            Self::Done(Err(error)) => error,
            _ => Error::Internal("DuckDB's thread is out of step".to_owned()),
        }
    }
}

/// The thread of a query, which calls DuckDB.
struct Thread {
    connection: duckdb::Connection,
    request: Request,
    events: SyncSender<Event>,
}

/// The other thread has given up the query.
struct Gone;

impl Thread {
    fn run(self, go: &Receiver<String>) {
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

    fn steps(&self, go: &Receiver<String>) -> Result<(), Stop> {
        self.answer(Answer::Mentioned(Mentioned::parse(
            &self.connection,
            &self.request.sql,
        )?))?;
        let views = go.recv().map_err(|_| Gone)?;
        self.connection
            .execute_batch(&views)
            .map_err(duckdb_error)?;
        let columns = self.describe()?;
        let query = ResultColumn::query(&columns, &self.request.sql);
        self.answer(Answer::Columns(columns))?;
        go.recv().map_err(|_| Gone)?;
        let mut statement = self.connection.prepare(&query).map_err(duckdb_error)?;
        let parameters = duckdb::params_from_iter(&self.request.parameters);
        for batch in statement.stream_arrow(parameters).map_err(duckdb_error)? {
            self.answer(Answer::Rows(batch.map_err(duckdb_error)?))?;
        }
        Ok(())
    }

    /// What the columns of the query are, for which DuckDB does not run it.
    fn describe(&self) -> Result<Vec<ResultColumn>> {
        let Request {
            sql, parameters, ..
        } = &self.request;
        let empty = format!("SELECT * FROM ({sql}\n) LIMIT 0");
        let mut statement = self.connection.prepare(&empty).map_err(duckdb_error)?;
        let (needed, given) = (statement.parameter_count(), parameters.len());
        if needed != given {
            return Err(Error::refused(format!(
                "the query has {needed} parameters, and {given} were given: \
                 archive_query('SELECT ?', '[1]')"
            )));
        }
        let parameters = duckdb::params_from_iter(parameters);
        drop(statement.stream_arrow(parameters).map_err(duckdb_error)?);
        let columns = 0..statement.column_count();
        columns
            .map(|column| {
                let name = statement.column_name(column).map_err(duckdb_error)?;
                let logical_type = statement.column_logical_type(column);
                Ok(ResultColumn::new(name, &logical_type))
            })
            .collect()
    }
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
