//! The SQL surface: every function and table that loading the extension adds.

use std::ffi::CStr;

use rusqlite::Connection;
use serde_json::{Value as Json, json};

use super::listing::{Definition, Files, History, Listing, ScanStats, Status};
use crate::archive;
use crate::attach::{archive_attach, attach_table};
use crate::catalog::identity;
use crate::cold::stats::ScanLog;
use crate::cold::table::ColdTable;
use crate::error::{Error, Result};
use crate::nightly::backup::archive_backup;
use crate::nightly::policy::{archive_policy, archive_policy_drop};
use crate::nightly::run::archive_run;
use crate::nightly::schedule::{archive_schedule, start_by_environment};
use crate::recover::lost;
use crate::recover::run::archive_recover;
use crate::restore::run::archive_restore;
use crate::settings::{self, Change, Config, FUNCTIONS};
use crate::sqlite::function::register;
use crate::sqlite::vtab::{self, Kind};
use crate::upkeep::gc::archive_gc;
use crate::upkeep::rename::{archive_adopt, archive_rename};
use crate::value::Value;
use crate::verify::archive_verify;

/// Which functions and tables a connection gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    All,
    /// Those that a host can leave to strangers: they change neither the database nor the disk nor the
    /// process, and show nothing of its environment.
    Reading,
}

impl Surface {
    /// What the environment leaves of it. A word that is not known must not end in more than was meant.
    fn within_environment(self) -> Result<Self> {
        match FUNCTIONS.text(&Config::default())?.as_str() {
            "all" => Ok(self),
            "read" => Ok(Self::Reading),
            other => Err(Error::refused(format!(
                "ARCHIVE_FUNCTIONS must be read or all, not {other}"
            ))),
        }
    }
}

/// What loading the library into a connection does.
pub fn load(connection: &Connection, surface: Surface) -> Result<()> {
    let surface = surface.within_environment()?;
    add(connection, surface)?;
    match surface {
        Surface::All => start_by_environment(connection, add_all),
        Surface::Reading => Ok(()),
    }
}

fn add_all(connection: &Connection) -> Result<()> {
    add(connection, Surface::All)
}

/// Adds functions and tables to a connection, and attaches the tables that were archived before.
fn add(connection: &Connection, surface: Surface) -> Result<()> {
    if surface == Surface::All {
        add_changing(connection)?;
    }
    register(connection, "archive_attach", 0..=0, archive_attach)?;
    register(connection, "archive_verify", 0..=1, archive_verify)?;
    register(connection, "archive_version", 0..=0, archive_version)?;
    let scans = ScanLog::default();
    vtab::register::<ColdTable>(connection, c"archive_cold", Kind::Declared, scans.clone())?;
    listing::<Status>(connection, c"archive_status", ())?;
    listing::<Files>(connection, c"archive_files", ())?;
    listing::<History>(connection, c"archive_history", ())?;
    listing::<ScanStats>(connection, c"archive_scan_stats", scans)?;
    #[cfg(feature = "duckdb")]
    crate::analytics::register(connection)?;
    // The database may be locked, or encrypted and not yet keyed: then there is nothing to attach
    // now, and archive_attach() says what is wrong.
    let _ = archive_attach(connection, &[]);
    Ok(())
}

/// The functions that are not for strangers.
fn add_changing(connection: &Connection) -> Result<()> {
    register(connection, "archive_table", 2..=3, archive_table)?;
    register(connection, "archive_policy", 2..=3, policy)?;
    register(connection, "archive_policy_drop", 1..=1, policy_drop)?;
    register(connection, "archive_run", 0..=1, archive_run)?;
    register(connection, "archive_rename", 2..=3, archive_rename)?;
    register(connection, "archive_adopt", 1..=2, archive_adopt)?;
    register(connection, "archive_restore", 1..=2, archive_restore)?;
    register(connection, "archive_gc", 0..=1, archive_gc)?;
    register(connection, "archive_recover", 0..=1, archive_recover)?;
    register(connection, "archive_backup", 0..=1, archive_backup)?;
    register(connection, "archive_config", 0..=2, archive_config)?;
    register(connection, "archive_schedule", 0..=1, schedule)
}

/// Makes `cold_t` and `all_t` of a table that the catalog has now.
fn attach(connection: &Connection, name: &str) -> Result<()> {
    if let Some(table) = identity::of_table(connection, name)? {
        attach_table(connection, &table)?;
    }
    Ok(())
}

fn listing<D: Definition>(connection: &Connection, name: &CStr, shared: D::Shared) -> Result<()> {
    vtab::register::<Listing<D>>(connection, name, Kind::TableValued, shared)
}

fn archive_table(connection: &Connection, arguments: &[Value<'_>]) -> Result<Json> {
    match archive::run::archive_table(connection, arguments) {
        Ok(result) => {
            if result["dry_run"] == json!(false) {
                attach(connection, result["table"].as_str().unwrap_or_default())?;
            }
            Ok(result)
        }
        Err(error) => {
            // Rows may have moved before it failed, and must be seen. The first error is reported.
            let _ = archive_attach(connection, &[]);
            Err(error)
        }
    }
}

/// `archive_policy`, and what there is to see of the table then.
fn policy(connection: &Connection, arguments: &[Value<'_>]) -> Result<Json> {
    let policy = archive_policy(connection, arguments)?;
    attach(connection, policy["table"].as_str().unwrap_or_default())?;
    Ok(policy)
}

/// `archive_policy_drop`; what was there to see of a table that has no cold rows goes, too.
fn policy_drop(connection: &Connection, arguments: &[Value<'_>]) -> Result<Json> {
    let dropped = archive_policy_drop(connection, arguments)?;
    archive_attach(connection, &[])?;
    Ok(dropped)
}

/// `archive_config([key [, value]])`: shows all settings or one, or sets it and shows it.
fn schedule(connection: &Connection, arguments: &[Value<'_>]) -> Result<Json> {
    archive_schedule(connection, arguments, add_all)
}

fn archive_config(connection: &Connection, arguments: &[Value<'_>]) -> Result<Json> {
    let Some(key) = arguments.first() else {
        return settings::show_all(connection);
    };
    let Value::Text(key) = key else {
        return Err(Error::refused("the name of the setting must be text"));
    };
    if let Some(value) = arguments.get(1) {
        let value = match value {
            Value::Null => Json::Null,
            Value::Integer(number) => json!(number),
            Value::Real(number) if number.is_finite() => json!(number),
            Value::Text(text) => json!(text),
            Value::Real(_) | Value::RawText(..) | Value::Blob(_) => {
                return Err(Error::refused(format!("{key} must be text or a number")));
            }
        };
        settings::check_writable(connection)?;
        let change = Change::new(key, &value)?;
        if change.is_kept() {
            lost::ensure(connection)?;
        }
        change.make(connection)?;
    }
    settings::show(connection, key)
}

/// `archive_version()`: versions of this library and of what it runs with.
fn archive_version(_connection: &Connection, _arguments: &[Value<'_>]) -> Result<Json> {
    let mut version = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "features": features(),
        "sqlite": rusqlite::version(),
        "duckdb": duckdb_version()?,
    });
    if cfg!(feature = "faults") {
        version["fault_points"] = fault_points();
    }
    Ok(version)
}

fn features() -> Vec<&'static str> {
    let all = [
        ("duckdb", cfg!(feature = "duckdb")),
        ("faults", cfg!(feature = "faults")),
    ];
    all.into_iter()
        .filter(|(_, on)| *on)
        .map(|(name, _)| name)
        .collect()
}

#[cfg(feature = "duckdb")]
fn duckdb_version() -> Result<Option<String>> {
    duckdb::Connection::open_in_memory()
        .and_then(|connection| connection.version())
        .map(Some)
        .map_err(|error| Error::Internal(format!("DuckDB does not start: {error}")))
}

#[cfg(not(feature = "duckdb"))]
#[expect(clippy::unnecessary_wraps, reason = "can fail with DuckDB")]
fn duckdb_version() -> Result<Option<String>> {
    Ok(None)
}

#[cfg(feature = "faults")]
fn fault_points() -> Json {
    json!(crate::fault::POINTS)
}

#[cfg(not(feature = "faults"))]
fn fault_points() -> Json {
    Json::Null
}
