//! The TEMP objects of a connection, and the statements that make ours.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::names;
use crate::error::Result;
use crate::snapshot::columns::{Mode, Shape};
use crate::snapshot::statements::{ALL, COLD, USING, cold_arm, hot_arm, object_names, using};
use crate::sql::quote;

/// An object that is to be there.
pub struct Wanted {
    pub name: String,
    /// As SQLite keeps it in `sqlite_schema`.
    sql: String,
}

impl Wanted {
    /// `cold_t`, or `all_t` of a table that is not there.
    pub fn cold(shape: &Shape) -> Self {
        let prefix = if shape.mode == Mode::Detached {
            ALL
        } else {
            COLD
        };
        let name = format!("{prefix}{}", shape.name);
        Self {
            sql: format!("CREATE VIRTUAL TABLE {} {}", quote(&name), using(shape)),
            name,
        }
    }

    /// `all_t`. The cold arm comes first: only then does SQLite offer it the ORDER BY of a query. Columns
    /// are qualified: SQLite takes a name in double quotes that is not a column any more for text.
    pub fn view(shape: &Shape) -> Self {
        let list = |prefix: &str| {
            let columns = shape.declared.iter();
            let names = columns.map(|column| format!("{prefix}{}", quote(&column.name)));
            names.collect::<Vec<_>>().join(", ")
        };
        let [cold, name] = object_names(&shape.name);
        Self {
            sql: format!(
                "CREATE VIEW {} AS SELECT {} {} SELECT {} {}",
                quote(&name),
                list("cold."),
                cold_arm(&cold),
                list("hot."),
                hot_arm(&shape.name)
            ),
            name,
        }
    }
}

/// An object of TEMP.
struct Object {
    /// `table` for virtual ones, too.
    kind: String,
    name: String,
    sql: String,
}

impl Object {
    /// The archived table whose virtual table it is.
    fn archived(&self) -> Option<i64> {
        let made = self.sql.strip_prefix("CREATE VIRTUAL TABLE ")?;
        let made = made.strip_prefix(&quote(&self.name))?.trim_start();
        let (id, _) = made.strip_prefix(USING)?.split_once(',')?;
        id.parse().ok()
    }

    /// Whether it is a view of ours.
    fn is_view(&self) -> bool {
        let start = format!("CREATE VIEW {} AS SELECT cold.", quote(&self.name));
        let Some(table) = self.name.strip_prefix(ALL) else {
            return false;
        };
        let arm = cold_arm(&format!("{COLD}{table}"));
        self.kind == "view" && self.sql.starts_with(&start) && self.sql.contains(&arm)
    }

    fn is_ours(&self) -> bool {
        self.archived().is_some() || self.is_view()
    }
}

/// All tables, views and indexes of TEMP.
pub struct Objects<'c> {
    connection: &'c Connection,
    /// By their names in lower case.
    all: BTreeMap<String, Object>,
}

impl<'c> Objects<'c> {
    pub fn read(connection: &'c Connection) -> Result<Self> {
        let sql = "SELECT type, name, sql FROM temp.sqlite_schema WHERE type <> 'trigger'";
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        let mut all = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let object = Object {
                kind: row.get(0)?,
                name: row.get(1)?,
                sql: row.get::<_, Option<String>>(2)?.unwrap_or_default(),
            };
            all.insert(object.name.to_ascii_lowercase(), object);
        }
        Ok(Self { connection, all })
    }

    fn get(&self, name: &str) -> Option<&Object> {
        self.all.get(&name.to_ascii_lowercase())
    }

    /// Whether an object of ours has the name.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some_and(Object::is_ours)
    }

    /// Fails if an object that is not ours has the name `new`, which `table` needs.
    pub fn check(&self, table: &str, new: &str) -> Result<()> {
        match self.get(new).filter(|object| !object.is_ours()) {
            Some(object) => Err(names::taken(table, &object.name)),
            None => Ok(()),
        }
    }

    /// Makes an object, unless there is one that is the same.
    pub fn make(&mut self, wanted: &Wanted) -> Result<()> {
        match self.get(&wanted.name) {
            Some(object) if object.sql == wanted.sql => return Ok(()),
            Some(_) => self.drop(&wanted.name)?,
            None => {}
        }
        let create = match wanted.sql.split_once(' ') {
            Some((create, rest)) if rest.starts_with("VIEW") => format!("{create} TEMP {rest}"),
            _ => wanted.sql.replacen("TABLE ", "TABLE temp.", 1),
        };
        Ok(self.connection.execute_batch(&create)?)
    }

    /// Drops an object, if it is there and ours.
    fn drop(&mut self, name: &str) -> Result<()> {
        if let Some(object) = self.get(name).filter(|object| object.is_ours()) {
            let drop = format!("DROP {} temp.{}", object.kind, quote(&object.name));
            self.connection.execute_batch(&drop)?;
            self.all.remove(&name.to_ascii_lowercase());
        }
        Ok(())
    }

    /// Drops those of ours that have one of the names.
    pub fn drop_all<'n>(&mut self, names: impl Iterator<Item = &'n str>) -> Result<()> {
        for name in names {
            self.drop(name)?;
        }
        Ok(())
    }

    /// Drops the virtual tables, and the views over them, of which `keep` does not say that they stay,
    /// by the archived table's id and the name that it had.
    pub fn retain(&mut self, keep: impl Fn(i64, &str) -> bool) -> Result<()> {
        let mut others = Vec::new();
        for object in self.all.values() {
            let Some(id) = object.archived() else {
                continue;
            };
            let cold = object.name.strip_prefix(COLD);
            let name = cold.or_else(|| object.name.strip_prefix(ALL));
            match name {
                Some(name) if keep(id, name) => {}
                Some(name) => others.extend(object_names(name)),
                None => others.push(object.name.clone()),
            }
        }
        self.drop_all(others.iter().map(String::as_str))
    }
}
