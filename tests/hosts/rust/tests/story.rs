#[test] fn x() { let _ = rusqlite::Connection::open_in_memory().unwrap(); }
