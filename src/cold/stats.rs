//! What cold scans did: counted while they run, shown by `archive_scan_stats`.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How many scans a connection remembers.
const REMEMBERED: usize = 100;

/// What the threads of a scan count.
#[derive(Debug, Default)]
pub struct Counters {
    pub files_opened: AtomicUsize,
    /// Row groups of which rows were looked at.
    pub groups_read: AtomicUsize,
    /// Pages that were decompressed and decoded.
    pub pages_read: AtomicUsize,
    /// Pages of the columns read, in the row groups read, that were not needed.
    pub pages_skipped: AtomicUsize,
    pub bytes_read: AtomicUsize,
    /// Rows of the decoded pages, for the column of a row group with the most.
    pub rows_decoded: AtomicUsize,
    /// Footers and pages that were in the cache.
    pub cache_hits: AtomicUsize,
}

impl Counters {
    pub fn add(counter: &AtomicUsize, count: usize) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

/// What one scan, that is one cursor, did.
#[derive(Debug)]
pub struct ScanStats {
    /// Counts the scans of the connection, from 1.
    pub number: u64,
    pub table: String,
    pub plan: String,
    /// How often it was started, as the inner table of a join is.
    pub loops: u64,
    /// Readable files and row groups of the table, added up over the loops.
    pub files: u64,
    pub row_groups: u64,
    pub rows_returned: u64,
    pub counters: Arc<Counters>,
    pub began: Instant,
    /// From the first start to the end; `None` while it runs.
    pub elapsed: Option<Duration>,
}

/// The last scans of a connection, newest first.
#[derive(Debug, Clone, Default)]
pub struct ScanLog(Rc<RefCell<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    scans: VecDeque<Rc<RefCell<ScanStats>>>,
    count: u64,
}

impl ScanLog {
    /// Adds a scan of `table`.
    pub fn begin(&self, table: &str) -> Rc<RefCell<ScanStats>> {
        let mut entries = self.0.borrow_mut();
        entries.count += 1;
        let stats = Rc::new(RefCell::new(ScanStats {
            number: entries.count,
            table: table.to_owned(),
            plan: String::new(),
            loops: 0,
            files: 0,
            row_groups: 0,
            rows_returned: 0,
            counters: Arc::default(),
            began: Instant::now(),
            elapsed: None,
        }));
        entries.scans.push_front(Rc::clone(&stats));
        entries.scans.truncate(REMEMBERED);
        stats
    }

    /// The scans, newest first.
    pub fn scans(&self) -> Vec<Rc<RefCell<ScanStats>>> {
        self.0.borrow().scans.iter().map(Rc::clone).collect()
    }
}
