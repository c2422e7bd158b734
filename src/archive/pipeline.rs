//! Two files at a time: this thread talks to SQLite, reading the rows of one file and publishing
//! those that are written, while a worker encodes, syncs and verifies the file between.

use std::sync::mpsc::{Receiver, Sender, channel};

use super::pending::Publishing;
use super::plan::{FileRows, Plan};
use super::progress::Progress;
use super::publish::{Published, Publisher};
use super::write::{FileWriter, WrittenFile};
use crate::catalog::files::NewEntry;
use crate::error::Result;
use crate::sql;
use crate::sqlite::panic::guard;

/// The most bytes of rows that wait for the worker, or for being published, at a time. One file is
/// always let through.
const WAITING_BYTES: usize = 48 << 20;

/// The way of the planned rows.
pub struct Pipeline<'a> {
    pub publisher: &'a Publisher<'a>,
    pub writer: &'a FileWriter,
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
        let writer = self.writer;
        std::thread::scope(|scope| {
            scope.spawn(move || work(writer, &todo, &done));
            // Both ends of this thread go when it fails, which stops the worker.
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
                if jobs.send(Job { path, rows, ticket }).is_err() {
                    // The worker has stopped; the reason is among the results.
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
        for result in results {
            let (file, ticket) = result?;
            bytes += ticket.bytes;
            files.push(Publishing::New {
                entry: (self.entry)(file),
                read_at: ticket.read_at,
            });
        }
        let before = published.rows();
        let outcome = self.publisher.publish(files, published);
        self.progress.advance(published.rows() - before);
        outcome.map(|()| bytes)
    }
}

/// The worker: writes one file after the other until there are no more, or nobody waits for them.
fn work(writer: &FileWriter, todo: &Receiver<Job>, done: &Sender<Written>) {
    for job in todo {
        let result = guard(|| Ok((writer.write(&job.path, &job.rows)?, job.ticket)));
        // The rows are of no more use; what waits counts them until they are published.
        drop(job.rows);
        let failed = result.is_err();
        if done.send(result).is_err() || failed {
            return;
        }
    }
}
