//! The cursor of `cold_t`: reads the catalog when it is started, then goes through the row groups that
//! are left.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;
use rusqlite::Connection;

use super::ahead::{Part, Step, Steps};
use super::cache::Cache;
use super::decode::Scratch;
use super::group::{Context, Group, ScanFile};
use super::merge::{self, OrderedFile};
use super::plan::{Operator, Plan};
use super::predicate::{Predicate, Rules};
use super::state::{States, TableState};
use super::stats::{ScanLog, ScanStats};
use crate::catalog::files::FileEntry;
use crate::error::{Error, Result};
use crate::settings;
use crate::sqlite::pin::ReadPin;
use crate::sqlite::value::{Arguments, Output};
use crate::sqlite::vtab::Cursor;
use crate::time::canonical::MAX_LENGTH;
use crate::value::Value;

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
                Operator::In => {
                    let list = arguments.list(position)?;
                    Predicate::any_of(list.iter().map(Value::from), rules)
                }
            };
            predicates.extend(predicate.map(|predicate| (term.column, predicate)));
        }
        Ok(predicates)
    }

    /// A file of the scan.
    fn scan_file(
        &self,
        entry: Arc<FileEntry>,
        state: &TableState,
        context: &Context,
    ) -> Result<Arc<ScanFile>> {
        let schema = state.schemas.get(&entry.schema).ok_or_else(|| {
            Error::refused("the archive catalog is damaged: a file has no columns")
        })?;
        let kinds = context
            .predicates
            .iter()
            .map(|(column, _)| Ok(state.range(&self.states.connection, *column, &entry)?.kinds));
        Ok(Arc::new(ScanFile {
            kinds: kinds.collect::<Result<_>>()?,
            columns: Arc::clone(&schema.columns),
            positions: Arc::clone(&schema.positions),
            tombstones: state.tombstones(&self.states.connection, entry.id)?,
            counters: Arc::clone(&context.counters),
            opened: OnceCell::new(),
            entry,
        }))
    }

    /// What is to be read, in which order.
    fn steps(&self, plan: &Plan, state: &TableState, context: &Arc<Context>) -> Result<Vec<Step>> {
        let entries = state.files(&self.states.connection, &context.predicates)?;
        if let Some(order) = &plan.order {
            let ordered = entries.into_iter().map(|entry| {
                let columns = order.columns.iter();
                let ranges =
                    columns.map(|column| state.range(&self.states.connection, *column, &entry));
                Ok(OrderedFile {
                    ranges: ranges.collect::<Result<_>>()?,
                    file: self.scan_file(entry, state, context)?,
                })
            });
            return Ok(merge::steps(ordered.collect::<Result<_>>()?, order));
        }
        let mut steps = Vec::new();
        for entry in entries {
            let file = self.scan_file(entry, state, context)?;
            let group = |number: usize| Step::Group {
                file: Arc::clone(&file),
                number,
                descending: false,
            };
            steps.extend((0..file.entry.record.row_groups).map(group));
        }
        Ok(steps)
    }

    /// Passes over rows, as an OFFSET asks.
    fn skip(&mut self, rows: usize) -> Result<()> {
        let mut left = match &mut self.steps {
            Some(steps) => steps.skip_files(rows),
            None => 0,
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
            archive: settings::archive(&self.states.connection)?,
            cache: cache(&self.states.connection)?,
            max_workers: settings::MAX_WORKERS.count(&self.states.connection)?,
            counters,
            predicates: self.predicates(&plan, arguments)?,
            wanted: self
                .states
                .shape
                .columns
                .iter()
                .map(|_| AtomicBool::new(false))
                .collect(),
            defaults: self
                .states
                .shape
                .columns
                .iter()
                .map(|column| column.default.clone())
                .collect(),
        });
        let number = |has: bool, position: usize| match has.then(|| arguments.value(position)) {
            Some(Ok(Value::Integer(number))) => usize::try_from(number).ok(),
            _ => None,
        };
        let limit = number(plan.limit, plan.terms.len());
        let offset = number(plan.offset, plan.terms.len() + usize::from(plan.limit));
        let steps = self.steps(&plan, &state, &context)?;
        self.steps = Some(Steps::new(context, steps, limit));
        self.skip(offset.unwrap_or(0))?;
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

/// The cache, as the settings say.
fn cache(connection: &Connection) -> Result<Cache> {
    let limit = match settings::QUERY_CACHE_ENABLED.is_on(connection)? {
        true => settings::CACHE_BYTES.count(connection)?,
        false => 0,
    };
    let lifetime = settings::QUERY_CACHE_TTL.count(connection)?;
    Ok(Cache::new(limit, Duration::from_secs(lifetime as u64)))
}

/// The row group and the row in it that is current.
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
