//! Rows from SQLite to DuckDB. DuckDB works in threads of its own, but a connection of SQLite is used by
//! one thread at a time: the one that waits for the result. It serves DuckDB meanwhile.
//!
//! ```text
//! thread of the connection              DuckDB's threads
//!   filter, next                          the query; scans of archive_rows
//!     wait for an event        <------    Open, More, Rows, Done
//!     read a batch of hot rows ------>    rows of a scan
//! ```

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use arrow::array::RecordBatch;
use rusqlite::Connection;

use super::batch::BatchBuilder;
use super::result::ResultColumn;
use super::syntax::Mentioned;
use super::types::ColumnType;
use crate::error::{Error, Result};
use crate::moving::read::HotReader;
use crate::sql::quote;
use crate::sqlite::statement::Reader;
use crate::value::Encoding;

/// How often a waiting thread looks whether the application has interrupted it.
const INTERRUPT_CHECK: Duration = Duration::from_millis(10);

/// Rows for a scan; `None` at their end; or why there are no more.
pub type Batch = Result<Option<RecordBatch>, String>;

/// What DuckDB's threads send to the thread of the connection.
pub enum Event {
    /// A scan begins: it wants these columns of a relation, and room for a first batch.
    Open {
        scan: u64,
        relation: usize,
        columns: Vec<usize>,
        batches: SyncSender<Batch>,
    },
    /// A scan has room for another batch.
    More { scan: u64 },
    /// What comes of the query itself.
    Answer(Answer),
}

/// A table or view of SQLite that DuckDB may scan.
pub struct Relation {
    /// What stands after FROM.
    pub from: String,
    /// The columns by name.
    pub columns: Vec<(String, ColumnType)>,
}

/// The thread of the connection, as DuckDB's threads see it.
pub struct Feed {
    connection: Rc<Connection>,
    encoding: Encoding,
    pub relations: Vec<Relation>,
    scans: HashMap<u64, Scan>,
    events: Receiver<Event>,
    /// Fails when the application interrupts what the connection does.
    probe: Reader,
    /// Why rows could not be read. DuckDB fails for it, too, in words of its own.
    failure: Option<Error>,
}

/// A scan of DuckDB on its way.
struct Scan {
    statement: Reader,
    reader: HotReader,
    relation: usize,
    columns: Vec<usize>,
    batch: BatchBuilder,
    batches: SyncSender<Batch>,
    /// SQLite would begin anew after the last row.
    ended: bool,
}

impl Feed {
    pub fn new(
        connection: &Rc<Connection>,
        encoding: Encoding,
        events: Receiver<Event>,
    ) -> Result<Self> {
        Ok(Self {
            connection: Rc::clone(connection),
            encoding,
            relations: Vec::new(),
            scans: HashMap::new(),
            events,
            probe: Reader::new(connection, "SELECT 1")?,
            failure: None,
        })
    }

    /// Waits for the next answer, and serves scans meanwhile.
    pub fn wait(&mut self) -> Result<Answer> {
        loop {
            match self.events.recv_timeout(INTERRUPT_CHECK) {
                Ok(Event::Answer(answer)) => return Ok(answer),
                Ok(Event::Open {
                    scan,
                    relation,
                    columns,
                    batches,
                }) => {
                    self.open(scan, relation, columns, batches);
                }
                Ok(Event::More { scan }) => self.serve(scan),
                Err(RecvTimeoutError::Timeout) => {
                    self.probe.step()?;
                    self.probe.reset();
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Internal("DuckDB's thread has ended".to_owned()));
                }
            }
        }
    }

    /// The failure of ours that made the query fail, if there is one.
    pub fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    fn open(
        &mut self,
        number: u64,
        relation: usize,
        columns: Vec<usize>,
        batches: SyncSender<Batch>,
    ) {
        match self.start(relation, columns, batches.clone()) {
            Ok(scan) => {
                self.scans.insert(number, scan);
                self.serve(number);
            }
            Err(error) => self.fail(&batches, error),
        }
    }

    fn start(
        &self,
        relation: usize,
        columns: Vec<usize>,
        batches: SyncSender<Batch>,
    ) -> Result<Scan> {
        let known = self.relation(relation)?;
        let chosen = || {
            columns
                .iter()
                .filter_map(|column| known.columns.get(*column))
        };
        let names = chosen().map(|(name, _)| name.as_str());
        let reader = HotReader::of_columns(names, self.encoding);
        Ok(Scan {
            statement: Reader::new(&self.connection, &select(&reader, &known.from))?,
            batch: BatchBuilder::new(chosen().map(|(_, column_type)| column_type)),
            reader,
            relation,
            columns,
            batches,
            ended: false,
        })
    }

    fn relation(&self, relation: usize) -> Result<&Relation> {
        let relation = self.relations.get(relation);
        relation.ok_or_else(|| Error::Internal("DuckDB asks for an unknown table".to_owned()))
    }

    /// Reads the next batch of a scan and sends it.
    fn serve(&mut self, number: u64) {
        let Some(mut scan) = self.scans.remove(&number) else {
            return;
        };
        match self
            .relation(scan.relation)
            .and_then(|relation| scan.read(relation))
        {
            Ok(batch) => {
                let ended = batch.is_none();
                // A scan that has been given up takes nothing; there is always room, as it has asked.
                if scan.batches.send(Ok(batch)).is_ok() && !ended {
                    self.scans.insert(number, scan);
                }
            }
            Err(error) => self.fail(&scan.batches, error),
        }
    }

    fn fail(&mut self, batches: &SyncSender<Batch>, error: Error) {
        // If the scan has been given up, the failure is of no consequence.
        if batches.send(Err(error.to_string())).is_ok() {
            self.failure.get_or_insert(error);
        }
    }
}

/// The statement that reads columns of a relation.
pub fn select(reader: &HotReader, from: &str) -> String {
    match reader.columns() {
        0 => format!("SELECT NULL FROM {from} AS t"),
        _ => format!("SELECT {} FROM {from} AS t", reader.select_list()),
    }
}

impl Scan {
    fn read(&mut self, relation: &Relation) -> Result<Option<RecordBatch>> {
        while !self.ended {
            if !self.statement.step()? {
                self.ended = true;
                break;
            }
            for column in 0..self.reader.columns() {
                let (statement, batch) = (&self.statement, &mut self.batch);
                let get = |n| Ok(statement.value(n));
                if !self
                    .reader
                    .read(get, column, |value| batch.push(column, value))?
                {
                    return Err(self.unexpected(relation, column));
                }
            }
            if self.batch.end_row() {
                return self.batch.take().map(Some);
            }
        }
        match self.batch.is_empty() {
            true => Ok(None),
            false => self.batch.take().map(Some),
        }
    }

    /// The values of columns that a query seems not to need were not looked at when types were chosen.
    fn unexpected(&self, relation: &Relation, column: usize) -> Error {
        let number = self.columns.get(column).copied().unwrap_or_default();
        let known = relation.columns.get(number);
        let (name, column_type) = known.map_or(("", String::new()), |(name, column_type)| {
            (name.as_str(), column_type.name())
        });
        Error::refused(format!(
            "column {} of {} has a value that is not {column_type}; name the column in the query",
            quote(name),
            relation.from
        ))
    }
}

/// What the thread of a query sends, in this order.
pub enum Answer {
    /// The names in the SQL. It waits for what they mean then.
    Mentioned(Arc<Mentioned>),
    /// What the rows are like.
    Columns(Vec<ResultColumn>),
    Rows(RecordBatch),
    /// There are no more rows, or why not.
    Done(Result<()>),
}

impl Answer {
    pub fn unexpected(self) -> Error {
        match self {
            Self::Done(Err(error)) => error,
            _ => Error::Internal("DuckDB's thread is out of step".to_owned()),
        }
    }
}
