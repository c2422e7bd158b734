//! Several connections and threads in one process that has loaded the library.

use std::ffi::{CString, c_int};
use std::panic;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, ffi};
use sqlite_cold_host::{archive, connect, fill, load, number};

unsafe extern "C" {
    // Of the bundled SQLite; rusqlite's bindings leave it out.
    fn sqlite3_close_v2(db: *mut ffi::sqlite3) -> c_int;
}

/// An instant after all rows that `fill` makes.
const ALL: &str = "2025-01-01";

fn patient(path: &Path) -> Connection {
    let connection = connect(path).unwrap();
    connection.busy_timeout(Duration::from_secs(30)).unwrap();
    connection
}

/// P1: while one thread archives, another one counts each row once, in the same process.
#[test]
fn a_reader_in_another_thread_sees_each_row_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    let writer = patient(&path);
    writer
        .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0))
        .unwrap();
    fill(&writer, 20, 500).unwrap();
    assert_eq!(archive(&writer, "2023-11-16").unwrap(), 500);
    let (started, ended) = (AtomicBool::new(false), AtomicBool::new(false));
    let partly_moved = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let connection = patient(&path);
            let mut partly_moved = 0;
            while !ended.load(Ordering::SeqCst) {
                let counts = "SELECT count(*), count(DISTINCT id), sum(id) FROM all_t";
                let row = connection.query_row(counts, [], |row| {
                    Ok([row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?])
                });
                assert_eq!(row.unwrap(), [10_000, 10_000, 50_005_000]);
                let hot = number(&connection, "SELECT count(*) FROM t").unwrap();
                partly_moved += i32::from((1..9_500).contains(&hot));
                started.store(true, Ordering::SeqCst);
            }
            connection.close().unwrap();
            partly_moved
        });
        while !started.load(Ordering::SeqCst) && !reader.is_finished() {
            thread::yield_now();
        }
        let slowly = "SELECT archive_table('t', NULL,
            '{\"before\":\"2025-01-01\",\"batch_size\":100,\"pause_ms\":3}') ->> 'rows'";
        let moved = number(&writer, slowly);
        ended.store(true, Ordering::SeqCst);
        assert_eq!(moved.unwrap(), 9_500);
        reader.join().unwrap()
    });
    assert!(partly_moved > 0, "the reader never looked in between");
}

/// Two threads archive two databases at the same time.
#[test]
fn two_threads_archive_two_databases() {
    let folder = tempfile::tempdir().unwrap();
    thread::scope(|scope| {
        for name in ["a", "b"] {
            let path = folder.path().join(name).with_extension("db");
            scope.spawn(move || {
                let connection = connect(&path).unwrap();
                fill(&connection, 5, 200).unwrap();
                assert_eq!(archive(&connection, ALL).unwrap(), 1000);
                assert_eq!(
                    number(&connection, "SELECT sum(id) FROM all_t"),
                    Ok(500_500)
                );
                connection.close().unwrap();
            });
        }
    });
}

/// A pool hands connections from thread to thread; the thread that loaded the library may be gone.
#[test]
fn a_connection_outlives_the_thread_that_made_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    let connection = thread::spawn(move || {
        let connection = connect(&path).unwrap();
        fill(&connection, 3, 100).unwrap();
        archive(&connection, "2023-11-16").unwrap();
        connection
    });
    let connection = connection.join().unwrap();
    assert_eq!(archive(&connection, ALL).unwrap(), 200);
    let closed = thread::spawn(move || {
        assert_eq!(number(&connection, "SELECT count(*) FROM cold_t"), Ok(300));
        connection.close().map_err(|(_, error)| error)
    });
    closed.join().unwrap().unwrap();
}

/// Connections close in any order, and those that are left go on; `close` fails if the library
/// has left a statement open.
#[test]
fn connections_close_in_any_order() {
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        let first = connect(&path).unwrap();
        fill(&first, 2, 50).unwrap();
        archive(&first, "2023-11-16").unwrap();
        let others = [connect(&path).unwrap(), connect(&path).unwrap()];
        let [second, third] = others;
        archive(&second, ALL).unwrap();
        let mut connections = [Some(first), Some(second), Some(third)];
        for closing in order {
            for connection in connections.iter().flatten() {
                assert_eq!(number(connection, "SELECT sum(id) FROM all_t"), Ok(5050));
                assert_eq!(number(connection, "SELECT count(*) FROM cold_t"), Ok(100));
            }
            connections[closing].take().unwrap().close().unwrap();
        }
    }
}

/// Loading again changes nothing, in a connection that has archived and in one that has not.
#[test]
fn loading_twice() {
    let folder = tempfile::tempdir().unwrap();
    let connection = connect(&folder.path().join("test.db")).unwrap();
    load(&connection).unwrap();
    fill(&connection, 2, 50).unwrap();
    archive(&connection, ALL).unwrap();
    load(&connection).unwrap();
    assert_eq!(number(&connection, "SELECT count(*) FROM all_t"), Ok(100));
    connection.close().unwrap();
}

/// The first row of a query on a handle of its own, which stays open.
unsafe fn first_row(db: *mut ffi::sqlite3, sql: &str) -> *mut ffi::sqlite3_stmt {
    let sql = CString::new(sql).unwrap();
    let mut statement = ptr::null_mut();
    // SAFETY: the caller passes an open handle; the text is NUL-terminated.
    unsafe {
        let code = ffi::sqlite3_prepare_v2(db, sql.as_ptr(), -1, &mut statement, ptr::null_mut());
        assert_eq!(code, ffi::SQLITE_OK);
        assert_eq!(ffi::sqlite3_step(statement), ffi::SQLITE_ROW);
    }
    statement
}

/// An open handle with the library, beyond rusqlite's care.
unsafe fn raw(path: &Path) -> *mut ffi::sqlite3 {
    let path = CString::new(path.to_str().unwrap()).unwrap();
    let mut db = ptr::null_mut();
    // SAFETY: the text is NUL-terminated; the borrowed connection does not close the handle.
    unsafe {
        assert_eq!(ffi::sqlite3_open(path.as_ptr(), &mut db), ffi::SQLITE_OK);
        load(&Connection::from_handle(db).unwrap()).unwrap();
    }
    db
}

fn archived(path: &Path) {
    let connection = connect(path).unwrap();
    fill(&connection, 3, 100).unwrap();
    archive(&connection, "2023-11-17").unwrap();
    connection.close().unwrap();
}

/// A connection with an unfinished statement over cold rows refuses to close, and goes on.
#[test]
fn close_waits_for_an_unfinished_statement() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    archived(&path);
    for sql in [
        "SELECT * FROM cold_t",
        "SELECT * FROM all_t ORDER BY id DESC",
    ] {
        // SAFETY: the statement is finalized and the handle closed once, in this order.
        unsafe {
            let db = raw(&path);
            let statement = first_row(db, sql);
            assert_eq!(ffi::sqlite3_close(db), ffi::SQLITE_BUSY);
            assert_eq!(ffi::sqlite3_step(statement), ffi::SQLITE_ROW);
            ffi::sqlite3_finalize(statement);
            assert_eq!(ffi::sqlite3_close(db), ffi::SQLITE_OK);
        }
    }
    assert_eq!(archive(&connect(&path).unwrap(), ALL), Ok(100));
}

/// `sqlite3_close_v2`, which most drivers call, leaves statements usable until they are finalized.
/// A scan then ends with all rows or with an error, never with fewer rows and no error; the last
/// statement to be finalized closes the connection and frees its locks.
#[test]
fn a_statement_outlives_its_connection() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    archived(&path);
    // SAFETY: the handle is closed once and the statements, which keep it alive, finalized once.
    unsafe {
        let db = raw(&path);
        let statements = [
            first_row(db, "SELECT * FROM cold_t"),
            first_row(db, "SELECT * FROM all_t ORDER BY id DESC"),
            first_row(db, "SELECT a.* FROM cold_t a JOIN cold_t b USING (id)"),
        ];
        assert_eq!(sqlite3_close_v2(db), ffi::SQLITE_OK);
        for (statement, all) in statements.into_iter().zip([200, 300, 200]) {
            let mut rows = 1;
            let mut code = ffi::sqlite3_step(statement);
            while code == ffi::SQLITE_ROW {
                rows += 1;
                code = ffi::sqlite3_step(statement);
            }
            assert!(code != ffi::SQLITE_DONE || rows == all, "{rows} of {all}");
            ffi::sqlite3_finalize(statement);
        }
    }
    assert_eq!(archive(&connect(&path).unwrap(), ALL), Ok(100));
}

/// `sqlite3_close_v2` is made for garbage-collected hosts: a scan that was begun before goes on.
#[test]
fn a_scan_goes_on_after_its_connection_was_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    archived(&path);
    // SAFETY: the handle is closed once and the statement, which keeps it alive, finalized once.
    unsafe {
        let db = raw(&path);
        let statement = first_row(db, "SELECT * FROM cold_t");
        assert_eq!(sqlite3_close_v2(db), ffi::SQLITE_OK);
        let codes: Vec<_> = (1..=200).map(|_| ffi::sqlite3_step(statement)).collect();
        ffi::sqlite3_finalize(statement);
        let (last, rows) = codes.split_last().unwrap();
        let first_error = rows.iter().position(|code| *code != ffi::SQLITE_ROW);
        assert_eq!((first_error, *last), (None, ffi::SQLITE_DONE));
    }
}

/// P6: the library's own panic hook does not replace the application's.
#[test]
fn the_panic_hook_of_the_application_stays() {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info| match info.payload_as_str() {
        Some("on purpose") => drop(PANICS.fetch_add(1, Ordering::SeqCst)),
        _ => previous(info),
    }));
    let folder = tempfile::tempdir().unwrap();
    let connection = connect(&folder.path().join("test.db")).unwrap();
    assert!(archive(&connection, ALL).is_err());
    assert!(panic::catch_unwind(|| panic!("on purpose")).is_err());
    assert_eq!(PANICS.load(Ordering::SeqCst), 1);
}
