//! What SQLite knows of a table: its columns, and what identifies a row.

use rusqlite::Connection;
use serde_json::{Value as Json, json};

use super::column::Column;
use super::generated;
use crate::error::{Error, Result};
use crate::sql::{literal, quote};

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

/// ANY of a STRICT table has no affinity, which elsewhere only a column without a type has.
fn declared_type(declared: String, strict: bool) -> String {
    match strict && declared.eq_ignore_ascii_case("ANY") {
        true => String::new(),
        false => declared,
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
    let rowid = connection.prepare(&format!("SELECT {name} FROM {qualified}"));
    match rowid.map(drop).map_err(Error::from) {
        Ok(()) => {}
        // No such column.
        Err(error) if error.is_mistake() => {
            return primary_key(connection, table, columns).map(Key::Primary);
        }
        Err(error) => return Err(error),
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
    fn any_has_no_affinity_in_a_strict_table_alone() {
        assert_eq!(declared_type("ANY".to_owned(), true), "");
        assert_eq!(declared_type("ANY".to_owned(), false), "ANY");
    }
}
