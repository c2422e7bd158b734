//! The nightly run inside the application's process: one thread for each database file.
//!
//! Between two slots the thread only waits: it has no connection, no open file and no lock. So the
//! connection that started it may close, the file may be replaced, and the process may end at any time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use chrono::{DateTime, Local, SecondsFormat, Utc};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value as Json, json};

use super::slot::{self, Load};
use super::times::Times;
use crate::error::{Error, Result};
use crate::settings::{self, AUTO_ARCHIVE_ENABLED, CLEANUP_CRON_TIMES, Config};
use crate::sqlite::filename::database_path;
use crate::sqlite::fork::PerProcess;
use crate::sqlite::panic::guard;
use crate::time::clock;
use crate::value::Value;

/// The longest sleep: the clock may be set, and the machine suspended, while the thread waits.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// What a thread and those who started it share.
#[derive(Debug)]
struct Schedule {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    times: Times,
    /// Slots up to this time have been dealt with.
    since: DateTime<Utc>,
    stop: bool,
    /// Whether the thread waits for slots, or will again.
    scheduled: bool,
    /// What went wrong at the last slot.
    error: Option<String>,
}

/// The schedules of this process. A child that is forked has none: it does not have the threads.
static REGISTRY: PerProcess<Registry> = PerProcess::empty();

/// Schedules by database file.
#[derive(Default)]
struct Registry {
    schedules: BTreeMap<PathBuf, Entry>,
}

/// What this process does with a database file.
#[derive(Debug, Clone, Default)]
struct Entry {
    /// `None` if it was stopped by a call: loading the library once more does not start it again.
    schedule: Option<Arc<Schedule>>,
    /// How many runs are going on, of this schedule or of one that was stopped since.
    runs: Arc<AtomicUsize>,
}

/// A run that is going on while this lives.
struct GoingOn<'r>(&'r AtomicUsize);

impl<'r> GoingOn<'r> {
    fn new(runs: &'r AtomicUsize) -> Self {
        runs.fetch_add(1, Ordering::Relaxed);
        Self(runs)
    }
}

impl Drop for GoingOn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Registry {
    fn schedule(&self, database: &Path) -> Option<Arc<Schedule>> {
        let schedule = self.schedules.get(database)?.schedule.as_ref()?;
        schedule.lock().scheduled.then(|| Arc::clone(schedule))
    }

    fn is_running(&self, database: &Path) -> bool {
        let entry = self.schedules.get(database);
        entry.is_some_and(|entry| entry.runs.load(Ordering::Relaxed) > 0)
    }
}

/// `archive_schedule([times])`: starts the schedule or gives it other times, stops it if `times` is
/// NULL, or shows it.
pub fn archive_schedule(
    connection: &Connection,
    arguments: &[Value<'_>],
    load: Load,
) -> Result<Json> {
    match arguments.first() {
        None => Ok(show(file(connection).as_deref())),
        Some(Value::Null) => {
            settings::check_writable(connection)?;
            Ok(json!({"stopped": stop(connection)}))
        }
        Some(Value::Text(text)) => {
            let times = Times::parse(text)?;
            if !AUTO_ARCHIVE_ENABLED.is_on_everywhere(&Config::read(connection)?)? {
                return Err(Error::refused(
                    "automatic archiving is switched off; switch it on with \
                     SELECT archive_config('auto_archive_enabled', 'true')",
                ));
            }
            let database = check(connection)?;
            start(&database, times, load)?;
            Ok(show(Some(&database)))
        }
        Some(_) => Err(Error::refused("the times must be text, such as '03:30'")),
    }
}

/// Starts the schedule that the environment asks for, when the library is loaded. Only a setting that
/// cannot be read is an error: a database that cannot have a schedule is loaded without.
pub fn start_by_environment(connection: &Connection, load: Load) -> Result<()> {
    let text = CLEANUP_CRON_TIMES.text(&Config::default())?;
    if text.trim().is_empty() {
        return Ok(());
    }
    let asked = |config: &Config| {
        Ok::<_, Error>(
            AUTO_ARCHIVE_ENABLED.is_set(config)?
                && AUTO_ARCHIVE_ENABLED.is_on_everywhere(config)?,
        )
    };
    // The database may be locked, or encrypted and not yet keyed; at each slot it is asked again.
    let in_database = Config::read(connection).and_then(|config| asked(&config));
    if !in_database.or_else(|_| asked(&Config::default()))? {
        return Ok(());
    }
    let times = Times::parse(&text)
        .map_err(|error| Error::refused(format!("CLEANUP_CRON_TIMES: {error}")))?;
    let known = |database: &Path| REGISTRY.lock().schedules.contains_key(database);
    match file(connection) {
        // What a call of archive_schedule said is stronger.
        Some(database) if !known(&database) => {
            let _ = check(connection).and_then(|database| start(&database, times, load));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The file of `main`, by the path that tells it from others; `None` if it is in memory or temporary.
fn file(connection: &Connection) -> Option<PathBuf> {
    let path = std::path::absolute(database_path(connection)?).ok()?;
    // The file may have been removed, and its schedule is still to be found.
    let in_real_folder = || Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    let real = path.canonicalize().ok().or_else(in_real_folder);
    Some(real.unwrap_or(path))
}

/// The database file, or why it cannot have a schedule.
fn check(connection: &Connection) -> Result<PathBuf> {
    let database = file(connection).filter(|path| path.is_file());
    let database = database.ok_or_else(|| {
        Error::refused("the database is in memory or temporary; only a file can have a schedule")
    })?;
    settings::check_writable(connection)?;
    let sql = "SELECT sqlite_compileoption_used('THREADSAFE=0')";
    // The function may be left out of a SQLite, which says nothing about threads.
    if let Ok(true) = connection.query_row(sql, [], |row| row.get(0)) {
        return Err(Error::refused(
            "this SQLite was built without threads; run archive_run() from cron instead",
        ));
    }
    probe(&database).map_err(|error| {
        Error::refused(format!(
            "the schedule needs a second connection, but {} cannot be opened by its path alone, \
             as it could not if it were encrypted: {error}",
            database.display()
        ))
    })?;
    Ok(database)
}

/// Fails if a connection of the schedule's own cannot read the database.
fn probe(database: &Path) -> Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(database, flags)?;
    connection.busy_timeout(Duration::ZERO)?;
    let version = connection.query_row("PRAGMA main.schema_version", [], |_| Ok(()));
    match version.map_err(Error::from) {
        Err(error) if !error.is_busy() => Err(error),
        _ => Ok(()),
    }
}

/// Starts a thread for the database, or gives the one it has other times.
fn start(database: &Path, times: Times, load: Load) -> Result<()> {
    let mut registry = REGISTRY.lock();
    if let Some(schedule) = registry.schedule(database) {
        schedule.replace(times);
        return Ok(());
    }
    let schedule = Arc::new(Schedule {
        state: Mutex::new(State {
            times,
            since: clock::now(),
            stop: false,
            scheduled: true,
            error: None,
        }),
        changed: Condvar::new(),
    });
    let entry = registry.schedules.get(database).cloned();
    let entry = Entry {
        schedule: Some(Arc::clone(&schedule)),
        ..entry.unwrap_or_default()
    };
    let (runs, path) = (Arc::clone(&entry.runs), database.to_owned());
    // Detached: the process ends without waiting for it.
    thread::Builder::new()
        .name("cold-schedule".to_owned())
        .spawn(move || schedule.work(&path, &runs, load))
        .map_err(|error| Error::refused(format!(
                "no thread can be started for the schedule: {error}; let the process have more, or run \
                 archive_run() from cron instead"
            )))?;
    registry.schedules.insert(database.to_owned(), entry);
    Ok(())
}

/// Ends the thread of the database, if there is one. A run that is going on goes on to its end.
fn stop(connection: &Connection) -> bool {
    let Some(database) = file(connection) else {
        return false;
    };
    let mut registry = REGISTRY.lock();
    let schedule = registry.schedule(&database);
    registry.schedules.entry(database).or_default().schedule = None;
    schedule.inspect(|schedule| schedule.stop()).is_some()
}

/// What `archive_schedule()` returns.
fn show(database: Option<&Path>) -> Json {
    let registry = REGISTRY.lock();
    let schedule = database.and_then(|database| registry.schedule(database));
    let state = schedule.as_ref().map(|schedule| schedule.lock());
    let state = state.as_deref();
    let next = state.and_then(|state| state.times.next(clock::now()));
    json!({
        "database": database.map(Path::to_string_lossy),
        "times": state.map(|state| state.times.text()),
        "next": next.map(|next| {
            let next = next.with_timezone(&Local);
            next.to_rfc3339_opts(SecondsFormat::Secs, false)
        }),
        "scheduled": state.is_some(),
        "running": database.is_some_and(|database| registry.is_running(database)),
        "error": state.and_then(|state| state.error.as_deref()),
    })
}

impl Schedule {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic leaves nothing half done behind it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        let mut state = self.lock();
        state.stop = true;
        state.scheduled = false;
        self.changed.notify_all();
    }

    fn replace(&self, times: Times) {
        let mut state = self.lock();
        // The same times again must not make it forget a slot that is just coming.
        if state.times.text() != times.text() {
            state.times = times;
            state.since = clock::now();
            self.changed.notify_all();
        }
    }

    /// The life of the thread.
    fn work(&self, database: &Path, runs: &AtomicUsize, load: Load) {
        let _ = guard(|| {
            while let Some(slot) = self.wait() {
                let going_on = GoingOn::new(runs);
                let outcome = guard(|| slot::run(database, slot, load));
                drop(going_on);
                let mut state = self.lock();
                state.error = outcome.err().map(|error| error.to_string());
                // A slot that came during the run is not run again right after it.
                state.since = clock::now();
            }
            Ok(())
        });
        self.lock().scheduled = false;
    }

    /// Waits for the next slot; `None` if the thread is to end.
    fn wait(&self) -> Option<DateTime<Utc>> {
        let mut state = self.lock();
        while !state.stop {
            let now = clock::now();
            // If the clock was set back, slots come again: `slot::claim` knows which are done.
            let next = state.times.next(state.since.min(now));
            let sleep = match next {
                Some(next) if next <= now => {
                    // After a long sleep only the last slot counts, which is the same for all
                    // processes, whenever they woke up.
                    let last = state.times.last(now);
                    return Some(last.map_or(next, |last| last.max(next)));
                }
                Some(next) => (next - now).to_std().unwrap_or_default(),
                None => LONGEST_SLEEP,
            };
            state.since = now;
            let woken = self.changed.wait_timeout(state, sleep.min(LONGEST_SLEEP));
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        None
    }
}
