//! What SQLite knows of a table: its columns, and what identifies a row.

use std::borrow::Cow;

use rusqlite::Connection;
use serde_json::{Value as Json, json};

use crate::error::{Error, Result};
use crate::generated;
use crate::sql::{literal, quote};
use crate::stored::ROWID_COLUMN;

/// How SQLite prefers to store and compare a column's values
/// (<https://www.sqlite.org/datatype3.html#determination_of_column_affinity>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affinity {
    /// INTEGER, REAL and NUMERIC, which compare alike.
    Numeric,
    Text,
    /// BLOB, and columns without a type.
    Blob,
}

impl Affinity {
    fn of(declared_type: &str) -> Self {
        let upper = declared_type.to_ascii_uppercase();
        let has = |part: &str| upper.contains(part);
        if has("INT") {
            Self::Numeric
        } else if has("CHAR") || has("CLOB") || has("TEXT") {
            Self::Text
        } else if has("BLOB") || upper.is_empty() {
            Self::Blob
        } else {
            Self::Numeric
        }
    }
}

/// A column of a table, generated columns included.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// In the catalog it stays with the column through ALTER TABLE; 0 as SQLite describes it.
    pub id: u32,
    pub name: String,
    /// As declared; empty for none, and for ANY of a STRICT table, which has no affinity either.
    pub declared_type: String,
    pub collation: String,
    /// The SQL of its DEFAULT.
    pub default: Option<String>,
    /// The SQL of the expression that SQLite computes it by from others of the row, if it does.
    pub generated: Option<String>,
}

impl Column {
    /// The affinity that the declared type gives it.
    pub fn affinity(&self) -> Affinity {
        Affinity::of(&self.declared_type)
    }

    /// Whether its affinity is REAL, which turns an INTEGER into a REAL.
    pub fn stores_reals(&self) -> bool {
        let upper = self.declared_type.to_ascii_uppercase();
        self.affinity() == Affinity::Numeric
            && !upper.contains("INT")
            && ["REAL", "FLOA", "DOUB"]
                .iter()
                .any(|part| upper.contains(part))
    }

    /// Whether it is compared by a collation unless another is named.
    pub fn has_collation(&self, collation: &str) -> bool {
        self.collation.eq_ignore_ascii_case(collation)
    }

    /// Whether both have the same type and collation. Before SQLite 3.37 the type is as it was written, later
    /// ones show those they know in capitals, and leave GENERATED ALWAYS out.
    pub fn has_type_of(&self, other: &Self) -> bool {
        let declared =
            |column: &'_ Self| without_generated(&column.declared_type).to_ascii_lowercase();
        declared(self) == declared(other) && self.has_collation(&other.collation)
    }

    /// Its part of a CREATE TABLE statement: all that comparisons depend on. The type is in quotes, as in the
    /// table it may have been: without them it could be more than a type, such as NOT NULL.
    pub fn declaration(&self) -> String {
        let declared_type = match self.declared_type.as_str() {
            "" => String::new(),
            name => quote(&shown(name)),
        };
        let (name, collation) = (quote(&self.name), quote(&self.collation));
        format!("{name} {declared_type} COLLATE {collation}")
    }

    /// The column that files have beside those of a table whose rowid nobody chose.
    pub fn stored_rowid() -> Self {
        Self {
            id: 0,
            name: ROWID_COLUMN.to_owned(),
            declared_type: "INTEGER".to_owned(),
            collation: "BINARY".to_owned(),
            default: None,
            generated: None,
        }
    }

    fn to_json(&self) -> Json {
        json!({
            "id": self.id,
            "name": self.name,
            "type": self.declared_type,
            "collation": self.collation,
            "default": self.default,
            "generated": self.generated,
        })
    }

    fn from_json(json: &Json) -> Option<Self> {
        let text = |key: &str| json.get(key)?.as_str().map(str::to_owned);
        Some(Self {
            id: json.get("id")?.as_u64()?.try_into().ok()?,
            name: text("name")?,
            declared_type: text("type")?,
            collation: text("collation")?,
            default: text("default"),
            generated: text("generated"),
        })
    }
}

/// What tells one row of a table from all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// The 64-bit rowid, by one of its names that no column has taken.
    Rowid {
        name: &'static str,
        /// The INTEGER PRIMARY KEY column, which is another name of the rowid.
        alias: Option<usize>,
    },
    /// The PRIMARY KEY of a WITHOUT ROWID table: its columns, each with the collation that tells keys
    /// apart, which may be another than the column's own. One column can be there with several.
    Primary(Vec<(usize, String)>),
}

impl Key {
    /// The names of the rowid, as long as no column has them.
    const NAMES: [&'static str; 3] = ["rowid", "_rowid_", "oid"];

    /// The names of the rowid of a table with these columns.
    pub fn names_left(columns: &[Column]) -> impl Iterator<Item = &'static str> + use<'_> {
        let taken = |name: &str| columns.iter().any(|c| c.name.eq_ignore_ascii_case(name));
        Self::NAMES.into_iter().filter(move |name| !taken(name))
    }

    /// The key as the catalog keeps it.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Rowid { name, alias } => json!({"rowid": name, "alias": alias}),
            Self::Primary(columns) => json!({"primary": columns}),
        }
    }

    /// The reverse of [`Key::to_json`].
    pub fn from_json(json: &Json) -> Option<Self> {
        let number = |json: &Json| usize::try_from(json.as_u64()?).ok();
        if let Some(columns) = json.get("primary") {
            let columns = columns.as_array()?.iter().map(|pair| {
                let collation = pair.get(1)?.as_str()?.to_owned();
                Some((number(pair.get(0)?)?, collation))
            });
            return Some(Self::Primary(columns.collect::<Option<_>>()?));
        }
        let written = json.get("rowid")?.as_str()?;
        Some(Self::Rowid {
            name: Self::NAMES.into_iter().find(|name| *name == written)?,
            alias: match json.get("alias")? {
                Json::Null => None,
                alias => Some(number(alias)?),
            },
        })
    }
}

/// A table of the database `main`.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// As in the schema, whatever case the caller used.
    pub name: String,
    /// The CREATE TABLE statement.
    pub sql: String,
    pub columns: Vec<Column>,
    pub key: Key,
    /// SQLite never hands out a rowid of this table twice.
    pub autoincrement: bool,
    /// Columns of the primary key and of unique indexes.
    pub unique: Vec<usize>,
}

impl Table {
    /// Describes the table `name` of `main`, or `None` if there is no ordinary table of that name.
    pub fn find(connection: &Connection, name: &str) -> Result<Option<Self>> {
        let mut statement = connection.prepare(
            "SELECT name, sql FROM main.sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE",
        )?;
        let mut rows = statement.query([name])?;
        match rows.next()? {
            Some(row) => Ok(Some(Self::describe(connection, row.get(0)?, row.get(1)?)?)),
            None => Ok(None),
        }
    }

    fn describe(connection: &Connection, name: String, sql: String) -> Result<Self> {
        let strict = is_strict(connection, &name)?;
        let mut columns = Vec::new();
        let mut primary = Vec::new();
        let mut autoincrement = false;
        let mut expressions = generated::expressions(&sql);
        let mut statement = connection.prepare(
            "SELECT name, type, dflt_value, pk, hidden <> 0 FROM pragma_table_xinfo(?1, 'main')
             WHERE hidden <> 1 ORDER BY cid",
        )?;
        let mut rows = statement.query([&name])?;
        while let Some(row) = rows.next()? {
            let column: String = row.get(0)?;
            let declared: String = row.get::<_, Option<String>>(1)?.unwrap_or_default();
            let (position, generated): (usize, bool) = (row.get(3)?, row.get(4)?);
            let expression = expressions.remove(&column.to_ascii_lowercase());
            let metadata = connection.column_metadata(Some("main"), &*name, &*column)?;
            if position > 0 {
                primary.push((position, columns.len()));
            }
            autoincrement |= metadata.4;
            columns.push(Column {
                id: 0,
                declared_type: declared_type(declared, strict),
                collation: metadata.1.map_or_else(
                    || "BINARY".to_owned(),
                    |collation| collation.to_string_lossy().into_owned(),
                ),
                default: row.get(2)?,
                generated: generated.then(|| expression.unwrap_or_default()),
                name: column,
            });
        }
        primary.sort_unstable();
        let primary: Vec<usize> = primary.into_iter().map(|(_, column)| column).collect();
        let unique = unique_columns(connection, &name, &primary)?;
        let key = find_key(connection, &name, &columns, primary)?;
        Ok(Self {
            name,
            sql,
            columns,
            key,
            autoincrement,
            unique,
        })
    }

    /// The position of a column by its name, in any case.
    pub fn column(&self, name: &str) -> Option<usize> {
        let same = |column: &Column| column.name.eq_ignore_ascii_case(name);
        self.columns.iter().position(same)
    }

    /// The names of its columns, for a message.
    pub fn column_list(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|c| c.name.as_str()).collect();
        names.join(", ")
    }

    /// `main."name"`
    pub fn qualified(&self) -> String {
        format!("main.{}", quote(&self.name))
    }

    /// The SQL expressions that identify a row: the rowid, or the primary key's columns, compared as the
    /// primary key does.
    pub fn key_expressions(&self) -> Vec<String> {
        match &self.key {
            Key::Rowid { name, .. } => vec![(*name).to_owned()],
            Key::Primary(columns) => columns
                .iter()
                .filter_map(|(column, collation)| Some((self.columns.get(*column)?, collation)))
                .map(
                    |(column, collation)| match column.has_collation(collation) {
                        true => quote(&column.name),
                        false => format!("{} COLLATE {}", quote(&column.name), quote(collation)),
                    },
                )
                .collect(),
        }
    }

    /// The INTEGER PRIMARY KEY column.
    pub fn rowid_alias(&self) -> Option<usize> {
        match self.key {
            Key::Rowid { alias, .. } => alias,
            Key::Primary(_) => None,
        }
    }

    /// `t."a" = ?1 AND t."b" = ?2`: the row with a key, of the table by the name `alias`.
    pub fn key_matches(&self, alias: &str) -> String {
        let keys = self.key_expressions().into_iter().enumerate();
        let terms = keys.map(|(n, key)| format!("{alias}.{key} = ?{}", n + 1));
        terms.collect::<Vec<_>>().join(" AND ")
    }

    /// The columns by which the owner tells rows apart, each with its collation: the PRIMARY KEY. Empty if
    /// there is none.
    pub fn declared_key(&self, connection: &Connection) -> Result<Vec<(usize, String)>> {
        match &self.key {
            Key::Primary(columns) => Ok(columns.clone()),
            Key::Rowid {
                alias: Some(alias), ..
            } => Ok(vec![(*alias, "BINARY".to_owned())]),
            Key::Rowid { alias: None, .. } => primary_key(connection, &self.name, &self.columns),
        }
    }

    /// Whether SQLite may give a new row the rowid of one that is gone, which an application would
    /// take for an id it has seen.
    pub fn reuses_ids(&self) -> bool {
        self.rowid_alias().is_some() && !self.autoincrement
    }

    /// Whether the rowid must be stored beside the columns to come back.
    pub fn stores_rowid(&self) -> bool {
        matches!(self.key, Key::Rowid { alias: None, .. })
    }
}

/// The columns as the catalog keeps them, so that cold rows stay readable without the hot table.
pub fn columns_to_json(columns: &[Column]) -> String {
    Json::Array(columns.iter().map(Column::to_json).collect()).to_string()
}

/// The reverse of [`columns_to_json`].
pub fn columns_from_json(text: &str) -> Result<Vec<Column>> {
    serde_json::from_str::<Json>(text)
        .ok()
        .and_then(|json| json.as_array()?.iter().map(Column::from_json).collect())
        .ok_or_else(|| Error::refused("the catalog's list of columns is damaged"))
}

/// A type with which no column of a virtual table is hidden: SQLite takes the word HIDDEN, between spaces, for
/// more than a part of the type.
fn shown(declared_type: &str) -> Cow<'_, str> {
    let hides = |word: &str| word.eq_ignore_ascii_case("hidden");
    match declared_type.split(' ').any(hides) {
        true => Cow::Owned(format!("\t{}", declared_type.replace(' ', "\t"))),
        false => Cow::Borrowed(declared_type),
    }
}

/// ANY of a STRICT table has no affinity, which elsewhere only a column without a type has.
fn declared_type(declared: String, strict: bool) -> String {
    match strict && declared.eq_ignore_ascii_case("ANY") {
        true => String::new(),
        false => declared,
    }
}

/// A type without the words that SQLite takes for a part of it in some versions, and in others not.
fn without_generated(declared_type: &str) -> &str {
    let suffix = "GENERATED ALWAYS";
    let cut = declared_type.len().saturating_sub(suffix.len());
    match declared_type.get(cut..) {
        Some(end) if end.eq_ignore_ascii_case(suffix) => declared_type[..cut].trim_end(),
        _ => declared_type,
    }
}

fn is_strict(connection: &Connection, name: &str) -> Result<bool> {
    // A database with STRICT tables cannot be opened by SQLite before 3.37, which added this pragma.
    if rusqlite::version_number() < 3_037_000 {
        return Ok(false);
    }
    // As a function it would look at the tables of this name in all databases.
    let sql = format!("PRAGMA main.table_list({})", literal(name));
    Ok(connection.query_row(&sql, [], |row| row.get("strict"))?)
}

fn unique_columns(connection: &Connection, name: &str, primary: &[usize]) -> Result<Vec<usize>> {
    let mut statement = connection.prepare(
        "SELECT DISTINCT c.cid FROM pragma_index_list(?1, 'main') i,
                pragma_index_info(i.name, 'main') c
         WHERE i.\"unique\" AND c.cid >= 0",
    )?;
    let indexed = statement.query_map([name], |row| row.get(0))?;
    let mut unique = indexed.collect::<Result<Vec<usize>, _>>()?;
    unique.extend(primary);
    unique.sort_unstable();
    unique.dedup();
    Ok(unique)
}

fn find_key(
    connection: &Connection,
    table: &str,
    columns: &[Column],
    primary: Vec<usize>,
) -> Result<Key> {
    let Some(name) = Key::names_left(columns).next() else {
        return Err(Error::refused(format!(
            "{table} has columns named rowid, _rowid_ and oid, so its rows cannot be addressed; \
             rename one of them"
        )));
    };
    let qualified = format!("main.{}", quote(table));
    if connection
        .prepare(&format!("SELECT {name} FROM {qualified}"))
        .is_err()
    {
        return primary_key(connection, table, columns).map(Key::Primary);
    }
    // `INTEGER PRIMARY KEY DESC` is not an alias; what tells is that it has an index of its own.
    let has_index: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM pragma_index_list(?1, 'main') WHERE origin = 'pk')",
        [table],
        |row| row.get(0),
    )?;
    let alias = match primary[..] {
        [only] if !has_index => Some(only),
        _ => None,
    };
    Ok(Key::Rowid { name, alias })
}

/// The key columns of a WITHOUT ROWID table, as its index has them.
fn primary_key(
    connection: &Connection,
    table: &str,
    columns: &[Column],
) -> Result<Vec<(usize, String)>> {
    let mut statement = connection.prepare(
        "SELECT c.name, c.coll FROM pragma_index_list(?1, 'main') i,
                pragma_index_xinfo(i.name, 'main') c
         WHERE i.origin = 'pk' AND c.key ORDER BY c.seqno",
    )?;
    let found = statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut key = Vec::new();
    for column in found {
        let (name, collation): (String, String) = column?;
        let position = columns.iter().position(|column| column.name == name);
        key.extend(position.map(|position| (position, collation)));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinity_follows_the_documented_rules() {
        for (declared, affinity) in [
            ("INTEGER", Affinity::Numeric),
            ("CHARINT", Affinity::Numeric),
            ("VARCHAR(10)", Affinity::Text),
            ("NCLOB", Affinity::Text),
            ("BLOB", Affinity::Blob),
            ("", Affinity::Blob),
            ("DOUBLE", Affinity::Numeric),
            ("DECIMAL(10,5)", Affinity::Numeric),
            ("DATETIME", Affinity::Numeric),
        ] {
            assert_eq!(Affinity::of(declared), affinity, "{declared}");
        }
    }

    #[test]
    fn types_are_the_same_whatever_the_version_shows() {
        let column = |declared_type: &str| Column {
            declared_type: declared_type.to_owned(),
            ..Column::stored_rowid()
        };
        for (one, other, same) in [
            ("integer", "INTEGER", true),
            ("INT GENERATED ALWAYS", "INT", true),
            ("GENERATED ALWAYS", "", true),
            ("TEXT", "INT", false),
        ] {
            assert_eq!(
                column(one).has_type_of(&column(other)),
                same,
                "{one} {other}"
            );
        }
        assert_eq!(declared_type("ANY".to_owned(), true), "");
        assert_eq!(declared_type("ANY".to_owned(), false), "ANY");
    }

    #[test]
    fn columns_survive_the_catalog() {
        let columns = vec![Column {
            id: 3,
            name: "a \"b\"".into(),
            declared_type: "TEXT".into(),
            collation: "NOCASE".into(),
            default: Some("'x'".into()),
            generated: Some("b + 1".into()),
        }];
        assert_eq!(
            columns_from_json(&columns_to_json(&columns)).unwrap(),
            columns
        );
        assert!(columns_from_json("{}").is_err());
    }
}
