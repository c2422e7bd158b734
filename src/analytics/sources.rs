//! What the table function that hands over rows can find.

use std::collections::HashMap;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;

use super::feed::Event;
use super::survey::Kept;
use super::types::ColumnType;

/// What the function hands over.
pub struct Source {
    pub types: Vec<ColumnType>,
    /// How many rows there are, for DuckDB's planner.
    pub rows: Option<u64>,
    pub origin: Origin,
}

/// Where the rows come from.
pub enum Origin {
    /// From SQLite.
    SQLite {
        /// Its number with the thread that reads.
        relation: usize,
        events: SyncSender<Event>,
        /// All rows, if they are few, with the columns that the query seems to need.
        kept: Option<Kept>,
    },
    /// They are here.
    Batch(RecordBatch),
}

/// What the table function that hands over rows can find, by the number it is called with.
#[derive(Clone, Default)]
pub struct Sources(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    sources: HashMap<u64, Arc<Source>>,
    next: u64,
}

impl Sources {
    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing in it is ever half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, number: u64) -> Option<Arc<Source>> {
        self.known().sources.get(&number).cloned()
    }

    /// Adds a source, which stays as long as what is returned.
    pub fn add(&self, source: Source) -> Registered {
        let mut known = self.known();
        let number = known.next;
        known.next += 1;
        known.sources.insert(number, Arc::new(source));
        Registered {
            sources: self.clone(),
            number,
        }
    }
}

/// A source that DuckDB can find.
pub struct Registered {
    sources: Sources,
    pub number: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.sources.known().sources.remove(&self.number);
    }
}
