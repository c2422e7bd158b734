//! An application in Rust that loads the library into its own, statically linked SQLite, which is
//! what `tests/story.rs` and `tests/connections.rs` are about.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, LoadExtensionGuard, Result};

/// The library that users get.
pub fn library() -> PathBuf {
    let file = match std::env::consts::OS {
        "windows" => "cold.dll",
        "macos" => "cold.dylib",
        _ => "cold.so",
    };
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../dist")
        .join(file)
}

/// Loads the library into a connection.
pub fn load(connection: &Connection) -> Result<()> {
    // SAFETY: the library is our own, and loading is allowed only for this call.
    unsafe {
        let _guard = LoadExtensionGuard::new(connection)?;
        connection.load_extension(library(), None::<&str>)
    }
}

/// A connection with the library.
pub fn connect(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path)?;
    load(&connection)?;
    Ok(connection)
}

/// Makes a table `t` with `days` days of `rows` rows each, ids from 1, that are all old.
pub fn fill(connection: &Connection, days: i64, rows: i64) -> Result<()> {
    connection.execute_batch(
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT, ts INTEGER)",
    )?;
    connection.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1 * ?2)
         INSERT INTO t SELECT i, 'row ' || i, 1700006400 + (i - 1) / ?2 * 86400 FROM n",
        [days, rows],
    )?;
    Ok(())
}

/// The single number that a query gives.
pub fn number(connection: &Connection, sql: &str) -> Result<i64> {
    connection.query_row(sql, [], |row| row.get(0))
}

/// Archives all rows of `t` before the instant, and says how many that were.
pub fn archive(connection: &Connection, before: &str) -> Result<i64> {
    let sql = format!(
        "SELECT archive_table('t', NULL, '{{\"before\":\"{before}\",\"batch_size\":100}}') ->> 'rows'"
    );
    number(connection, &sql)
}
