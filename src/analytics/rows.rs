//! `archive_rows(number)`: the table function through which DuckDB gets rows that are not in files. What
//! SQLite has is read by the thread of its connection, which sends it batch by batch; see
//! [`feed`](super::feed).

use std::error::Error as StdError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema};
use duckdb::Connection;
use duckdb::core::{DataChunkHandle, LogicalTypeHandle, LogicalTypeId};
use duckdb::vtab::{
    BindInfo, InitInfo, TableFunctionInfo, VTab, record_batch_to_duckdb_data_chunk,
};

use super::feed::{Batch, Event};
use super::sources::{Origin, Source, Sources};
use super::types::{ColumnType, Time};
use crate::format::types::MixedField;

/// The name of the table function.
pub const FUNCTION: &str = "archive_rows";

/// The first column, which is always NULL: what DuckDB asks for where it only has to know how many rows
/// there are. Any other could have values that nobody has looked at.
const NOTHING: &str = "nothing";

/// The most rows that DuckDB takes at once.
const CHUNK_ROWS: usize = 2048;
/// How many batches may wait for DuckDB: one, while it works on another.
const WAITING_BATCHES: usize = 1;

/// A scan's number, which no other scan of the process has.
static NEXT_SCAN: AtomicU64 = AtomicU64::new(0);

/// Makes the function known to an instance.
pub fn register(connection: &Connection, sources: &Sources) -> duckdb::Result<()> {
    connection.register_table_function_with_extra_info::<Rows, Sources>(FUNCTION, sources)
}

type Outcome<T> = Result<T, Box<dyn StdError>>;

struct Rows;

/// What one scan wants, and how far it is.
struct Wanted {
    /// By their numbers in the source; `None` is [`NOTHING`].
    columns: Vec<Option<usize>>,
    scan: Mutex<Scan>,
}

#[derive(Default)]
struct Scan {
    started: bool,
    batches: Option<(u64, Receiver<Batch>)>,
    current: Option<RecordBatch>,
    /// How many rows of the current batch DuckDB has.
    taken: usize,
}

impl VTab for Rows {
    type InitData = Wanted;
    type BindData = Arc<Source>;

    fn parameters() -> Option<Vec<LogicalTypeHandle>> {
        Some(vec![LogicalTypeId::UBigint.into()])
    }

    fn supports_pushdown() -> bool {
        true
    }

    fn bind(bind: &BindInfo) -> Outcome<Self::BindData> {
        let number: u64 = bind.get_parameter(0).to_string().parse()?;
        let source = super::callback::sources(bind)
            .get(number)
            .ok_or("archive_rows is called by the views of archive_query only")?;
        bind.add_result_column(NOTHING, LogicalTypeId::Bigint.into());
        for (index, column) in source.types.iter().enumerate() {
            bind.add_result_column(&column_name(index), logical_type(column));
        }
        if let Some(rows) = source.rows {
            bind.set_cardinality(rows, true);
        }
        Ok(source)
    }

    fn init(init: &InitInfo) -> Outcome<Wanted> {
        let column = |number: u64| usize::try_from(number).ok()?.checked_sub(1);
        Ok(Wanted {
            columns: init.get_column_indices().into_iter().map(column).collect(),
            scan: Mutex::default(),
        })
    }

    fn func(function: &TableFunctionInfo<Self>, output: &mut DataChunkHandle) -> Outcome<()> {
        let wanted = function.get_init_data();
        let mut scan = wanted.scan.lock().unwrap_or_else(PoisonError::into_inner);
        if !scan.started {
            let columns: Vec<usize> = wanted.columns.iter().flatten().copied().collect();
            scan.start(function.get_bind_data(), &columns)?;
        }
        match scan.next(function.get_bind_data())? {
            Some(rows) => {
                let rows = with_nothing(&rows, &wanted.columns)?;
                record_batch_to_duckdb_data_chunk(&rows, output)
            }
            None => {
                output.set_len(0);
                Ok(())
            }
        }
    }
}

/// Puts [`NOTHING`] where it is wanted.
fn with_nothing(rows: &RecordBatch, wanted: &[Option<usize>]) -> Outcome<RecordBatch> {
    let count = rows.num_rows();
    let mut columns = rows.columns().iter();
    let arrays = wanted.iter().map(|column| match column {
        Some(_) => columns.next().map(Arc::clone),
        None => Some(Arc::new(Int64Array::new_null(count)) as ArrayRef),
    });
    let arrays: Vec<ArrayRef> = arrays.collect::<Option<_>>().ok_or("a column is missing")?;
    let field = |array: &ArrayRef| Field::new("", array.data_type().clone(), true);
    let schema = Schema::new(arrays.iter().map(field).collect::<Vec<_>>());
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    Ok(RecordBatch::try_new_with_options(
        Arc::new(schema),
        arrays,
        &options,
    )?)
}

/// The name of a column as the function gives it out.
pub fn column_name(index: usize) -> String {
    format!("c{index}")
}

impl Scan {
    fn start(&mut self, source: &Source, columns: &[usize]) -> Outcome<()> {
        self.started = true;
        match &source.origin {
            Origin::Batch(batch) => self.current = Some(batch.project(columns)?),
            Origin::SQLite {
                relation,
                events,
                kept,
            } => {
                if let Some(rows) = kept.as_ref().and_then(|kept| kept.project(columns)) {
                    self.current = Some(rows);
                    return Ok(());
                }
                let scan = NEXT_SCAN.fetch_add(1, Ordering::Relaxed);
                let (batches, receiver) = sync_channel(WAITING_BATCHES);
                let (relation, columns) = (*relation, columns.to_vec());
                events.send(Event::Open {
                    scan,
                    relation,
                    columns,
                    batches,
                })?;
                self.batches = Some((scan, receiver));
            }
        }
        Ok(())
    }

    /// The next rows, as many as DuckDB takes at once.
    fn next(&mut self, source: &Source) -> Outcome<Option<RecordBatch>> {
        loop {
            if let Some(batch) = &self.current {
                let rows = (batch.num_rows() - self.taken).min(CHUNK_ROWS);
                if rows > 0 {
                    let slice = batch.slice(self.taken, rows);
                    self.taken += rows;
                    return Ok(Some(slice));
                }
            }
            self.current = None;
            let (Some((scan, batches)), Origin::SQLite { events, .. }) =
                (&self.batches, &source.origin)
            else {
                return Ok(None);
            };
            match batches.recv().map_err(|_| "the query was ended")? {
                Ok(Some(batch)) => {
                    // It is read while this batch is worked on.
                    events.send(Event::More { scan: *scan })?;
                    (self.current, self.taken) = (Some(batch), 0);
                }
                Ok(None) => self.batches = None,
                Err(message) => return Err(message.into()),
            }
        }
    }
}

fn logical_type(column: &ColumnType) -> LogicalTypeHandle {
    match column {
        ColumnType::Integer => LogicalTypeId::Bigint.into(),
        ColumnType::Real => LogicalTypeId::Double.into(),
        ColumnType::Text => LogicalTypeId::Varchar.into(),
        ColumnType::Blob => LogicalTypeId::Blob.into(),
        ColumnType::Time(Time::Date) => LogicalTypeId::Date.into(),
        ColumnType::Time(Time::Timestamp) => LogicalTypeId::Timestamp.into(),
        ColumnType::Time(Time::TimestampNs) => LogicalTypeId::TimestampNs.into(),
        ColumnType::Mixed(fields) => {
            let field = |field: &MixedField| (field.name(), logical_type(&ColumnType::of(*field)));
            LogicalTypeHandle::struct_type(&fields.iter().map(field).collect::<Vec<_>>())
        }
    }
}
