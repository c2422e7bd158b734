//! One look at `sqlite_schema`: which tables the database has, and in which places.

use std::collections::HashMap;

use once_cell::unsync::OnceCell;
use rusqlite::Connection;

use super::tables::Place;
use crate::error::{Error, Result};

/// The empty table that comes after every registered one.
pub const ANCHOR: &str = "_archive_anchor";

/// A table of the database.
pub struct Entry {
    pub place: Place,
    /// As it is written there.
    pub name: String,
    /// The CREATE TABLE statement.
    pub sql: String,
    /// Whether its rank says anything: it is not SQLite's own, which come and go by themselves, and
    /// not a virtual table, which VACUUM moves to the end.
    ranked: bool,
}

impl Entry {
    /// How the CREATE TABLE statement begins, up to the columns.
    pub fn head(&self) -> &str {
        let head = self.sql.split('(').next();
        head.unwrap_or_default().trim_end()
    }
}

/// All tables of `main`, in the order of `sqlite_schema`.
pub struct Places {
    entries: Vec<Entry>,
    /// By their names in lower case.
    names: OnceCell<HashMap<String, usize>>,
}

impl Places {
    pub fn read(connection: &Connection) -> Result<Self> {
        let sql = "SELECT rowid, name, sql, rootpage FROM main.sqlite_schema
                   WHERE type = 'table' ORDER BY rowid";
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        let (mut entries, mut rank) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            let name: String = row.get(1)?;
            let ranked = row.get::<_, Option<i64>>(3)? > Some(0) && !is_own(&name);
            let rowid = row.get(0)?;
            entries.push(Entry {
                place: Place { rowid, rank },
                name,
                sql: row.get::<_, Option<String>>(2)?.unwrap_or_default(),
                ranked,
            });
            rank += i64::from(ranked);
        }
        Ok(Self {
            entries,
            names: OnceCell::new(),
        })
    }

    /// The table of this name, in any case.
    pub fn named(&self, name: &str) -> Option<&Entry> {
        let names = self.names.get_or_init(|| {
            let numbered = self.entries.iter().enumerate();
            let named = numbered.map(|(number, entry)| (entry.name.to_ascii_lowercase(), number));
            named.collect()
        });
        self.entries.get(*names.get(&name.to_ascii_lowercase())?)
    }

    /// The table in a place of `sqlite_schema`.
    pub fn at(&self, rowid: i64) -> Option<&Entry> {
        let entries = &self.entries;
        let found = entries.binary_search_by_key(&rowid, |entry| entry.place.rowid);
        entries.get(found.ok()?)
    }

    /// The table that so many come before.
    pub fn ranked(&self, rank: i64) -> Option<&Entry> {
        let first = self
            .entries
            .partition_point(|entry| entry.place.rank < rank);
        let mut rest = self.entries.iter().skip(first);
        rest.find(|entry| entry.ranked && entry.place.rank == rank)
    }

    pub fn anchor(&self) -> Result<Place> {
        let mut entries = self.entries.iter();
        let anchor = entries.find(|entry| entry.name.eq_ignore_ascii_case(ANCHOR));
        anchor.map(|entry| entry.place).ok_or_else(|| {
            Error::refused(format!(
                "the archive catalog is damaged: it has no table {ANCHOR}; archive_recover() makes it again"
            ))
        })
    }
}

/// Whether a table of this name is SQLite's own.
fn is_own(name: &str) -> bool {
    let start = name.get(.."sqlite_".len());
    start.is_some_and(|start| start.eq_ignore_ascii_case("sqlite_"))
}
