//! Copies of the catalog in the archive folder. The catalog lives in the user's database, where a
//! migration tool that does not know its tables may drop them.

use std::path::Path;

use rusqlite::types::ToSqlOutput;
use rusqlite::{Connection, OpenFlags, params_from_iter};
use serde_json::{Value as Json, json};

use super::copies::former;
use crate::catalog;
use crate::error::Result;
use crate::settings::{self, Config};
use crate::sql::{read_transaction, write_transaction};
use crate::sqlite::filename::database_path;
use crate::storage::{Archive, Folder};
use crate::time::clock;

/// Copies the catalog after a run, and says how that went: it is no failure of what the run did. Inside
/// the caller's transaction the catalog is not that of the database yet, and the next run copies it.
pub fn after_run(connection: &Connection, config: &Config) -> Json {
    if !connection.is_autocommit() {
        return json!("by the next run");
    }
    let copied = settings::archive(connection, config).and_then(|archive| {
        let _lock = archive.lock()?;
        save(connection, &archive)
    });
    match copied {
        Ok(()) => json!("done"),
        Err(error) => json!({"error": error.to_string()}),
    }
}

/// Copies the catalog. The archive's lock must be held.
pub fn save(connection: &Connection, archive: &Archive) -> Result<()> {
    let copies = archive.copies();
    let former = match copies.list()?.is_empty() {
        true => former(
            connection,
            &archive.folder,
            &catalog::meta::<String>(connection, "database_id")?,
            true,
        )?,
        false => None,
    };
    // Nobody else archives now. Whoever has in a transaction that is still open has committed it, or rolled it
    // back, once this one begins: no file from before is published after the copy was made.
    let copied_at = write_transaction(connection, || Ok(clock::stamp()))?;
    copies.add(|path| write(connection, &archive.folder, (path, copied_at)))?;
    // Those of its former name would be taken for copies of whatever database has that next.
    former.map_or(Ok(()), |former| former.copies.remove())
}

/// Fills an empty file with the catalog's tables, as they are in one snapshot, which is no older than
/// `copied_at`.
fn write(
    connection: &Connection,
    folder: &Folder,
    (path, copied_at): (&Path, String),
) -> Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let copy = Connection::open_with_flags(path, flags)?;
    // If anything fails the file goes; if nothing does, it is synced in the end.
    copy.query_row("PRAGMA journal_mode = OFF", [], |_| Ok(()))?;
    copy.execute_batch("PRAGMA synchronous = OFF; BEGIN")?;
    catalog::create_tables(&copy)?;
    read_transaction(connection, || {
        catalog::TABLES
            .iter()
            .try_for_each(|table| copy_rows(connection, &copy, table))
    })?;
    let database = database_path(connection).unwrap_or_default();
    // A path that is not UTF-8 would look like others.
    let place = |path: &Path| path.to_str().unwrap_or_default().to_owned();
    let about = [
        ("copied_at", copied_at),
        ("database", place(&database)),
        ("folder", place(folder.root())),
    ];
    for pair in about {
        copy.execute("INSERT INTO main._archive_meta VALUES (?1, ?2)", pair)?;
    }
    copy.execute_batch("COMMIT")?;
    copy.close().map_err(|(_, error)| error.into())
}

/// Adds the rows of a catalog table to that of another database, as far as it has room for them.
pub fn copy_rows(from: &Connection, to: &Connection, table: &str) -> Result<()> {
    let mut select = from.prepare(&format!("SELECT * FROM main.{table}"))?;
    let width = select.column_count();
    let marks = vec!["?"; width].join(", ");
    let mut insert = to.prepare(&format!(
        "INSERT OR IGNORE INTO main.{table} VALUES ({marks})"
    ))?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let values = (0..width).map(|column| Ok(ToSqlOutput::Borrowed(row.get_ref(column)?)));
        let values = values.collect::<Result<Vec<_>>>()?;
        insert.execute(params_from_iter(values))?;
    }
    Ok(())
}
