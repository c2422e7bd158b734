//! What was read of cold files and may be needed again: footers, bloom filters and decoded pages, for
//! all connections of the process.
//!
//! Files never change, so nothing here is ever stale; a footer counts only for the very file it was
//! read from. What is used least recently makes room, and what nobody used for a while is dropped
//! when the cache is next used.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use lru::LruCache;
use parquet::bloom_filter::Sbbf;

use crate::error::Result;
use crate::format::decode::DecodedColumn;
use crate::format::file::OpenFile;
use crate::format::footer::Footer;
use crate::format::record::FileRecord;
use crate::settings::{self, Config};
use crate::sqlite::fork::PerProcess;
use crate::storage::{Folder, Identity};

static CACHE: PerProcess<Contents> = PerProcess::empty();

/// What an entry with so many bytes of data takes, with its place in the tables and what the
/// allocator leaves unused, as measured.
fn in_memory(bytes: usize) -> usize {
    512 + bytes + bytes / 4
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    /// The file's whole path.
    Footer(PathBuf),
    /// Of a column of a row group.
    Bloom(u64, usize, usize),
    Page(PageKey),
}

/// Which page of which file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PageKey {
    /// [`Footer::id`]
    pub footer: u64,
    pub group: usize,
    pub column: usize,
    pub page: usize,
}

#[derive(Clone)]
enum Data {
    Footer(Identity, Arc<Footer>),
    Bloom(Option<Arc<Sbbf>>),
    Page(Arc<DecodedColumn>),
}

struct Entry {
    data: Data,
    bytes: usize,
    used: Instant,
}

struct Contents {
    entries: LruCache<Key, Entry>,
    bytes: usize,
}

impl Default for Contents {
    fn default() -> Self {
        Self {
            entries: LruCache::unbounded(),
            bytes: 0,
        }
    }
}

impl Contents {
    /// Drops entries until the rest fits into `limit` and was used within `lifetime`.
    fn shrink(&mut self, limit: usize, lifetime: Duration) {
        while let Some((_, oldest)) = self.entries.peek_lru() {
            if self.bytes <= limit && oldest.used.elapsed() <= lifetime {
                break;
            }
            self.bytes -= oldest.bytes;
            self.entries.pop_lru();
        }
    }
}

fn contents() -> MutexGuard<'static, Contents> {
    // A panic between two changes of the counter could only make it wrong, not the data.
    CACHE.lock()
}

/// The cache as one scan may use it.
#[derive(Debug)]
pub struct Cache {
    /// In bytes; 0 switches the cache off.
    limit: usize,
    lifetime: Duration,
    /// Bytes of pages that this scan may still add. A scan that is larger than the cache would
    /// otherwise replace all of it, and find nothing of itself the next time.
    share: AtomicUsize,
}

impl Cache {
    /// The cache as the settings say.
    pub fn of(config: &Config) -> Result<Self> {
        let limit = match settings::QUERY_CACHE_ENABLED.is_on(config)? {
            true => settings::CACHE_BYTES.count(config)?,
            false => 0,
        };
        let lifetime = settings::QUERY_CACHE_TTL.count(config)?;
        Ok(Self::new(limit, Duration::from_secs(lifetime as u64)))
    }

    pub fn new(limit: usize, lifetime: Duration) -> Self {
        contents().shrink(limit, lifetime);
        Self {
            limit,
            lifetime,
            share: AtomicUsize::new(limit / 2),
        }
    }

    fn get(&self, key: &Key) -> Option<Data> {
        if self.limit == 0 {
            return None;
        }
        let mut contents = contents();
        contents.shrink(self.limit, self.lifetime);
        let entry = contents.entries.get_mut(key)?;
        entry.used = Instant::now();
        Some(entry.data.clone())
    }

    fn put(&self, key: Key, data: Data, bytes: usize) {
        let bytes = in_memory(bytes);
        if bytes > self.limit {
            return;
        }
        let mut contents = contents();
        let entry = Entry {
            data,
            bytes,
            used: Instant::now(),
        };
        contents.bytes += bytes;
        if let Some(replaced) = contents.entries.put(key, entry) {
            contents.bytes -= replaced.bytes;
        }
        contents.shrink(self.limit, self.lifetime);
    }

    /// Opens a file; its footer may be here. Whether it was is the second result.
    pub fn open(&self, folder: &Folder, record: &FileRecord) -> Result<(OpenFile, bool)> {
        let (path, identity) = folder.identify(&record.path)?;
        let key = Key::Footer(path);
        if let Some(Data::Footer(known, footer)) = self.get(&key)
            && known == identity
            && footer.is(record)
        {
            return Ok((OpenFile::known(folder, record, footer, identity), true));
        }
        let file = OpenFile::open(folder, record)?;
        let footer = Arc::clone(file.footer());
        let bytes = footer.memory();
        self.put(key, Data::Footer(file.identity(), footer), bytes);
        Ok((file, false))
    }

    /// The bloom filter of a column of a row group.
    pub fn bloom_filter(
        &self,
        file: &OpenFile,
        group: usize,
        column: usize,
    ) -> Result<Option<Arc<Sbbf>>> {
        let key = Key::Bloom(file.footer().id, group, column);
        if let Some(Data::Bloom(filter)) = self.get(&key) {
            return Ok(filter);
        }
        let filter = file.bloom_filter(group, column)?.map(Arc::new);
        let bytes = filter.as_ref().map_or(0, |filter| filter.num_blocks() * 32);
        self.put(key, Data::Bloom(filter.clone()), bytes);
        Ok(filter)
    }

    /// A page, if it is here.
    pub fn page(&self, key: PageKey) -> Option<Arc<DecodedColumn>> {
        match self.get(&Key::Page(key)) {
            Some(Data::Page(page)) => Some(page),
            _ => None,
        }
    }

    /// Keeps a page, unless this scan has kept enough.
    pub fn keep_page(&self, key: PageKey, page: &Arc<DecodedColumn>) {
        let bytes = page.memory();
        let take = |share: usize| share.checked_sub(in_memory(bytes));
        let taken = self
            .share
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        if taken.is_ok() {
            self.put(Key::Page(key), Data::Page(Arc::clone(page)), bytes);
        }
    }
}
