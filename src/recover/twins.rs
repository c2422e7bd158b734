//! Whether a row of a file is somewhere else, too: hot, or in a newer file.
//!
//! The PRIMARY KEY finds it, compared as the table does, or else the rowid. All values tell whether it is the
//! same row as it was: an application, or SQLite, may have given the key to another one since. Where the table
//! is gone only the values are left.

use rusqlite::types::Value as Owned;
use rusqlite::{Connection, Statement};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::error::{Error, Result};
use crate::format::decode::{DecodedColumn, Scratch};
use crate::format::file::OpenFile;
use crate::moving::read::{HotReader, plain};
use crate::schema::{Column, ROWID_COLUMN, Table, defaults};
use crate::sql::{self, quote};
use crate::time::canonical::MAX_LENGTH;
use crate::value::{Encoding, Value};

/// Where a row is besides its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    Nowhere,
    /// In the table.
    Hot,
    /// In a newer file.
    Newer,
    /// Its key is in one of these, with other values.
    OtherValues,
    /// Nowhere, but its rowid is, with other values.
    SameRowid,
}

/// Which rows of other files a row is looked for among.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Among {
    All,
    /// Those of which nothing said yet whether they count.
    New,
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

    /// A hash of all values of a row that are `shown`, each with its type.
    fn hash<'s>(
        &self,
        row: usize,
        shown: impl Iterator<Item = &'s Shown>,
        scratch: &mut Scratch,
    ) -> [u8; 16] {
        let mut hash = Xxh3::new();
        for shown in shown {
            let value = match shown {
                Shown::Stored(column) => self.value(*column, row, scratch),
                Shown::Default(value) => plain(value.into()),
            };
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

/// What a row of a file shows in a column of the table. Files that were written before and after ALTER TABLE
/// are compared by that.
enum Shown {
    /// The value of the file's column of this number.
    Stored(usize),
    /// The file was written before the column was added.
    Default(Owned),
}

/// The rows of a table that count so far: the hot ones, and those of files.
pub struct Twins<'a> {
    /// The ways to tell rows apart, the best first.
    ways: Vec<Way<'a>>,
    /// Of hot rows, if the table is there.
    reader: Option<HotReader>,
    /// Which stored column of the present file each of the table's columns is, as far as it is there.
    places: Vec<(usize, usize)>,
    /// What tells whether a row of the present file is the same as one of another.
    shown: Vec<Shown>,
    encoding: Encoding,
    scratch: Scratch,
}

impl<'a> Twins<'a> {
    /// `table` is where hot rows are, if it is there.
    pub fn new(connection: &'a Connection, table: Option<&Table>) -> Result<Self> {
        let encoding = sql::encoding(connection)?;
        let mut ways = Vec::new();
        let mut reader = None;
        match table {
            Some(table) => {
                let read = HotReader::new(table, encoding);
                let list = read.select_list();
                let key = table.declared_key(connection)?;
                if !key.is_empty() {
                    ways.push(Way::by_key(connection, table, key, &list)?);
                }
                if table.stores_rowid() {
                    ways.push(Way::by_rowid(connection, table, &list)?);
                }
                reader = Some(read);
            }
            None => ways.push(Way::by_values(connection)?),
        }
        Ok(Self {
            ways,
            reader,
            places: Vec::new(),
            shown: Vec::new(),
            encoding,
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
        // SQLite computes generated columns from the others.
        let compared = now.iter().filter(|column| column.generated.is_none());
        let shown = compared.map(|column| match place(column.id) {
            Some(place) => Ok(Shown::Stored(place)),
            None => defaults::of_older_rows(column, self.encoding).map(Shown::Default),
        });
        self.shown = shown.collect::<Result<_>>()?;
        let rowid = stored.iter().position(|column| column.name == ROWID_COLUMN);
        for way in &mut self.ways {
            let stored = way.columns.iter().map(|column| match column {
                Some(column) => place(now.get(*column)?.id),
                None => rowid,
            });
            way.stored = stored.collect();
            way.rowid = rowid.filter(|_| !way.is_key).map(Shown::Stored);
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
    pub fn find(&mut self, group: &Group, row: usize, among: Among) -> Result<Found> {
        let scratch = &mut self.scratch;
        let Some(way) = way(&mut self.ways, group, row, scratch) else {
            // Of a table with a key. A row whose key is malformed UTF-16 never moves, and none is NULL.
            return Ok(Found::Hot);
        };
        let hot = match &self.reader {
            Some(reader) => way.find_hot(group, row, (reader, &self.places), scratch)?,
            None => None,
        };
        if hot == Some(true) {
            return Ok(Found::Hot);
        }
        let mark = group.hash(row, self.shown.iter().chain(&way.rowid), scratch);
        Ok(
            match (way.find_met(group, row, (mark, among), scratch)?, hot) {
                (Some(true), _) => Found::Newer,
                (None, None) => Found::Nowhere,
                _ if way.is_key => Found::OtherValues,
                _ => Found::SameRowid,
            },
        )
    }

    /// Adds a row of the present file to those that count. `is_new` says that nothing but its file said so.
    pub fn add(&mut self, group: &Group, row: usize, is_new: bool) -> Result<()> {
        let scratch = &mut self.scratch;
        if let Some(way) = way(&mut self.ways, group, row, scratch) {
            let last = way.columns.len();
            bind_key(&mut way.insert, &way.stored, group, row, scratch)?;
            let mark = group.hash(row, self.shown.iter().chain(&way.rowid), scratch);
            way.insert.raw_bind_parameter(last + 1, mark)?;
            way.insert.raw_bind_parameter(last + 2, is_new)?;
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

/// A way to tell rows apart.
struct Way<'a> {
    connection: &'a Connection,
    /// The table's columns that find a row; `None` for the rowid.
    columns: Vec<Option<usize>>,
    /// Whether nothing but the same row, as it is or was, has the same in these columns, unless somebody chose
    /// so.
    is_key: bool,
    /// The key in the present file, if it is there.
    stored: Option<Vec<usize>>,
    /// The rowid in the present file, where a row that has another one cannot be the same.
    rowid: Option<Shown>,
    /// The hot row with a key.
    hot: Option<Statement<'a>>,
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
        list: &str,
    ) -> Result<Self> {
        let name = |column: usize| table.columns.get(column).map(|column| quote(&column.name));
        let terms = (1..).zip(&key).map(|(n, (column, collation))| {
            let name = name(*column).unwrap_or_default();
            format!("t.{name} = ?{n} COLLATE {}", quote(collation))
        });
        let terms: Vec<String> = terms.collect();
        let hot = format!(
            "SELECT {list} FROM {} t WHERE {}",
            table.qualified(),
            terms.join(" AND ")
        );
        let (columns, collations): (Vec<_>, Vec<_>) = key.into_iter().unzip();
        let columns = columns.into_iter().map(Some).collect();
        Self::new(connection, columns, &collations, Some(&hot), true)
    }

    fn by_rowid(connection: &'a Connection, table: &Table, list: &str) -> Result<Self> {
        let (from, key) = (table.qualified(), table.key_matches("t"));
        let hot = format!("SELECT {list} FROM {from} t WHERE {key}");
        let collations = ["BINARY".to_owned()];
        Self::new(connection, vec![None], &collations, Some(&hot), false)
    }

    /// For a table that is gone.
    fn by_values(connection: &'a Connection) -> Result<Self> {
        Self::new(connection, Vec::new(), &[], None, false)
    }

    fn new(
        connection: &'a Connection,
        columns: Vec<Option<usize>>,
        collations: &[String],
        hot: Option<&str>,
        is_key: bool,
    ) -> Result<Self> {
        let mut names: Vec<String> = (1..=columns.len()).map(|n| format!("k{n}")).collect();
        let mut list = String::new();
        for (name, collation) in names.iter().zip(collations) {
            list += &format!("{name} COLLATE {}, ", quote(collation));
        }
        // It is emptied, never dropped: DROP TABLE fails while the caller's own statement reads a table.
        // A key and a rowid that are equal are no twins.
        let kind = if is_key { "key" } else { "row" };
        let name = format!("temp._archive_met_{kind}_{:016x}", xxh3_64(list.as_bytes()));
        names.push("mark".to_owned());
        connection.execute_batch(&format!(
            "CREATE TABLE IF NOT EXISTS {name}
                 ({list} mark, is_new, PRIMARY KEY ({})) WITHOUT ROWID;
             DELETE FROM {name};",
            names.join(", ")
        ))?;
        // Without a key all is in the mark.
        let found = names.get(..columns.len().max(1)).unwrap_or_default();
        let terms = (1..).zip(found).map(|(n, name)| format!("{name} = ?{n}"));
        let terms: Vec<String> = terms.collect();
        let (terms, last) = (terms.join(" AND "), names.len());
        let met = format!(
            "SELECT max(mark = ?{last}) FROM {name} WHERE {terms} AND is_new >= ?{}",
            last + 1
        );
        let marks = vec!["?"; last + 1].join(", ");
        let insert = format!("INSERT OR IGNORE INTO {name} VALUES ({marks})");
        Ok(Self {
            connection,
            columns,
            is_key,
            stored: None,
            rowid: None,
            hot: hot.map(|hot| connection.prepare(hot)).transpose()?,
            met: connection.prepare(&met)?,
            insert: connection.prepare(&insert)?,
            name,
        })
    }

    /// Whether the hot row with a row's key has its values, as far as the file has them; `None` if there is
    /// none.
    fn find_hot(
        &mut self,
        group: &Group,
        row: usize,
        (reader, places): (&HotReader, &[(usize, usize)]),
        scratch: &mut Scratch,
    ) -> Result<Option<bool>> {
        let Some(statement) = &mut self.hot else {
            return Ok(None);
        };
        bind_key(statement, &self.stored, group, row, scratch)?;
        let mut rows = statement.raw_query();
        let Some(hot) = rows.next()? else {
            return Ok(None);
        };
        let mut same = true;
        for (column, place) in places {
            let cold = group.value(*place, row, scratch);
            let get = |n| hot.get_ref(n);
            same &= reader.read(get, *column, |value| value.same(cold))?;
        }
        Ok(Some(same))
    }

    /// Whether one of the rows of files with a row's key has its `mark`; `None` if there is none.
    fn find_met(
        &mut self,
        group: &Group,
        row: usize,
        (mark, among): ([u8; 16], Among),
        scratch: &mut Scratch,
    ) -> Result<Option<bool>> {
        let last = self.columns.len();
        bind_key(&mut self.met, &self.stored, group, row, scratch)?;
        self.met.raw_bind_parameter(last + 1, mark)?;
        self.met.raw_bind_parameter(last + 2, among == Among::New)?;
        let mut rows = self.met.raw_query();
        Ok(match rows.next()? {
            Some(row) => row.get(0)?,
            None => None,
        })
    }

    fn clear(self) -> Result<()> {
        let sql = format!("DELETE FROM {}", self.name);
        self.connection.execute(&sql, [])?;
        Ok(())
    }
}

/// Binds the key of a row of the present file, which is in the columns `stored`, as the first parameters.
fn bind_key(
    statement: &mut Statement<'_>,
    stored: &Option<Vec<usize>>,
    group: &Group,
    row: usize,
    scratch: &mut Scratch,
) -> Result<()> {
    for (index, column) in stored.iter().flatten().enumerate() {
        statement.raw_bind_parameter(index + 1, group.value(*column, row, scratch))?;
    }
    Ok(())
}
