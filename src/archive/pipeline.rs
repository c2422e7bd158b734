//! Some files at a time: this thread talks to SQLite, reading the rows of one file and publishing
//! those that are written, while workers encode, sync and verify the files between.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::plan::Plan;
use super::progress::Progress;
use super::publish::{Published, Publisher};
use super::unpublished::Publishing;
use crate::catalog::files::NewEntry;
use crate::error::Result;
use crate::format::rows::FileRows;
use crate::format::write::{FileWriter, WrittenFile};
use crate::sql;
use crate::sqlite::panic::guard;

/// The most bytes of rows that wait for the worker, or for being published, at a time. One file is
/// always let through.
const WAITING_BYTES: usize = 48 << 20;

/// The way of the planned rows.
pub struct Pipeline<'a> {
    pub publisher: &'a Publisher<'a>,
    pub writer: &'a FileWriter,
    /// How many threads write files, at most; with none this one does.
    pub workers: usize,
    /// Whether rows stay hot for now.
    pub staging: bool,
    pub progress: &'a Progress,
    /// Where the file number so-and-so goes.
    pub path: &'a dyn Fn(&FileRows, usize) -> String,
    /// What the catalog is to say of a file.
    pub entry: &'a dyn Fn(WrittenFile) -> NewEntry,
}

/// A file on its way to the worker.
struct Job {
    path: String,
    rows: FileRows,
    ticket: Ticket,
}

/// What a file is known by until it comes back from the worker.
#[derive(Clone, Copy)]
struct Ticket {
    bytes: usize,
    /// `sql::data_version` before the first row was read.
    read_at: i64,
}

/// A file that has come back.
type Written = Result<(WrittenFile, Ticket)>;

impl Pipeline<'_> {
    /// Moves the rows of `plan`. `published` grows as they move, also if it fails later.
    pub fn run(&self, plan: &mut Plan<'_>, published: &mut Published) -> Result<()> {
        let (jobs, todo) = channel::<Job>();
        let (done, written) = channel();
        let (writer, todo) = (self.writer, Mutex::new(todo));
        thread::scope(|scope| {
            let start = |_| {
                let (todo, done) = (&todo, done.clone());
                let thread = thread::Builder::new().name("sqlite-cold".to_owned());
                thread
                    .spawn_scoped(scope, move || work(writer, todo, &done))
                    .is_ok()
            };
            // Where the system has no more threads, those that there are write all files.
            let workers = (0..self.workers).map(start).take_while(|started| *started);
            let workers = workers.count();
            drop(done);
            // Both ends of this thread go when it fails, which stops the workers.
            let (jobs, written) = (jobs, written);
            let mut waiting = 0;
            for sequence in 1.. {
                let read_at = sql::data_version(self.publisher.hot.connection)?;
                let Some(rows) = plan.next_file()? else {
                    break;
                };
                let bytes = rows.bytes();
                while waiting > 0 && waiting + bytes > WAITING_BYTES {
                    let Ok(result) = written.recv() else { break };
                    waiting -= self.publish(vec![result], published)?;
                }
                waiting += bytes;
                let path = (self.path)(&rows, sequence);
                let ticket = Ticket { bytes, read_at };
                let job = Job { path, rows, ticket };
                if workers == 0 {
                    waiting -= self.publish(vec![write(writer, job)], published)?;
                    continue;
                }
                if jobs.send(job).is_err() {
                    // The workers have stopped; the reason is among the results.
                    break;
                }
                waiting -= self.publish(written.try_iter().collect(), published)?;
            }
            drop(jobs);
            while let Ok(result) = written.recv() {
                let results = std::iter::once(result).chain(written.try_iter());
                self.publish(results.collect(), published)?;
            }
            Ok(())
        })
    }

    /// Publishes files that have come back; returns how many bytes of rows wait no longer.
    fn publish(&self, results: Vec<Written>, published: &mut Published) -> Result<usize> {
        let mut bytes = 0;
        let mut files = Vec::with_capacity(results.len());
        let mut failed = None;
        for result in results {
            match result {
                Ok((file, ticket)) => {
                    bytes += ticket.bytes;
                    files.push(((self.entry)(file), ticket.read_at));
                }
                // Files that were written before it are not lost by it.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        let before = published.rows();
        let outcome = self.put_into_catalog(files, published);
        self.progress.advance(published.rows() - before);
        failed.map_or(outcome, Err).map(|()| bytes)
    }

    /// Files, each with `sql::data_version` before its first row was read.
    fn put_into_catalog(
        &self,
        files: Vec<(NewEntry, i64)>,
        published: &mut Published,
    ) -> Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        if self.staging {
            let entries: Vec<NewEntry> = files.into_iter().map(|(entry, _)| entry).collect();
            return self.publisher.stage(&entries, published);
        }
        let publishing = |(entry, read_at)| Publishing::New { entry, read_at };
        let files = files.into_iter().map(publishing).collect();
        self.publisher.publish(files, published)
    }
}

/// A worker: writes one file after the other until there are no more, or nobody waits for them.
fn work(writer: &FileWriter, todo: &Mutex<Receiver<Job>>, done: &Sender<Written>) {
    let next = || todo.lock().ok()?.recv().ok();
    while let Some(job) = next() {
        let result = write(writer, job);
        let failed = result.is_err();
        if done.send(result).is_err() || failed {
            return;
        }
    }
}

/// Writes a file. Its rows are of no more use then; what waits counts them until they are published.
fn write(writer: &FileWriter, job: Job) -> Written {
    guard(|| Ok((writer.write(&job.path, &job.rows)?, job.ticket)))
}
