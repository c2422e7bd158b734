//! DuckDB inside this library: one instance for each connection of SQLite that asks for it, locked down.

use std::cell::{Cell, RefCell};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use duckdb::{Config, Connection, InterruptHandle};
use lru::LruCache;
use once_cell::unsync::OnceCell;

use super::dialect::{duckdb_error, pattern};
use super::names::Subjects;
use super::rows::{self};
use super::sources::Sources;
use super::spill::Spill;
use super::syntax::Mentioned;
use crate::catalog;
use crate::error::{Error, Result};
use crate::settings;
use crate::sql::literal;
use crate::sqlite::fork;
use crate::storage::access::Access;

/// Unless it is set otherwise, DuckDB gets so much memory, or half of the machine's if that is less.
const MEMORY: u64 = 2_000_000_000;

/// What DuckDB may use.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Limits {
    /// The archive folder, the only one that it may read. A database in memory has none.
    root: Option<PathBuf>,
    /// Whether anything may be written.
    spills: bool,
    /// For what it writes.
    access: Access,
    /// Empty for the default.
    memory: String,
    threads: usize,
}

impl Limits {
    fn read(connection: &rusqlite::Connection) -> Result<Self> {
        let config = settings::Config::read(connection)?;
        let folder = match catalog::exists(connection)? {
            true => Some(settings::folder(connection, &config)?),
            false => None,
        };
        Ok(Self {
            spills: settings::check_writable(connection).is_ok(),
            root: folder.as_ref().map(|folder| folder.root().to_owned()),
            access: folder.map_or_else(Access::default, |folder| folder.access().clone()),
            memory: settings::DUCKDB_MEMORY_LIMIT.text(&config)?,
            threads: settings::MAX_WORKERS.count(&config)?.max(1),
        })
    }
}

/// The instance of a connection, once there is one.
#[derive(Clone, Default)]
pub struct Engines(Rc<RefCell<OnceCell<Rc<Engine>>>>);

impl Engines {
    /// The instance, which is opened at the first call, and anew after the settings have changed or it has
    /// broken.
    pub fn get(&self, connection: &rusqlite::Connection) -> Result<Rc<Engine>> {
        let limits = Limits::read(connection)?;
        let mut cell = self.0.borrow_mut();
        let stale = |engine: &Rc<Engine>| {
            engine.limits != limits || engine.broken.get() || !engine.is_ours()
        };
        if cell.get().is_some_and(stale) {
            cell.take();
        }
        let engine = cell.get_or_try_init(|| Engine::open(limits).map(Rc::new))?;
        Ok(Rc::clone(engine))
    }
}

/// What the last queries name, by their text.
#[derive(Clone)]
pub struct Parsed(Arc<Mutex<LruCache<String, Arc<Mentioned>>>>);

impl Parsed {
    /// How many queries are kept.
    const KEPT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);

    fn new() -> Self {
        Self(Arc::new(Mutex::new(LruCache::new(Self::KEPT))))
    }

    /// What a query names, as it was found before or as `parse` finds it now.
    pub fn get(
        &self,
        sql: &str,
        parse: impl FnOnce() -> Result<Mentioned>,
    ) -> Result<Arc<Mentioned>> {
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mentioned) = known().get(sql) {
            return Ok(Arc::clone(mentioned));
        }
        let mentioned = Arc::new(parse()?);
        known().put(sql.to_owned(), Arc::clone(&mentioned));
        Ok(mentioned)
    }
}

/// One DuckDB instance.
pub struct Engine {
    limits: Limits,
    /// Never closed by a child of the process, which has none of DuckDB's threads.
    connection: Rc<Connection>,
    /// The process that it belongs to.
    generation: u32,
    pub sources: Sources,
    pub parsed: Parsed,
    /// What is known of the tables, for the next query.
    pub subjects: Subjects,
    /// Of queries, which may take a moment to end after they were interrupted.
    threads: RefCell<Vec<(JoinHandle<()>, Arc<InterruptHandle>)>>,
    /// After a failure of its own an instance answers nothing any more.
    broken: Cell<bool>,
    /// After the connection, which still uses it while it closes.
    spill: Option<Arc<Spill>>,
}

impl Engine {
    fn open(limits: Limits) -> Result<Self> {
        let beside = |root| Spill::beside(root, &limits.access);
        let root = limits.root.as_deref().filter(|_| limits.spills);
        let spill = root.and_then(beside).map(Arc::new);
        let connection = open(&limits, spill.as_deref()).map_err(duckdb_error)?;
        let sources = Sources::default();
        rows::register(&connection, &sources).map_err(duckdb_error)?;
        lock_down(&connection, &limits).map_err(duckdb_error)?;
        Ok(Self {
            limits,
            connection: Rc::new(connection),
            generation: fork::generation(),
            sources,
            parsed: Parsed::new(),
            subjects: Subjects::default(),
            threads: RefCell::default(),
            broken: Cell::default(),
            spill,
        })
    }

    fn is_ours(&self) -> bool {
        self.generation == fork::generation()
    }

    /// A connection for one query, whose temporary views no other query sees.
    pub fn connect(&self) -> Result<Connection> {
        self.connection.try_clone().map_err(duckdb_error)
    }

    /// Takes note of how a query failed.
    pub fn failed(&self, error: &Error) {
        let own = ["INTERNAL Error", "FATAL Error"];
        if matches!(error, Error::Refused(message) if own.iter().any(|m| message.contains(m))) {
            self.broken.set(true);
        }
    }

    /// Runs `body` in a thread of its own. What it asks of DuckDB is ended by `interrupt`.
    pub fn spawn(
        &self,
        interrupt: Arc<InterruptHandle>,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<()> {
        // Only what is touched takes memory. DuckDB goes as deep as a query does.
        const STACK: usize = 256 << 20;
        let spill = self.spill.clone();
        let thread = std::thread::Builder::new()
            .name("archive_query".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                body();
                drop(spill);
            })
            .map_err(|error| Error::refused(format!("no thread can be started: {error}")))?;
        let mut threads = self.threads.borrow_mut();
        threads.retain(|(thread, _)| !thread.is_finished());
        threads.push((thread, interrupt));
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.is_ours() {
            // It would wait for threads that only the parent has.
            std::mem::forget(Rc::clone(&self.connection));
            std::mem::forget(self.threads.take());
            return;
        }
        // DuckDB plans some queries for minutes, and cannot be interrupted then.
        const PATIENCE: Duration = Duration::from_secs(1);
        let start = Instant::now();
        for (thread, interrupt) in self.threads.take() {
            // Its cursor is closed. Between two steps there is nothing that an interrupt could end.
            while !thread.is_finished() {
                if start.elapsed() > PATIENCE {
                    return;
                }
                interrupt.interrupt();
                std::thread::sleep(Duration::from_millis(1));
            }
            // A panic has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}

fn open(limits: &Limits, spill: Option<&Spill>) -> duckdb::Result<Connection> {
    let temporary = spill.map_or(String::new(), |spill| spill.path().display().to_string());
    let config = Config::default()
        .with("threads", limits.threads.to_string())?
        // By itself it reads ahead in four threads for each processor, without end, and keeps open what it
        // has read: the host may have few descriptors left.
        .with("async_threads", limits.threads.to_string())?
        .with("read_ahead_depth", (2 * limits.threads).to_string())?
        .with("temp_directory", temporary)?
        .with("autoinstall_known_extensions", "false")?
        .with("autoload_known_extensions", "false")?
        .with("allow_community_extensions", "false")?
        // As SQLite orders them.
        .with("default_null_order", "sqlite")?;
    let config = match limits.memory.as_str() {
        "" => config,
        memory => config.with("memory_limit", memory)?,
    };
    let connection = Connection::open_in_memory_with_flags(config)?;
    if limits.memory.is_empty() {
        limit_memory(&connection)?;
    }
    Ok(connection)
}

/// Sets the default. What the machine has is DuckDB's finding, which knows of containers, too.
fn limit_memory(connection: &Connection) -> duckdb::Result<()> {
    connection.execute_batch("SET memory_limit = '50%'")?;
    let sql = "SELECT parse_formatted_bytes(current_setting('memory_limit'))";
    let half: u64 = connection.query_row(sql, [], |row| row.get(0))?;
    match half > MEMORY {
        true => connection.execute_batch(&format!("SET memory_limit = '{MEMORY} B'")),
        false => Ok(()),
    }
}

/// Takes away all that a query does not need: files but the cold ones, the network, extensions, settings.
fn lock_down(connection: &Connection, limits: &Limits) -> duckdb::Result<()> {
    let root = limits.root.as_ref();
    // DuckDB holds the pattern of a path against them, too.
    let folders = root.map_or(String::new(), |root| {
        let root = root.to_string_lossy();
        format!("{}, {}", literal(&root), literal(&pattern(&root)))
    });
    connection.execute_batch(&format!(
        "SET GLOBAL allow_persistent_secrets = false;
         SET GLOBAL parquet_metadata_cache = true;
         SET GLOBAL allowed_directories = [{folders}];
         SET GLOBAL enable_external_access = false;
         SET GLOBAL lock_configuration = true;"
    ))
}
