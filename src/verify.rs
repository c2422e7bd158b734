//! `archive_verify([table])`: reads every cold file again.

use rusqlite::Connection;
use serde_json::{Value as Json, json};

use crate::catalog::files::{self, FileEntry};
use crate::catalog::{self, tables};
use crate::cold::file::OpenFile;
use crate::error::{Error, Result};
use crate::settings::{self, Config};
use crate::sql::unquote;
use crate::storage::Folder;
use crate::time::canonical::MAX_LENGTH;
use crate::value::Value;

/// Checks the files of one archived table, or of all. Problems are listed, not raised.
pub fn archive_verify(connection: &Connection, arguments: &[Value<'_>]) -> Result<Json> {
    let wanted = match arguments.first() {
        None | Some(Value::Null) => None,
        Some(Value::Text(name)) => Some(unquote(name)),
        Some(_) => return Err(Error::refused("the table's name must be text")),
    };
    let mut tables = match catalog::exists(connection)? {
        true => tables::all(connection)?,
        false => Vec::new(),
    };
    if let Some(name) = wanted {
        tables.retain(|table| table.name.eq_ignore_ascii_case(&name));
        if tables.is_empty() {
            return Err(Error::refused(format!("{name} has never been archived")));
        }
    }
    let (mut count, mut rows) = (0_u64, 0_usize);
    let mut problems = Vec::new();
    if !tables.is_empty() {
        let folder = settings::folder(connection, &Config::read(connection)?)?;
        for table in tables {
            let tombstones = files::tombstones(connection, table.id)?;
            for entry in files::all(connection, table.id)? {
                count += 1;
                let buried = tombstones.get(&entry.id).map_or(&[][..], Vec::as_slice);
                match check(connection, &folder, &entry, buried) {
                    Ok(cold) => rows += cold,
                    Err(error) => problems.push(error.to_string()),
                }
            }
        }
    }
    Ok(json!({"files": count, "rows": rows, "problems": problems}))
}

/// Checks the bytes of a file, decodes all its values, holds them against the catalog's ranges, and
/// counts the rows that count.
fn check(
    connection: &Connection,
    folder: &Folder,
    entry: &FileEntry,
    tombstones: &[usize],
) -> Result<usize> {
    let file = OpenFile::open(folder, &entry.record)?;
    let place = file.path().to_owned();
    if file.checksum()? != entry.record.seal.checksum {
        return Err(Error::damaged(&place)("its checksum is not the catalog's"));
    }
    let mut scratch = [0; MAX_LENGTH];
    for (index, column) in file.columns().iter().enumerate() {
        let known = files::range(connection, entry, &column.name)?
            .ok_or_else(|| format!("the catalog has no range for its column {}", column.name))
            .map_err(Error::damaged(&place))?;
        for group in 0..file.row_groups() {
            let decoded = file.decode(group, index)?;
            for row in 0..decoded.rows() {
                let value = decoded.value(row, &mut scratch);
                if !known.contains(value) {
                    let reason = format!(
                        "column {} has a value outside the catalog's range",
                        column.name
                    );
                    return Err(Error::damaged(&place)(reason));
                }
            }
        }
    }
    let buried = tombstones
        .iter()
        .filter(|row| **row < entry.published)
        .count();
    Ok(entry.published - buried)
}
