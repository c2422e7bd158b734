//! The cursor of `cold_t`: reads the catalog when it is started, then goes through the row groups that
//! are left.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::ahead::{Part, Step, Steps};
use super::group::{Context, Group, ScanFile};
use super::merge::OrderedFile;
use super::plan::{Offset, Operator, Plan};
use super::stats::{ScanLog, ScanStats};
use crate::catalog::files::FileEntry;
use crate::error::{Error, Result};
use crate::format::decode::Scratch;
use crate::format::predicate::{Predicate, Rules};
use crate::format::range::Range;
use crate::settings;
use crate::snapshot::cache::Cache;
use crate::snapshot::order;
use crate::snapshot::retyped::Converter;
use crate::snapshot::state::{States, TableState};
use crate::sqlite::pin::ReadPin;
use crate::sqlite::value::{Arguments, Output};
use crate::sqlite::vtab::Cursor;
use crate::time::canonical::MAX_LENGTH;
use crate::value::Value;
use once_cell::sync::OnceCell;
use rusqlite::Connection;

/// A scan over the cold rows of a table.
pub struct Scan {
    states: Rc<States>,
    /// The catalog's state, and the number of changes that the connection had made when it was read.
    /// Other connections' changes stay out as long as the snapshot is held.
    state: Option<(u64, Rc<TableState>)>,
    stats: Rc<RefCell<ScanStats>>,
    steps: Option<Steps>,
    current: Option<Part>,
    /// Of a row group's selected rows.
    position: usize,
    rows_returned: usize,
    scratch: Scratch,
    /// All of a scan reads one state of the catalog.
    _snapshot: ReadPin,
}

impl Scan {
    pub fn open(states: Rc<States>, log: &ScanLog) -> Result<Self> {
        Ok(Self {
            _snapshot: ReadPin::new(&states.connection)?,
            stats: log.begin(&states.shape.name),
            states,
            state: None,
            steps: None,
            current: None,
            position: 0,
            rows_returned: 0,
            scratch: [0; MAX_LENGTH],
        })
    }

    /// The catalog's state in the snapshot of the query.
    fn state(&mut self) -> Result<Option<Rc<TableState>>> {
        let changes = self.states.connection.total_changes();
        if let Some((read_at, state)) = &self.state
            && *read_at == changes
        {
            return Ok(Some(Rc::clone(state)));
        }
        let state = self.states.read()?;
        self.state = state.clone().map(|state| (changes, state));
        Ok(state)
    }

    /// The predicates of a plan, each with its column.
    fn predicates(
        &self,
        plan: &Plan,
        arguments: &Arguments<'_>,
    ) -> Result<Vec<(usize, Predicate)>> {
        let mut predicates = Vec::new();
        for (position, term) in plan.terms.iter().enumerate() {
            let Some(column) = self.states.shape.columns.get(term.column) else {
                continue;
            };
            let rules = Rules {
                affinity: column.affinity,
                binary_collation: term.binary_collation,
                encoding: self.states.shape.encoding,
            };
            let predicate = match term.operator {
                Operator::Compare(comparison) => {
                    Predicate::new(comparison, arguments.value(position)?, rules)
                }
                Operator::Begins => Predicate::begins(arguments.value(position)?, rules.encoding),
                Operator::In => {
                    let list = arguments.list(position)?;
                    Predicate::any_of(list.iter().map(Value::from), rules)
                }
            };
            predicates.extend(predicate.map(|predicate| (term.column, predicate)));
        }
        Ok(predicates)
    }

    /// What is to be read, in which order.
    fn steps(
        &self,
        plan: &Plan,
        state: &Rc<TableState>,
        context: &Arc<Context>,
    ) -> Result<Box<dyn Iterator<Item = Result<Step>>>> {
        let connection = &self.states.connection;
        let files = state.files(connection, &context.predicates)?;
        let scan_file = {
            let connection = Rc::clone(connection);
            let (state, context) = (Rc::clone(state), Arc::clone(context));
            move |entry: &Arc<FileEntry>| scan_file(&connection, &state, &context, entry)
        };
        let Some(order) = plan.order.clone() else {
            let steps = files
                .into_iter()
                .flat_map(move |entry| steps(scan_file(&entry), false));
            return Ok(Box::new(steps));
        };
        let with_ranges = |entry: Arc<FileEntry>| {
            let columns = order.columns.iter();
            let ranges = columns.map(|column| state.range(connection, *column, &entry));
            let ranges = ranges.collect::<Result<Vec<_>>>()?;
            Ok((entry, ranges))
        };
        let files = files
            .into_iter()
            .map(with_ranges)
            .collect::<Result<Vec<_>>>()?;
        let unknown = Arc::new(Range::unknown());
        let first =
            |(_, ranges): &(_, Vec<Arc<Range>>)| Arc::clone(ranges.first().unwrap_or(&unknown));
        let runs = order::runs(files, first, &order);
        let step = move |run: Vec<(Arc<FileEntry>, Vec<Arc<Range>>)>| -> Vec<Result<Step>> {
            let file = |(entry, ranges): (Arc<FileEntry>, Vec<Arc<Range>>)| {
                let file = scan_file(&entry)?;
                Ok(OrderedFile { file, ranges })
            };
            let files: Result<Vec<_>> = run.into_iter().map(file).collect();
            match files {
                Ok(files) => match &files[..] {
                    [only] if only.is_sorted() => {
                        steps(Ok(Arc::clone(&only.file)), order.descending)
                    }
                    _ => vec![Ok(Step::Merge(order.clone(), files))],
                },
                Err(error) => vec![Err(error)],
            }
        };
        Ok(Box::new(runs.into_iter().flat_map(step)))
    }

    /// Passes over rows, as an OFFSET asks.
    fn skip(&mut self, rows: usize) -> Result<()> {
        let mut left = match &mut self.steps {
            Some(steps) if rows > 0 => steps.skip_files(rows)?,
            _ => 0,
        };
        self.settle()?;
        while left > 0 && !self.eof() {
            match &self.current {
                Some(Part::Group(group)) => {
                    let here = (group.selection.len() - self.position).min(left);
                    self.position += here;
                    left -= here;
                    self.settle()?;
                }
                _ => {
                    self.step()?;
                    left -= 1;
                }
            }
        }
        Ok(())
    }

    /// Moves to the next row.
    fn step(&mut self) -> Result<()> {
        match &mut self.current {
            Some(Part::Group(group)) => {
                self.position += 1;
                if self.position < group.selection.len() {
                    return Ok(());
                }
            }
            Some(Part::Merge(merge)) => merge.advance()?,
            None => {}
        }
        self.settle()
    }

    /// Goes on to the next part, if the present one has no more rows.
    fn settle(&mut self) -> Result<()> {
        loop {
            match &self.current {
                Some(Part::Group(group)) if self.position < group.selection.len() => return Ok(()),
                Some(Part::Merge(merge)) if merge.has_row() => return Ok(()),
                _ => {}
            }
            self.position = 0;
            self.current = match &mut self.steps {
                Some(steps) => steps.next(self.rows_returned)?,
                None => None,
            };
            if self.current.is_none() {
                self.end();
                return Ok(());
            }
        }
    }

    /// Lets go of files and threads, and notes what was done.
    fn end(&mut self) {
        self.current = None;
        if self.steps.take().is_some() {
            let mut stats = self.stats.borrow_mut();
            stats.rows_returned += std::mem::take(&mut self.rows_returned) as u64;
            stats.elapsed = Some(stats.began.elapsed());
        }
    }
}

impl Cursor for Scan {
    fn filter(&mut self, plan: &str, arguments: &Arguments<'_>) -> Result<()> {
        self.end();
        let text = plan;
        let plan = Plan::decode(text, &self.states.shape.names)?;
        let Some(state) = self.state()? else {
            return Ok(());
        };
        let counters = {
            let mut stats = self.stats.borrow_mut();
            if stats.loops == 0 {
                stats.plan = text.to_owned();
                stats.began = Instant::now();
            }
            stats.loops += 1;
            stats.files += state.totals.files;
            stats.row_groups += state.totals.row_groups;
            Arc::clone(&stats.counters)
        };
        let context = Arc::new(Context {
            folder: state.folder(&self.states.connection)?,
            cache: Cache::of(&state.config)?,
            max_workers: settings::MAX_WORKERS.count(&state.config)?,
            counters,
            predicates: self.predicates(&plan, arguments)?,
            wanted: self
                .states
                .shape
                .columns
                .iter()
                .map(|_| AtomicBool::new(false))
                .collect(),
            defaults: (0..self.states.shape.columns.len())
                .map(|column| {
                    let shown = self.states.shape.shown(column);
                    shown.cloned().map_err(|error| error.to_string())
                })
                .collect(),
            converter: Converter::default(),
            row_column: self.states.shape.row_column(),
        });
        let number = |has: bool, position: usize| match has.then(|| arguments.value(position)) {
            Some(Ok(Value::Integer(number))) => usize::try_from(number).ok(),
            _ => None,
        };
        let limit = number(plan.limit, plan.terms.len());
        let offset = number(plan.offset.is_some(), plan.terms.len() + 1).unwrap_or(0);
        let (limit, skip) = match plan.offset {
            Some(Offset::Scan) => (limit, offset),
            _ => (limit.map(|limit| limit.saturating_add(offset)), 0),
        };
        let steps = self.steps(&plan, &state, &context)?;
        self.steps = Some(Steps::new(context, steps, limit));
        self.skip(skip)?;
        self.rows_returned += usize::from(!self.eof());
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        self.step()?;
        self.rows_returned += usize::from(!self.eof());
        Ok(())
    }

    fn eof(&self) -> bool {
        self.current.is_none()
    }

    fn column(&mut self, column: usize, output: &mut Output) -> Result<()> {
        let (group, row) = row(&mut self.current, self.position)?;
        output.set(group.value(column, row, &mut self.scratch)?);
        Ok(())
    }

    fn rowid(&mut self) -> Result<i64> {
        let (group, row) = row(&mut self.current, self.position)?;
        Ok(group.rowid(row))
    }
}

/// A file of a scan.
fn scan_file(
    connection: &Connection,
    state: &TableState,
    context: &Context,
    entry: &Arc<FileEntry>,
) -> Result<Arc<ScanFile>> {
    let schema = state
        .schemas
        .get(&entry.schema)
        .ok_or_else(|| Error::refused("the archive catalog is damaged: a file has no columns"))?;
    Ok(Arc::new(ScanFile {
        entry: Arc::clone(entry),
        columns: Arc::clone(&schema.columns),
        positions: Arc::clone(&schema.positions),
        kinds: state.kinds(&context.predicates, entry.id),
        conversions: state.conversions(connection, entry)?,
        dead: state.dead_rows(connection, entry)?,
        counters: Arc::clone(&context.counters),
        opened: OnceCell::new(),
    }))
}

/// The steps through the row groups of a file.
fn steps(file: Result<Arc<ScanFile>>, descending: bool) -> Vec<Result<Step>> {
    let file = match file {
        Ok(file) => file,
        Err(error) => return vec![Err(error)],
    };
    let count = file.entry.record.row_groups;
    let step = |number: usize| {
        Ok(Step::Group {
            file: Arc::clone(&file),
            number: if descending {
                count - 1 - number
            } else {
                number
            },
            descending,
        })
    };
    (0..count).map(step).collect()
}

/// The row group and the row in it that is current.
#[inline]
fn row(current: &mut Option<Part>, position: usize) -> Result<(&mut Group, usize)> {
    let row = match current {
        Some(Part::Group(group)) => group.row_at(position).map(|row| (group, row)),
        Some(Part::Merge(merge)) => merge.row(),
        None => None,
    };
    row.ok_or_else(|| Error::Internal("the scan has no current row".into()))
}

impl Drop for Scan {
    fn drop(&mut self) {
        self.end();
    }
}
