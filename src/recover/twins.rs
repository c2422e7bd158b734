//! Whether a row of a file is somewhere else, too: hot, or in a newer file.
//!
//! The PRIMARY KEY tells, compared as the table does. Where a row has none, its rowid and all its values do,
//! as SQLite may have given the rowid to another row since.

use rusqlite::{Connection, Statement};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::archive::read::HotReader;
use crate::cold::decode::{DecodedColumn, Scratch};
use crate::cold::file::OpenFile;
use crate::error::{Error, Result};
use crate::sql::{self, quote};
use crate::stored::ROWID_COLUMN;
use crate::table::{Column, Table};
use crate::time::canonical::MAX_LENGTH;
use crate::value::{Encoding, Value};

/// Where a row is besides its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    Nowhere,
    /// In the table, be it with other values.
    Hot,
    /// In a newer file.
    Newer,
    /// Nowhere, but its rowid is, with other values.
    SameRowid,
}

/// A row group in memory.
pub struct Group {
    columns: Vec<DecodedColumn>,
}

impl Group {
    pub fn decode(file: &OpenFile, group: usize) -> Result<Self> {
        let columns = file.decode_all(group)?;
        Ok(Self { columns })
    }

    /// The value of a row in a stored column.
    fn value<'g>(&'g self, column: usize, row: usize, scratch: &'g mut Scratch) -> Value<'g> {
        let column = self.columns.get(column);
        column.map_or(Value::Null, |column| column.value(row, scratch))
    }

    /// A hash of all values of a row, each with its type.
    fn hash(&self, row: usize, scratch: &mut Scratch) -> [u8; 16] {
        let mut hash = Xxh3::new();
        for column in &self.columns {
            let value = column.value(row, scratch);
            let (class, number) = match value {
                Value::Null => (0_u8, 0),
                Value::Integer(integer) => (1, integer.cast_unsigned()),
                Value::Real(real) => (2, real.to_bits()),
                Value::Text(_) => (3, value.bytes().len() as u64),
                Value::RawText(..) => (4, value.bytes().len() as u64),
                Value::Blob(_) => (5, value.bytes().len() as u64),
            };
            hash.update(&[class]);
            hash.update(&number.to_le_bytes());
            hash.update(value.bytes());
        }
        hash.digest128().to_be_bytes()
    }
}

/// The rows of a table that count so far: the hot ones, and those of files.
pub struct Twins<'a> {
    /// The ways to tell rows apart, the best first.
    ways: Vec<Way<'a>>,
    reader: HotReader,
    /// Which stored column of the present file each of the table's columns is, as far as it is there.
    places: Vec<(usize, usize)>,
    scratch: Scratch,
}

impl<'a> Twins<'a> {
    pub fn new(connection: &'a Connection, table: &Table) -> Result<Self> {
        let reader = HotReader::new(table, sql::encoding(connection)?);
        let mut ways = Vec::new();
        let key = table.declared_key(connection)?;
        if !key.is_empty() {
            ways.push(Way::by_key(connection, table, key)?);
        }
        if table.stores_rowid() {
            ways.push(Way::by_rowid(connection, table, &reader.select_list())?);
        }
        Ok(Self {
            ways,
            reader,
            places: Vec::new(),
            scratch: [0; MAX_LENGTH],
        })
    }

    /// Goes on to another file. `now` are the table's columns, and `stored` those of the file, with their
    /// numbers.
    pub fn begin(&mut self, file: &OpenFile, now: &[Column], stored: &[Column]) -> Result<()> {
        let place = |id: u32| stored.iter().position(|column| column.id == id);
        let places = now.iter().enumerate();
        self.places = places
            .filter_map(|(number, column)| Some((number, place(column.id)?)))
            .collect();
        let rowid = stored.iter().position(|column| column.name == ROWID_COLUMN);
        for way in &mut self.ways {
            let stored = way.columns.iter().map(|column| match column {
                Some(column) => place(now.get(*column)?.id),
                None => rowid,
            });
            way.stored = stored.collect();
        }
        match self.ways.iter().any(|way| way.stored.is_some()) {
            true => Ok(()),
            false => Err(Error::refused(format!(
                "{}: it has not all columns that tell its rows apart, so it was not compared with others",
                file.path().display()
            ))),
        }
    }

    /// Looks for a row of the present file.
    pub fn find(&mut self, group: &Group, row: usize) -> Result<Found> {
        let scratch = &mut self.scratch;
        let Some(way) = way(&mut self.ways, group, row, scratch) else {
            // Of a table with a key. A row whose key is malformed UTF-16 never moves, and none is NULL.
            return Ok(Found::Hot);
        };
        way.bind_key(Which::Hot, group, row, scratch)?;
        let mut rows = way.hot.raw_query();
        let hot = match rows.next()? {
            None => None,
            Some(_) if !way.by_value => Some(true),
            Some(hot) => {
                let mut same = true;
                for (column, place) in &self.places {
                    let cold = group.value(*place, row, scratch);
                    let get = |n| hot.get_ref(n);
                    same &= self.reader.read(get, *column, |value| value.same(cold))?;
                }
                Some(same)
            }
        };
        drop(rows);
        if hot == Some(true) {
            return Ok(Found::Hot);
        }
        way.bind_key(Which::Met, group, row, scratch)?;
        let mark = way.mark(group, row, scratch);
        way.met.raw_bind_parameter(way.columns.len() + 1, mark)?;
        let mut rows = way.met.raw_query();
        let met: Option<bool> = match rows.next()? {
            Some(row) => row.get(0)?,
            None => None,
        };
        Ok(match (met, hot) {
            (Some(true), _) => Found::Newer,
            (Some(false), _) | (_, Some(_)) => Found::SameRowid,
            (None, None) => Found::Nowhere,
        })
    }

    /// Adds a row of the present file to those that count.
    pub fn add(&mut self, group: &Group, row: usize) -> Result<()> {
        let scratch = &mut self.scratch;
        if let Some(way) = way(&mut self.ways, group, row, scratch) {
            way.bind_key(Which::Insert, group, row, scratch)?;
            let mark = way.mark(group, row, scratch);
            way.insert.raw_bind_parameter(way.columns.len() + 1, mark)?;
            way.insert.raw_execute()?;
        }
        Ok(())
    }

    /// Forgets the rows of files.
    pub fn clear(self) -> Result<()> {
        self.ways.into_iter().try_for_each(Way::clear)
    }
}

/// The best way to tell a row from others.
fn way<'w, 'a>(
    ways: &'w mut [Way<'a>],
    group: &Group,
    row: usize,
    scratch: &mut Scratch,
) -> Option<&'w mut Way<'a>> {
    ways.iter_mut().find(|way| {
        let mut stored = way.stored.iter().flatten();
        way.stored.is_some()
            && stored.all(|column| {
                // SQLite has no way to take malformed UTF-16 as a parameter, and NULL equals nothing.
                !matches!(
                    group.value(*column, row, scratch),
                    Value::Null | Value::RawText(_, Encoding::Utf16le | Encoding::Utf16be)
                )
            })
    })
}

/// A statement of a [`Way`].
#[derive(Debug, Clone, Copy)]
enum Which {
    Hot,
    Met,
    Insert,
}

/// A way to tell rows apart.
struct Way<'a> {
    connection: &'a Connection,
    /// The table's columns that are the key; `None` for the rowid.
    columns: Vec<Option<usize>>,
    /// Whether rows that have the key can be others.
    by_value: bool,
    /// The key in the present file, if it is there.
    stored: Option<Vec<usize>>,
    /// The hot row with a key.
    hot: Statement<'a>,
    /// Whether rows of files with a key have a mark; NULL if there are none.
    met: Statement<'a>,
    insert: Statement<'a>,
    /// The TEMP table of these rows, which SQLite keeps on disk where it becomes large.
    name: String,
}

impl<'a> Way<'a> {
    fn by_key(
        connection: &'a Connection,
        table: &Table,
        key: Vec<(usize, String)>,
    ) -> Result<Self> {
        let name = |column: usize| table.columns.get(column).map(|column| quote(&column.name));
        let terms = (1..).zip(&key).map(|(n, (column, collation))| {
            let name = name(*column).unwrap_or_default();
            format!("t.{name} = ?{n} COLLATE {}", quote(collation))
        });
        let terms: Vec<String> = terms.collect();
        let hot = format!(
            "SELECT 1 FROM {} t WHERE {}",
            table.qualified(),
            terms.join(" AND ")
        );
        let (columns, collations): (Vec<_>, Vec<_>) = key.into_iter().unzip();
        let columns = columns.into_iter().map(Some).collect();
        Self::new(connection, columns, &collations, &hot, false)
    }

    fn by_rowid(connection: &'a Connection, table: &Table, list: &str) -> Result<Self> {
        let (from, key) = (table.qualified(), table.key_matches("t"));
        let hot = format!("SELECT {list} FROM {from} t WHERE {key}");
        Self::new(connection, vec![None], &["BINARY".to_owned()], &hot, true)
    }

    fn new(
        connection: &'a Connection,
        columns: Vec<Option<usize>>,
        collations: &[String],
        hot: &str,
        by_value: bool,
    ) -> Result<Self> {
        let names: Vec<String> = (1..=columns.len()).map(|n| format!("k{n}")).collect();
        let mut list = String::new();
        for (name, collation) in names.iter().zip(collations) {
            list += &format!("{name} COLLATE {}, ", quote(collation));
        }
        // It is emptied, never dropped: DROP TABLE fails while the caller's own statement reads a table.
        let name = format!("temp._archive_met_{:016x}", xxh3_64(list.as_bytes()));
        connection.execute_batch(&format!(
            "CREATE TABLE IF NOT EXISTS {name}
                 ({list} mark, PRIMARY KEY ({}, mark)) WITHOUT ROWID;
             DELETE FROM {name};",
            names.join(", ")
        ))?;
        let terms = (1..).zip(&names).map(|(n, name)| format!("{name} = ?{n}"));
        let terms: Vec<String> = terms.collect();
        let (terms, last) = (terms.join(" AND "), names.len() + 1);
        let met = format!("SELECT max(mark = ?{last}) FROM {name} WHERE {terms}");
        let marks = vec!["?"; last].join(", ");
        let insert = format!("INSERT OR IGNORE INTO {name} VALUES ({marks})");
        Ok(Self {
            connection,
            columns,
            by_value,
            stored: None,
            hot: connection.prepare(hot)?,
            met: connection.prepare(&met)?,
            insert: connection.prepare(&insert)?,
            name,
        })
    }

    fn bind_key(
        &mut self,
        which: Which,
        group: &Group,
        row: usize,
        scratch: &mut Scratch,
    ) -> Result<()> {
        let statement = match which {
            Which::Hot => &mut self.hot,
            Which::Met => &mut self.met,
            Which::Insert => &mut self.insert,
        };
        for (index, column) in self.stored.iter().flatten().enumerate() {
            statement.raw_bind_parameter(index + 1, group.value(*column, row, scratch))?;
        }
        Ok(())
    }

    /// What rows with the same key are told apart by: all values, or nothing.
    fn mark(&self, group: &Group, row: usize, scratch: &mut Scratch) -> [u8; 16] {
        match self.by_value {
            true => group.hash(row, scratch),
            false => [0; 16],
        }
    }

    fn clear(self) -> Result<()> {
        let sql = format!("DELETE FROM {}", self.name);
        self.connection.execute(&sql, [])?;
        Ok(())
    }
}
