//! Threads that end, in a process of its own: which of them loaded the library first matters here.

use std::thread;

use sqlite_cold_host::{archive, connect, fill, number};

/// P6: the thread that loads the library first may end before any other begins to use it, which often
/// gets the ended one's place in memory. The library's allocator must not take it for that one.
#[test]
fn the_thread_that_loaded_the_library_may_end() {
    for _ in 0..20 {
        thread::spawn(|| {
            let folder = tempfile::tempdir().unwrap();
            let connection = connect(&folder.path().join("test.db")).unwrap();
            fill(&connection, 5, 200).unwrap();
            assert_eq!(archive(&connection, "2025-01-01").unwrap(), 1000);
            let rows = number(&connection, "SELECT count(*) FROM all_t").unwrap();
            assert_eq!(rows, 1000);
        })
        .join()
        .unwrap();
    }
}
