//! `archive_policy` and `archive_policy_drop`: which tables the nightly run archives, and how.

use rusqlite::Connection;
use rusqlite::types::Value as Owned;
use serde_json::{Value as Json, json};

use crate::archive::check;
use crate::archive::options;
use crate::archive::plan::Rule;
use crate::catalog;
use crate::catalog::identity;
use crate::catalog::policies::{self, PolicyRecord};
use crate::catalog::tables;
use crate::error::{Error, Result};
use crate::options::Object;
use crate::recover::lost;
use crate::schema::Table;
use crate::schema::condition::stored;
use crate::settings::{self, Config};
use crate::sql::{literal, quote, unquote, write_transaction};
use crate::storage::folder_name;
use crate::value::Value;

/// What a hot_days that names an environment variable begins with.
const VARIABLE: &str = "env:";
/// The priority of a policy that does not say.
const PRIORITY: i64 = 100;

/// `archive_policy(table, hot_days [, options])`: registers a table for `archive_run`, or changes its
/// policy. Everything is checked now rather than at night.
pub fn archive_policy(connection: &Connection, arguments: &[Value<'_>]) -> Result<Json> {
    let [table, hot_days, rest @ ..] = arguments else {
        return Err(Error::Internal("too few arguments".into()));
    };
    let table = check::find_table(connection, *table)?;
    let known: Vec<&str> = ["priority", "enabled"]
        .into_iter()
        .chain(options::KNOWN)
        .collect();
    let mut object = Object::parse(rest.first().copied().unwrap_or(Value::Null), &known)?;
    let enabled = object.switch("enabled")?.unwrap_or(true);
    object.remove("enabled");
    let priority = object.whole("priority", "a whole number (the least goes first)")?;
    let priority = priority.unwrap_or(PRIORITY);
    object.remove("priority");
    let hot_days = match (*hot_days, hot_days.whole()) {
        (_, Some(days)) => Owned::Integer(days),
        (Value::Text(text), _) if text.starts_with(VARIABLE) => Owned::Text(text.to_owned()),
        (Value::Null, _) if object.get("before").is_none() => {
            return Err(Error::refused(
                "hot_days is NULL; give a number of days, or 'env:NAME'",
            ));
        }
        _ => {
            return Err(Error::refused(
                "hot_days must be a whole number of days, or 'env:' and the name of an environment \
                 variable; a policy has no fixed cutoff",
            ));
        }
    };
    let policy = PolicyRecord {
        table: table.name.clone(),
        hot_days,
        priority,
        enabled,
        options: object.to_json(),
    };
    let config = Config::read(connection)?;
    let options = policy.resolve(connection, &config, &table)?;
    let (time_column, format) = check::time(connection, &table, &options)?;
    Rule {
        table: &table,
        time_column,
        format,
        options: &options,
    }
    .check_condition(connection)?;
    settings::check_writable(connection)?;
    lost::ensure(connection)?;
    write_transaction(connection, || {
        // Connections that are opened from now on have its `cold_t` and `all_t`. If it had another name,
        // that one's policy comes along and is replaced.
        let mut archived = identity::register(connection, &table, &folder_name(&table.name))?;
        policies::save(connection, &policy)?;
        if archived.has_files {
            return Ok(());
        }
        archived
            .time_column
            .clone_from(&table.columns[time_column].name);
        tables::update(connection, &archived)
    })?;
    Ok(json!({
        "table": policy.table,
        "hot_days": days(&config, &policy.hot_days)?,
        "priority": priority,
        "enabled": enabled,
        "options": serde_json::from_str::<Json>(&policy.options).unwrap_or_default(),
    }))
}

/// `archive_policy_drop(table)`: its cold rows stay.
pub fn archive_policy_drop(connection: &Connection, arguments: &[Value<'_>]) -> Result<Json> {
    let Some(Value::Text(name)) = arguments.first() else {
        return Err(Error::refused("the table's name must be text"));
    };
    settings::check_writable(connection)?;
    let name = unquote(name);
    let dropped = catalog::exists(connection)?
        && write_transaction(connection, || {
            let removed = policies::remove(connection, &name)?;
            if let Some(table) = tables::find(connection, &name)? {
                tables::forget_unused(connection, &table)?;
            }
            Ok(removed)
        })?;
    match dropped {
        true => Ok(json!({"table": name})),
        false => Err(Error::refused(format!("{name} has no policy"))),
    }
}

impl PolicyRecord {
    /// What the policy of `table` asks for today. It may have come with the database, whoever wrote it
    /// there, so it is checked again each time.
    pub fn resolve(
        &self,
        connection: &Connection,
        config: &Config,
        table: &Table,
    ) -> Result<options::Options> {
        let object = Object::parse(Value::Text(&self.options), &options::KNOWN)?;
        if let Some(condition) = object.text("where")? {
            stored::check(connection, table, condition)?;
        }
        let days = days(config, &self.hot_days)?;
        let grace_hours = settings::GRACE_HOURS.number(config, None)?;
        options::Options::new(config.clone(), Value::Integer(days), &object, grace_hours)
    }
}

/// The number of days, which an environment variable or its setting may say.
fn days(config: &Config, hot_days: &Owned) -> Result<i64> {
    let variable = match hot_days {
        Owned::Text(text) => text.strip_prefix(VARIABLE).unwrap_or(text),
        number => {
            return Value::from(number)
                .whole()
                .ok_or_else(|| Error::refused("hot_days in the catalog is not a whole number"));
        }
    };
    if let Some(setting) = settings::of_variable(variable) {
        return match setting.is_hot_days() {
            true => setting.number(config, None),
            false => Err(Error::refused(format!(
                "{variable} is not a number of days"
            ))),
        };
    }
    let days = std::env::var(variable).unwrap_or_default();
    match days.trim().parse() {
        Ok(days) if days >= 0 => Ok(days),
        _ if days.is_empty() => Err(Error::refused(format!(
            "the environment variable {variable} is not set; set it to a number of days"
        ))),
        // Its value is not shown: which variable this is may be a stranger's choice.
        _ => Err(Error::refused(format!(
            "the environment variable {variable} must be a whole number of days"
        ))),
    }
}

/// The policy's table. Fails if it is not there, or is none that can be archived.
pub fn find_table(connection: &Connection, policy: &PolicyRecord) -> Result<Table> {
    match check::find_table(connection, Value::Text(&quote(&policy.table))) {
        Ok(table) => Ok(table),
        Err(error) => {
            let archived = identity::find(connection, &policy.table)?;
            let archived = archived.filter(|table| table.has_files);
            let error = archived.map_or(error, |table| identity::missing(&table.name));
            let name = literal(&policy.table);
            Err(Error::refused(format!(
                "{error}; if it is gone for good, call archive_policy_drop({name})"
            )))
        }
    }
}
