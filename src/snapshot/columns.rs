//! The columns of `cold_t`, and which column of a cold file each is, after ALTER TABLE too.

use once_cell::unsync::OnceCell;
use rusqlite::types::Value as Owned;
use serde_json::{Value as Json, json};

use super::retyped::Storing;
use crate::catalog::columns::follow;
use crate::catalog::tables::ArchivedTable;
use crate::error::{Error, Result};
use crate::schema::{Affinity, Column, Key, ROWID_COLUMN, defaults};
use crate::sql::{literal, quote};
use crate::value::Encoding;

/// The hidden column with the number by which `cold_t` tells its rows. No table's column has such a name.
pub const ROW: &str = "_archive_row";

/// What a virtual table of this kind is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `cold_t`, of which `all_t` is a union with the hot table.
    Joined,
    /// `cold_t` of a table that is not in the database.
    Alone,
    /// `all_t` of such a table: every query fails and says why.
    Detached,
}

impl Mode {
    pub const ALL: [Self; 3] = [Self::Joined, Self::Alone, Self::Detached];

    /// Its name in the statement.
    pub fn name(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Alone => "alone",
            Self::Detached => "detached",
        }
    }
}

/// What a column of `cold_t` shows.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    /// The table's column of this number.
    Column(usize),
    /// The rowid that files carry beside the columns.
    Rowid,
    /// A number that no other cold row of the table has.
    Row,
}

/// A column of `cold_t`.
#[derive(Debug, Clone)]
pub struct ColdColumn {
    pub source: Source,
    pub affinity: Affinity,
    /// Whether text in it is compared by the BINARY collation, if a query does not say otherwise.
    pub binary: bool,
    /// It alone is the key: no two rows of the hot table have the same value.
    pub unique: bool,
    /// It is the rowid, or another name of it: only integers.
    pub is_rowid: bool,
}

/// What `cold_t` looks like.
#[derive(Debug)]
pub struct Shape {
    /// Of the archived table: in the catalog, and when the shape was made.
    pub table: i64,
    pub name: String,
    pub mode: Mode,
    /// The archived table's columns.
    pub declared: Vec<Column>,
    /// What identifies a row of the table, if that is in the database.
    key: Option<Key>,
    /// The columns of `cold_t`: those, and hidden ones. They show the rowid that a row had, or has, in its table,
    /// by each of its names that no column has taken, and [`ROW`].
    pub columns: Vec<ColdColumn>,
    /// Their names.
    pub names: Vec<String>,
    /// Of the database.
    pub encoding: Encoding,
    /// `None` for a column that SQLite computes.
    defaults: OnceCell<Vec<Option<Owned>>>,
}

impl Shape {
    pub fn new(
        table: i64,
        name: String,
        mode: Mode,
        declared: Vec<Column>,
        key: Option<Key>,
        encoding: Encoding,
    ) -> Self {
        let mut columns = Vec::with_capacity(declared.len() + 1);
        for (index, column) in declared.iter().enumerate() {
            let is_rowid =
                matches!(&key, Some(Key::Rowid { alias: Some(alias), .. }) if *alias == index);
            // Under another collation than that of the key, several rows may be equal.
            let is_key = matches!(
                &key,
                Some(Key::Primary(key))
                    if matches!(&key[..], [(only, collation)]
                        if *only == index && column.has_collation(collation))
            );
            columns.push(ColdColumn {
                source: Source::Column(index),
                affinity: column.affinity(),
                binary: column.collation.eq_ignore_ascii_case("BINARY"),
                unique: is_rowid || is_key,
                is_rowid,
            });
        }
        let mut names: Vec<String> = declared.iter().map(|column| column.name.clone()).collect();
        if let Some(Key::Rowid { alias, .. }) = &key {
            for rowid in Key::names_left(&declared) {
                columns.push(ColdColumn {
                    source: alias.map_or(Source::Rowid, Source::Column),
                    affinity: Affinity::Numeric,
                    binary: true,
                    unique: true,
                    is_rowid: true,
                });
                names.push(rowid.to_owned());
            }
        }
        columns.push(ColdColumn {
            source: Source::Row,
            affinity: Affinity::Numeric,
            binary: true,
            unique: true,
            is_rowid: false,
        });
        names.push(ROW.to_owned());
        Self {
            table,
            name,
            mode,
            declared,
            key,
            columns,
            names,
            encoding,
            defaults: OnceCell::new(),
        }
    }

    /// The column of this number, if SQLite names one that files can have.
    pub fn column(&self, number: Option<usize>) -> Option<(usize, &ColdColumn)> {
        let number = number?;
        let column = self.columns.get(number)?;
        (!matches!(column.source, Source::Row)).then_some((number, column))
    }

    /// The number of the column [`ROW`].
    pub fn row_column(&self) -> Option<usize> {
        let is_row = |column: &ColdColumn| matches!(column.source, Source::Row);
        self.columns.iter().position(is_row)
    }

    /// The statement that declares the columns to SQLite.
    pub fn declaration(&self) -> String {
        let mut columns: Vec<String> = self.declared.iter().map(Column::declaration).collect();
        let hidden = self.names.iter().skip(self.declared.len());
        columns.extend(hidden.map(|name| format!("{} INTEGER HIDDEN", quote(name))));
        format!("CREATE TABLE x({})", columns.join(", "))
    }

    /// What is to be known of the shape where no SQL can be run, for [`Shape::from_json`].
    pub fn to_json(&self) -> String {
        let columns = self.declared.iter().map(|column| {
            json!([
                column.name,
                column.declared_type,
                column.collation,
                column.default,
                column.generated
            ])
        });
        json!({
            "encoding": self.encoding.name(),
            "key": self.key.as_ref().map(Key::to_json),
            "columns": columns.collect::<Vec<_>>(),
        })
        .to_string()
    }

    /// The reverse of [`Shape::to_json`]. `None` if that is not what made `text`.
    pub fn from_json(table: i64, name: &str, mode: Mode, text: &str) -> Option<Self> {
        let json: Json = serde_json::from_str(text).ok()?;
        let column = |json: &Json| {
            let text = |position: usize| Some(json.get(position)?.as_str()?.to_owned());
            Some(Column {
                id: 0,
                name: text(0)?,
                declared_type: text(1)?,
                collation: text(2)?,
                default: text(3),
                generated: text(4),
            })
        };
        let columns = json.get("columns")?.as_array()?.iter().map(column);
        let key = match json.get("key")? {
            Json::Null => None,
            key => Some(Key::from_json(key)?),
        };
        let encoding = Encoding::from_name(json.get("encoding")?.as_str()?)?;
        let columns = columns.collect::<Option<_>>()?;
        Some(Self::new(
            table,
            name.to_owned(),
            mode,
            columns,
            key,
            encoding,
        ))
    }

    /// Which of the columns known to the catalog each of the archived table's columns is.
    pub fn ids(&self, archived: &ArchivedTable) -> Result<Vec<Option<u32>>> {
        match archived.has_files {
            true => follow(&self.name, &archived.columns, &self.declared),
            false => Ok(vec![None; self.declared.len()]),
        }
    }

    /// Where each column of `cold_t` is among the columns `stored` of a file. `ids` are those of the
    /// archived table's columns.
    pub fn positions(&self, ids: &[Option<u32>], stored: &[Column]) -> Vec<Option<usize>> {
        let position = |column: &ColdColumn| match column.source {
            Source::Column(column) => {
                let id = (*ids.get(column)?)?;
                stored.iter().position(|stored| stored.id == id)
            }
            Source::Rowid => stored.iter().position(|stored| stored.name == ROWID_COLUMN),
            Source::Row => None,
        };
        self.columns.iter().map(position).collect()
    }

    /// The columns of `cold_t` whose values in a file with the columns `stored` become others when they are
    /// stored in the table as it is now. `positions` are those of [`Shape::positions`].
    pub fn retyped(&self, positions: &[Option<usize>], stored: &[Column]) -> Vec<(usize, Storing)> {
        let storing = |(index, (column, position)): (usize, (&ColdColumn, &Option<usize>))| {
            let Source::Column(number) = column.source else {
                return None;
            };
            let (then, now) = (stored.get((*position)?)?, self.declared.get(number)?);
            Some((index, Storing::between(then, now)?))
        };
        let columns = self.columns.iter().zip(positions).enumerate();
        columns.filter_map(storing).collect()
    }

    /// Finds out what [`Shape::default`] says.
    pub fn learn_defaults(&self) -> Result<()> {
        let default = |column: &Column| match column.generated.is_some() {
            true => Ok(None),
            false => defaults::of_older_rows(column, self.encoding).map(Some),
        };
        let defaults = || self.declared.iter().map(default).collect::<Result<_>>();
        self.defaults.get_or_try_init(defaults).map(|_| ())
    }

    /// What rows of files without the column show: they were written before ADD COLUMN. Whoever has read
    /// the table's state can ask. `None` if only SQLite can compute it, from a row of the hot table.
    pub fn default(&self, column: usize) -> Option<&Owned> {
        let defaults = self.defaults.get().map_or(&[][..], Vec::as_slice);
        defaults
            .get(column)
            .map_or(Some(&Owned::Null), Option::as_ref)
    }

    /// [`Shape::default`] where there must be one.
    pub fn shown(&self, column: usize) -> Result<&Owned> {
        self.default(column)
            .ok_or_else(|| self.not_computed(column))
    }

    /// The error for a column that has another type by now, where rows cannot be converted as they are read.
    #[cfg(feature = "duckdb")]
    pub fn other_type(&self, column: usize) -> Error {
        let name = self.names.get(column).map_or("", String::as_str);
        Error::refused(format!(
            "{name} of {} had another type when rows were archived, so DuckDB cannot read it; archive_restore({}), \
             and archive them again",
            self.name,
            literal(&self.name),
        ))
    }

    /// The error for a generated column that the rows were archived without.
    fn not_computed(&self, column: usize) -> Error {
        let name = self.names.get(column).map_or("", String::as_str);
        Error::refused(format!(
            "{name} of {} is a generated column that was added, or changed, after rows were archived, so it is not known \
             of them; archive_restore({}), and archive them again",
            self.name,
            literal(&self.name),
        ))
    }
}
