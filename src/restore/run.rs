//! One call of `archive_restore`: all steps in order.

use std::time::Instant;

use rusqlite::Connection;
use serde_json::{Value as Json, json};

use super::batches::{Call, Outcome, Started};
use super::options::{OnConflict, Options};
use super::select::Selection;
use super::survey::Survey;
use super::target::Target;
use crate::attach;
use crate::catalog;
use crate::catalog::files;
use crate::catalog::identity::{self, Location};
use crate::catalog::runs::{Operation, Subject};
use crate::catalog::tables::ArchivedTable;
use crate::error::{Error, Result};
use crate::moving::mode::MoveMode;
use crate::moving::run::{self, Running};
use crate::recover::copy;
use crate::recover::lost;
use crate::schema::{Column, Table, condition};
use crate::settings;
use crate::snapshot::statements::cold_name;
use crate::sql::{self, literal, unquote};
use crate::value::Value;

/// `archive_restore(table [, options])`
pub fn archive_restore(connection: &Connection, arguments: &[Value<'_>]) -> Result<Json> {
    let start = Instant::now();
    let [table, rest @ ..] = arguments else {
        return Err(Error::Internal("too few arguments".into()));
    };
    settings::check_not_query_only(connection)?;
    let archived = find_archived(connection, *table)?;
    let hot = find_hot(connection, &archived)?;
    let options = Options::new(connection, rest.first().copied().unwrap_or(Value::Null))?;
    if options.on_conflict == OnConflict::Renumber && !hot.reuses_ids() {
        return Err(Error::refused(format!(
            "option on_conflict can only be renumber for a table whose INTEGER PRIMARY KEY is not \
             AUTOINCREMENT, and {} has none",
            hot.name
        )));
    }
    if options.condition.is_some() {
        let source = cold_name(&attach::attach_table(connection, &archived)?);
        condition::check(connection, &source, options.condition.as_deref())?;
    }
    let call = Call {
        connection,
        archived: &archived,
        hot: &hot,
        options: &options,
    };
    let outcome = match options.dry_run {
        _ if !archived.has_files => Outcome::default(),
        true => call.dry_run()?,
        false => call.run()?,
    };
    let catalog_copy = match outcome.rows > 0 && !options.dry_run {
        true => copy::after_run(connection, &options.config),
        false => Json::Null,
    };
    Ok(json!({
        "table": hot.name,
        "rows": outcome.rows,
        "files": outcome.files,
        "conflicts": outcome.conflicts,
        "renumbered_rows": outcome.renumbered,
        "cold_rows": files::cold_rows(connection, archived.id)?,
        "catalog_copy": catalog_copy,
        "dry_run": options.dry_run,
        "elapsed_ms": u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
    }))
}

/// Finds the archived table that the caller means.
fn find_archived(connection: &Connection, argument: Value<'_>) -> Result<ArchivedTable> {
    let Value::Text(text) = argument else {
        return Err(Error::refused("the table's name must be text"));
    };
    let name = unquote(text);
    lost::check(connection)?;
    let found = match catalog::exists(connection)? {
        true => identity::find(connection, &name)?,
        false => None,
    };
    found.ok_or_else(|| Error::refused(format!("{name} has never been archived")))
}

/// Finds the table that the rows go back to.
fn find_hot(connection: &Connection, archived: &ArchivedTable) -> Result<Table> {
    let name = &archived.name;
    match identity::locate(connection, archived)? {
        Location::Here(name) => Table::find(connection, &name)?
            .ok_or_else(|| Error::refused(format!("no such table: {name}"))),
        Location::Recreated => Err(identity::recreated(name)),
        Location::Missing => Err(Error::refused(format!(
            "{}; if it was dropped, create it again with the columns {}, and call archive_adopt({})",
            identity::missing(name),
            visible(&archived.columns),
            literal(name)
        ))),
    }
}

fn visible(columns: &[Column]) -> String {
    let names = columns.iter().map(|column| column.name.as_str());
    let names: Vec<&str> = names
        .filter(|name| !name.starts_with(catalog::PREFIX))
        .collect();
    names.join(", ")
}

impl Call<'_> {
    /// Counts what would come back.
    fn dry_run(&self) -> Result<Outcome> {
        let selection = Selection::new(self.connection, self.archived, self.options)?;
        let survey = |action| {
            let target = Target::new(self.connection, self.hot, self.archived, action)?;
            Survey::new(&selection, &target, Some(action))
        };
        let action = self.options.on_conflict;
        let found = survey(action)?;
        let conflicts = found.conflicts;
        let renumbered = match action {
            OnConflict::Renumber => survey(OnConflict::Ignore)?
                .conflicts
                .saturating_sub(conflicts),
            _ => 0,
        };
        selection.clear()?;
        let (rows, files) = match action {
            OnConflict::Replace => (found.rows, found.emptied),
            _ => (found.rows - conflicts, found.emptied_alone),
        };
        Ok(Outcome {
            rows,
            files,
            conflicts,
            renumbered,
        })
    }

    /// Moves rows. An error leaves those hot that were committed before it; inside the caller's
    /// transaction it leaves nothing.
    fn run(&self) -> Result<Outcome> {
        settings::check_writable(self.connection)?;
        let _mode = MoveMode::enter(self.connection, self.hot)?;
        run::whole(self.connection, || self.run_locked())
    }

    fn run_locked(&self) -> Result<Outcome> {
        let connection = self.connection;
        lost::ensure(connection)?;
        let archive = settings::archive(connection, &self.options.config)?;
        let _lock = run::lock(connection, &archive, None)?;
        let look = || {
            // From here on the catalog and the schema are known: until now they could change.
            identity::refresh(connection)?;
            if !identity::is_still(connection, self.hot, self.archived.id)? {
                return Err(Error::refused(format!(
                    "another connection has just changed the schema of {}; call it again",
                    self.hot.name
                )));
            }
            let subject = Subject {
                operation: Operation::Restore,
                table: Some(self.archived.id),
                name: Some(&self.hot.name),
                cutoff: None,
            };
            Ok(((), subject))
        };
        let checked_at = sql::data_version(connection)?;
        let (run, ()) = Running::begin(connection, self.options.pace, checked_at, look)?;
        let mut total = Outcome::default();
        let started = Started {
            call: self,
            run: &run,
        };
        let restored = started.restore(&mut total);
        run.end(total.moved(), restored)?;
        Ok(total)
    }
}
