//! The row groups of a scan one after the other; on longer scans worker threads prepare the next ones
//! while SQLite goes through the present one.
//!
//! Threads never touch SQLite, and end with the scan: when its last row group is prepared, or when it
//! is dropped, whichever is first.

use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::group::{Context, Group, ScanFile};
use super::merge::{Merge, OrderedFile};
use crate::error::{Error, Result};
use crate::snapshot::order::Order;
use crate::sqlite::fork::{self, PerProcess};
use crate::sqlite::panic::guard;

/// Bytes of decoded pages that may wait for a scan; one row group more per worker can be on its way.
const WAITING_BYTES: usize = 8 << 20;
/// Row groups that may wait for a scan.
const WAITING_GROUPS: usize = 8;
/// After so many row groups a scan is taken for a long one.
const ALONE: usize = 2;

/// A scan that will stop before so many rows is not worth a thread.
const MANY_ROWS: usize = 10_000;

static THREADS: PerProcess<Threads> = PerProcess::empty();

/// The threads that decode ahead in this process.
#[derive(Default)]
struct Threads {
    running: usize,
    /// The cores beside the one that SQLite keeps busy, once they were counted.
    spare_cores: Option<NonZero<usize>>,
}

impl Threads {
    /// How many there may be, but at least one: SQLite waits for the disk at times.
    fn most(&mut self) -> usize {
        let count = || {
            let cores = thread::available_parallelism().map_or(2, NonZero::get);
            NonZero::new(cores - 1).unwrap_or(NonZero::<usize>::MIN)
        };
        self.spare_cores.get_or_insert_with(count).get()
    }
}

/// What a scan reads next.
pub enum Step {
    Group {
        file: Arc<ScanFile>,
        number: usize,
        descending: bool,
    },
    /// Files whose rows have to be merged.
    Merge(Order, Vec<OrderedFile>),
}

/// A part of a scan's rows, ready to be read.
pub enum Part {
    Group(Group),
    Merge(Merge),
}

impl Step {
    fn prepare(self, context: &Arc<Context>) -> Result<Part> {
        match self {
            Self::Group {
                file,
                number,
                descending,
            } => Group::prepare(context, &file, number, descending).map(Part::Group),
            Self::Merge(order, files) => {
                Merge::new(Arc::clone(context), order, files).map(Part::Merge)
            }
        }
    }
}

/// The steps of a scan.
pub struct Steps {
    context: Arc<Context>,
    /// Those that are not in the queue yet.
    source: Box<dyn Iterator<Item = Result<Step>>>,
    shared: Arc<Shared>,
    taken: usize,
    /// Rows that the scan will probably stop after.
    limit: Option<usize>,
    workers: Vec<JoinHandle<()>>,
    /// The process that the workers are in.
    generation: u32,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    slots: VecDeque<Slot>,
    /// How many slots were taken from the front.
    taken: usize,
    waiting_bytes: usize,
    /// No more slots will be added.
    complete: bool,
    stopped: bool,
}

enum Slot {
    Open(Step),
    /// A worker is at it.
    Claimed,
    Ready(Result<Group>, usize),
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing that can panic happens while the lock is held.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        self.changed
            .wait(queue)
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Steps {
    pub fn new(
        context: Arc<Context>,
        source: impl Iterator<Item = Result<Step>> + 'static,
        limit: Option<usize>,
    ) -> Self {
        Self {
            context,
            source: Box::new(source),
            shared: Arc::default(),
            taken: 0,
            limit,
            workers: Vec::new(),
            generation: fork::generation(),
        }
    }

    /// Fills the queue up.
    fn fill(&mut self) -> Result<()> {
        // With nobody to work ahead, the next step is enough.
        let enough = if self.taken < ALONE {
            1
        } else {
            2 * WAITING_GROUPS
        };
        let mut queue = self.shared.queue();
        while queue.slots.len() < enough {
            let Some(step) = self.source.next() else {
                queue.complete = true;
                break;
            };
            queue.slots.push_back(Slot::Open(step?));
        }
        drop(queue);
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Drops whole files from the front whose rows need not be seen; returns how many of `rows` are
    /// left to pass over. For a scan that has not begun.
    pub fn skip_files(&mut self, mut rows: usize) -> Result<usize> {
        let mut passed = None;
        loop {
            self.fill()?;
            let mut queue = self.shared.queue();
            let Some(Slot::Open(Step::Group { file, .. })) = queue.slots.front() else {
                return Ok(rows);
            };
            if passed != Some(file.entry.id) {
                let Some(left) = rows.checked_sub(file.live_rows()) else {
                    return Ok(rows);
                };
                rows = left;
                passed = Some(file.entry.id);
            }
            queue.slots.pop_front();
        }
    }

    /// The next part, if there is one. `returned` is the number of rows that SQLite has seen.
    pub fn next(&mut self, returned: usize) -> Result<Option<Part>> {
        if self.generation != fork::generation() {
            return Err(Error::refused(
                "the query began before the process forked; open a connection in each process",
            ));
        }
        let is_long = |limit: usize| limit.saturating_sub(returned) > MANY_ROWS;
        if self.taken >= ALONE && self.workers.is_empty() && self.limit.is_none_or(is_long) {
            self.start_workers();
        }
        self.fill()?;
        self.taken += 1;
        let mut queue = self.shared.queue();
        loop {
            if let Some(Slot::Claimed) = queue.slots.front() {
                queue = self.shared.wait(queue);
                continue;
            }
            let slot = queue.slots.pop_front();
            queue.taken += usize::from(slot.is_some());
            if let Some(Slot::Ready(_, bytes)) = &slot {
                queue.waiting_bytes -= bytes;
            }
            drop(queue);
            self.shared.changed.notify_all();
            return match slot {
                None | Some(Slot::Claimed) => Ok(None),
                Some(Slot::Ready(group, _)) => group.map(Part::Group).map(Some),
                Some(Slot::Open(step)) => step.prepare(&self.context).map(Some),
            };
        }
    }

    fn start_workers(&mut self) {
        let most = self.context.max_workers;
        while self.workers.len() < most && self.shared.queue().slots.len() > self.workers.len() {
            let Some(permit) = Permit::claim(most) else {
                return;
            };
            let (shared, context) = (Arc::clone(&self.shared), Arc::clone(&self.context));
            let body = move || {
                let _permit = permit;
                work(&shared, &context);
            };
            // Without a thread the scan goes on by itself.
            let Ok(worker) = thread::Builder::new()
                .name("sqlite-cold".to_owned())
                .spawn(body)
            else {
                return;
            };
            self.workers.push(worker);
        }
    }
}

/// The right to run a thread.
struct Permit;

impl Permit {
    /// One of `most`, or of as many as the machine has room for.
    fn claim(most: usize) -> Option<Self> {
        let mut threads = THREADS.lock();
        let most = most.min(threads.most());
        (threads.running < most).then(|| {
            threads.running += 1;
            Self
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        THREADS.lock().running -= 1;
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        if self.generation != fork::generation() {
            // A child closes what it has from its parent. There are no workers here that could end, nor
            // one that would give the queue free.
            std::mem::forget(std::mem::take(&mut self.workers));
            return;
        }
        let steps = {
            let mut queue = self.shared.queue();
            queue.stopped = true;
            std::mem::take(&mut queue.slots)
        };
        self.shared.changed.notify_all();
        for worker in self.workers.drain(..) {
            // Its panics were caught.
            let _ = worker.join();
        }
        drop(steps);
    }
}

/// Prepares row groups until there are none left.
fn work(shared: &Shared, context: &Arc<Context>) {
    let mut queue = shared.queue();
    loop {
        let next = queue
            .slots
            .iter()
            .position(|slot| matches!(slot, Slot::Open(Step::Group { .. })));
        if queue.stopped || next.is_none() && queue.complete {
            return;
        }
        let next = next.unwrap_or(WAITING_GROUPS);
        let room = next < WAITING_GROUPS && queue.waiting_bytes < WAITING_BYTES;
        let slot = queue.slots.get_mut(next).filter(|_| room);
        let claimed = slot.map(|slot| std::mem::replace(slot, Slot::Claimed));
        let Some(Slot::Open(Step::Group {
            file,
            number,
            descending,
        })) = claimed
        else {
            queue = shared.wait(queue);
            continue;
        };
        let ticket = queue.taken + next;
        drop(queue);
        let prepared = guard(|| {
            let mut group = Group::prepare(context, &file, number, descending)?;
            group.decode_wanted()?;
            Ok(group)
        });
        let bytes = prepared.as_ref().map_or(0, Group::memory);
        queue = shared.queue();
        // The slot is still there: nobody takes a claimed one, unless the scan has ended.
        let place = ticket.checked_sub(queue.taken);
        if let Some(slot) = place.and_then(|place| queue.slots.get_mut(place)) {
            *slot = Slot::Ready(prepared, bytes);
            queue.waiting_bytes += bytes;
        }
        shared.changed.notify_all();
    }
}
