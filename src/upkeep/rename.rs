//! `archive_rename` and `archive_adopt`: the owner says which table cold rows belong to, where the
//! catalog cannot tell.

use std::collections::HashMap;

use rusqlite::Connection;
use serde_json::{Value as Json, json};

use crate::attach::{archive_attach, check_names};
use crate::catalog;
use crate::catalog::identity::{self, Location};
use crate::catalog::lookup;
use crate::catalog::tables::{self, ArchivedTable};
use crate::error::{Error, Result};
use crate::options::Object;
use crate::recover::lost;
use crate::settings::{self, Config};
use crate::sql::{literal, unquote, write_transaction};
use crate::value::Value;

/// `archive_rename(old, new [, options])`: the cold rows of `old`, which is not in the database any more,
/// belong to the table `new`, whose columns the option `columns` tells as in `archive_adopt`; or, if there
/// is no table of that name, they are kept under it.
pub fn archive_rename(connection: &Connection, arguments: &[Value<'_>]) -> Result<Json> {
    let (old, new) = (name(arguments, 0)?, name(arguments, 1)?);
    let told = told(arguments.get(2))?;
    change(connection, &old, |table| {
        if let Location::Here(present) = identity::locate(connection, table)? {
            return Err(Error::refused(format!(
                "{present} is in the database; rename it with ALTER TABLE, and its cold rows follow"
            )));
        }
        let other = tables::find(connection, &new)?.filter(|other| other.id != table.id);
        if other.as_ref().is_some_and(|other| other.has_files) {
            return Err(Error::refused(format!("{new} has cold rows of its own")));
        }
        check_names(connection, &new)?;
        if let Some(other) = other {
            identity::make_room(connection, other)?;
        }
        match lookup::find(connection, &new)? {
            // The same name: the table was created again, and that is what archive_adopt is for.
            Some(_) if new.eq_ignore_ascii_case(&table.name) => {
                Err(identity::recreated(&table.name))
            }
            Some(hot) => {
                let call = format!("archive_rename({}, {}", literal(&old), literal(&hot.name));
                identity::move_policy(connection, &table.name, &hot.name)?;
                table.name = hot.name;
                identity::adopt(connection, table, &told, &call)
            }
            None => {
                (table.name, table.place) = (new.clone(), None);
                tables::update(connection, table)
            }
        }
    })
}

/// `archive_adopt(table [, options])`: the table of this name, which was created again, goes on where
/// the archived one ended. The option `columns` says what became of columns where that is not
/// certain: the present name of each, or null if it was dropped.
pub fn archive_adopt(connection: &Connection, arguments: &[Value<'_>]) -> Result<Json> {
    let name = name(arguments, 0)?;
    let told = told(arguments.get(1))?;
    change(connection, &name, |table| {
        if let Location::Here(present) = identity::locate(connection, table)? {
            table.name = present;
        }
        let call = format!("archive_adopt({}", literal(&table.name));
        identity::adopt(connection, table, &told, &call)
    })
}

/// The option `columns`.
fn told(options: Option<&Value<'_>>) -> Result<HashMap<String, Option<String>>> {
    let options = options.copied().unwrap_or(Value::Null);
    let options = Object::parse(options, &["columns"])?;
    let Some(columns) = options.get("columns") else {
        return Ok(HashMap::new());
    };
    let refuse = || {
        Error::refused(format!(
            "option columns must be an object such as {{\"old\":\"new\",\"gone\":null}}, not {columns}"
        ))
    };
    let columns = columns.as_object().ok_or_else(refuse)?;
    let pair = |(old, new): (&String, &Json)| match new {
        Json::Null => Ok((old.clone(), None)),
        Json::String(new) => Ok((old.clone(), Some(new.clone()))),
        _ => Err(refuse()),
    };
    columns.iter().map(pair).collect()
}

fn name(arguments: &[Value<'_>], position: usize) -> Result<String> {
    match arguments.get(position) {
        Some(Value::Text(name)) if !unquote(name).is_empty() => Ok(unquote(name)),
        _ => Err(Error::refused("the table's name must be text")),
    }
}

/// Changes what the catalog knows of an archived table while no run is at work, and shows it under
/// its present name.
fn change(
    connection: &Connection,
    name: &str,
    mut body: impl FnMut(&mut ArchivedTable) -> Result<()>,
) -> Result<Json> {
    settings::check_writable(connection)?;
    lost::check(connection)?;
    let never = || Error::refused(format!("{name} has never been archived"));
    if !catalog::exists(connection)? {
        return Err(never());
    }
    let archive = settings::archive(connection, &Config::read(connection)?)?;
    let _lock = archive.lock()?;
    let table = write_transaction(connection, || {
        // What was looked up before belongs to the state before.
        let found = identity::find(connection, name)?.ok_or_else(never)?;
        identity::refresh(connection)?;
        let mut table = tables::get(connection, found.id)?.ok_or_else(never)?;
        body(&mut table)?;
        Ok(table)
    })?;
    let attached = archive_attach(connection, &[])?;
    Ok(json!({"table": table.name, "problems": attached["problems"]}))
}
