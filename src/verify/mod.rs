//! `archive_verify([table])`: reads every cold file again, and holds it against all that the catalog
//! says of it.
//!
//! - [`row`]: what the catalog says of a file
//! - [`values`]: what its values say

mod row;
pub mod shared_ids;
mod values;

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;

use rusqlite::{Connection, OptionalExtension};
use serde_json::{Value as Json, json};

pub use self::row::is_failure;

use self::row::CatalogRow;
use self::values::Values;
use crate::catalog;
use crate::catalog::columns;
use crate::catalog::identity::{self, Location};
use crate::catalog::tables;
use crate::error::{Error, Result};
use crate::format::file::OpenFile;
use crate::schema::Table;
use crate::settings::{self, Config};
use crate::sql::{read_transaction, unquote};
use crate::storage::Folder;
use crate::storage::read::{VerifiedFile, checksum};
use crate::value::Value;

/// Checks the files of one archived table, or of all. Problems are listed, not raised.
pub fn archive_verify(connection: &Connection, arguments: &[Value<'_>]) -> Result<Json> {
    let wanted = match arguments.first() {
        None | Some(Value::Null) => None,
        Some(Value::Text(name)) => Some(unquote(name)),
        Some(_) => return Err(Error::refused("the table's name must be text")),
    };
    let present = catalog::exists(connection)?;
    let mut table = None;
    if let Some(name) = wanted {
        let found = match present {
            true => identity::find(connection, &name)?,
            false => None,
        };
        let unknown = || Error::refused(format!("{name} has never been archived"));
        table = Some(found.ok_or_else(unknown)?.id);
    }
    let mut report = Report::default();
    if present {
        let files = row::ids(connection, table)?;
        if !files.is_empty() {
            let folder = settings::folder(connection, &Config::read(connection)?)?;
            for (file, path) in files {
                report.check(connection, &folder, file, &path)?;
            }
        }
        report.problems.extend(row::strays(connection, table)?);
        report.check_ids(connection, table)?;
    }
    Ok(json!({"files": report.files, "rows": report.rows, "problems": report.problems}))
}

#[derive(Default)]
struct Report {
    files: u64,
    rows: usize,
    problems: Vec<String>,
    /// Which file of the catalog each file on disk is.
    seen: HashMap<PathBuf, String>,
}

impl Report {
    /// Checks one file and its row of the catalog. It fails only if the database itself cannot be read.
    fn check(
        &mut self,
        connection: &Connection,
        folder: &Folder,
        file: i64,
        path: &str,
    ) -> Result<()> {
        let outcome =
            read_transaction(connection, || CatalogRow::read(connection, file)).and_then(|row| {
                match row {
                    // It was taken out of the catalog since the list was made.
                    None => Ok(None),
                    Some(row) => self
                        .check_file(folder, &row)
                        .map(|()| Some(row.entry.live_rows())),
                }
            });
        match outcome {
            Ok(None) => {}
            Ok(Some(cold)) => {
                self.files += 1;
                self.rows += cold;
            }
            Err(error) if row::is_failure(&error) => return Err(error),
            Err(error @ (Error::Damaged { .. } | Error::Io { .. })) => {
                if let Ok(None) = CatalogRow::read(connection, file) {
                    // It was taken out of the catalog since its row was read, and then removed.
                    return Ok(());
                }
                self.files += 1;
                let whose = owner(connection, folder, path)?.unwrap_or_default();
                self.problems.push(format!("{error}{whose}"));
            }
            Err(error) => {
                self.files += 1;
                let place = folder.root().join(path);
                let problem = format!("the catalog's row of {}: {error}", place.display());
                self.problems.push(problem);
            }
        }
        Ok(())
    }

    /// Looks for ids of a hot row that a cold one has, too.
    fn check_ids(&mut self, connection: &Connection, table: Option<i64>) -> Result<()> {
        for archived in tables::all(connection)? {
            if table.is_some_and(|table| table != archived.id) {
                continue;
            }
            // Others may rename the table meanwhile.
            match read_transaction(connection, || shared_ids(connection, archived.id)) {
                Ok(problem) => self.problems.extend(problem),
                // It is a cold file's, and known by now.
                Err(error) if is_own(&error) && !self.problems.is_empty() => {}
                Err(error) if is_own(&error) => {
                    self.problems
                        .push(format!("the ids of {}: {error}", archived.name));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn check_file(&mut self, folder: &Folder, row: &CatalogRow) -> Result<()> {
        let record = &row.entry.record;
        let bytes = VerifiedFile::open(folder, &record.path, &record.seal)?;
        let place = bytes.path().to_owned();
        // Before anything is made of them.
        bytes.check(record.seal.checksum)?;
        let file = OpenFile::open(folder, record)?;
        let real = place.canonicalize().map_err(Error::io(&place))?;
        if let Some(other) = self.seen.insert(real, record.path.clone()) {
            let reason = format!("{other} in the catalog is the same file");
            return Err(Error::refused(reason));
        }
        row.check_columns(&file)?;
        Values::read(&file, row)?.check(row)
    }
}

/// What is wrong with the ids of an archived table.
fn shared_ids(connection: &Connection, table: i64) -> Result<Option<String>> {
    let Some(archived) = tables::get(connection, table)?.filter(|table| table.has_files) else {
        return Ok(None);
    };
    let Location::Here(name) = identity::locate(connection, &archived)? else {
        return Ok(None);
    };
    let known = |hot: &Table| columns::follow(&name, &archived.columns, &hot.columns);
    // Where it is not certain which column is which, every query says so.
    let hot = Table::find(connection, &name)?.filter(|hot| known(hot).is_ok());
    let shared = hot
        .map(|hot| shared_ids::shared(connection, &hot, &archived))
        .transpose()?;
    Ok(shared.and_then(|shared| shared.problem(&name)))
}

/// Whether an error is one of ours, which SQLite has handed on, rather than one of the database.
fn is_own(error: &Error) -> bool {
    !matches!(error, Error::Sqlite(_)) || error.is_mistake()
}

/// If the file at `path` is, byte for byte, another one of the catalog: which.
fn owner(connection: &Connection, folder: &Folder, path: &str) -> Result<Option<String>> {
    let Ok((_, place)) = folder.open(path) else {
        return Ok(None);
    };
    let read = || {
        let file = File::open(&place).ok()?;
        checksum(&file, file.metadata().ok()?.len(), |_, _| {}).ok()
    };
    let Some(found) = read() else {
        return Ok(None);
    };
    let sql = "SELECT path FROM main._archive_file
               WHERE checksum = ?1 AND path <> ?2 AND typeof(path) = 'text'";
    let mut statement = connection.prepare(sql)?;
    let other = statement.query_row((found, path), |row| row.get::<_, String>(0));
    let other = other.optional()?;
    Ok(other.map(|other| format!("; it is the file {other}")))
}
