//! `archive_run`: everything that keeps a database small, in order, once a night.

use std::path::Path;
use std::time::Instant;

use rusqlite::Connection;
use serde_json::{Value as Json, json};

use super::backup;
use super::notify;
use super::policy;
use super::vacuum;
use crate::archive::run::archive;
use crate::attach::archive_attach;
use crate::catalog;
use crate::catalog::identity;
use crate::catalog::policies::{self, PolicyRecord};
use crate::catalog::runs::{self, Moved, Operation, Run, Subject};
use crate::error::{Error, Result};
use crate::moving::leftovers;
use crate::options::Object;
use crate::recover::copy;
use crate::recover::lost;
use crate::settings::{self, Config};
use crate::sql::{quote, write_transaction};
use crate::sqlite::filename::database_path;
use crate::sqlite::panic::guard;
use crate::storage::{Archive, Lock};
use crate::time::clock;
use crate::upkeep::gc::{self, Collection};
use crate::value::Value;

/// What the caller asks for.
#[derive(Debug, Clone, Copy)]
struct Request {
    backup: bool,
    vacuum: bool,
    dry_run: bool,
    /// Whether the call fails, in the end, if anything did.
    fail: bool,
}

impl Request {
    fn parse(options: Value<'_>) -> Result<Self> {
        let options = Object::parse(options, &["backup", "vacuum", "dry_run", "on_error"])?;
        let fail = options.choice("on_error", "report or fail", |word| match word {
            "report" => Some(false),
            "fail" => Some(true),
            _ => None,
        })?;
        Ok(Self {
            backup: options.switch("backup")?.unwrap_or(true),
            vacuum: options.switch("vacuum")?.unwrap_or(true),
            dry_run: options.flag("dry_run")?,
            fail: fail.unwrap_or(false),
        })
    }
}

/// `archive_run([options])`: a backup, every enabled policy in order of priority, each on its own, then
/// leftovers, VACUUM, the history and the notification.
pub fn archive_run(connection: &Connection, arguments: &[Value<'_>]) -> Result<Json> {
    let request = Request::parse(arguments.first().copied().unwrap_or(Value::Null))?;
    let summary = run(connection, request)?;
    let errors = summary["errors"].as_array().into_iter().flatten();
    let errors: Vec<&str> = errors.filter_map(Json::as_str).collect();
    match request.fail && !errors.is_empty() {
        true => Err(Error::refused(errors.join("; "))),
        false => Ok(summary),
    }
}

/// The run of the schedule.
pub fn scheduled(connection: &Connection) -> Result<()> {
    archive_run(connection, &[]).map(|_| ())
}

fn run(connection: &Connection, request: Request) -> Result<Json> {
    let start = Instant::now();
    let skipped = |reason: &str| {
        Ok(json!({"status": "skipped", "reason": reason, "tables": [], "errors": []}))
    };
    settings::check_writable(connection)?;
    let config = Config::read(connection)?;
    if !settings::AUTO_ARCHIVE_ENABLED.is_on_everywhere(&config)? {
        return skipped("auto_archive_enabled is false");
    }
    lost::check(connection)?;
    if !catalog::exists(connection)? {
        return skipped("there are no policies; archive_policy registers a table");
    }
    if !connection.is_autocommit() {
        return Err(Error::refused("it cannot run inside a transaction"));
    }
    let mut night = Night::begin(connection, &config, request)?;
    let outcome = guard(|| {
        night.work();
        Ok(())
    });
    if let Err(error) = outcome {
        night.failed("archive_run", &error);
    }
    let mut summary = night.end()?;
    summary["elapsed_ms"] = json!(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX));
    summary["notification"] = notification(&config, &summary);
    Ok(summary)
}

/// Sends the summary where the environment says. That it cannot be sent is no failure of the run.
fn notification(config: &Config, summary: &Json) -> Json {
    match settings::NOTIFY_URL.text(config) {
        Ok(url) if url.is_empty() => Json::Null,
        url => match url.and_then(|url| notify::send(&url, summary)) {
            Ok(()) => json!("sent"),
            Err(error) => json!({"error": error.to_string()}),
        },
    }
}

/// A run that has its place in the history.
struct Night<'c> {
    connection: &'c Connection,
    config: &'c Config,
    request: Request,
    archive: Archive,
    lock: Lock,
    run: Run,
    started_at: String,
    backup: Json,
    tables: Vec<Json>,
    moved: Moved,
    leftovers: Json,
    vacuum: Json,
    catalog_copy: Json,
    errors: Vec<String>,
}

impl<'c> Night<'c> {
    fn begin(connection: &'c Connection, config: &'c Config, request: Request) -> Result<Self> {
        let archive = settings::archive(connection, config)?;
        archive.folder.prepare()?;
        let lock = archive.lock()?;
        leftovers::bury_dead_runs(connection, &archive)?;
        let run = write_transaction(connection, || {
            // Policies go by the names that tables have now.
            identity::refresh(connection)?;
            runs::begin(
                connection,
                Subject {
                    operation: Operation::Nightly,
                    table: None,
                    name: None,
                    cutoff: None,
                },
            )
        })?;
        Ok(Self {
            connection,
            config,
            request,
            archive,
            lock,
            run,
            started_at: clock::stamp(),
            backup: json!({"skipped": "it was not asked for"}),
            tables: Vec::new(),
            moved: Moved::default(),
            leftovers: Json::Null,
            vacuum: json!({"skipped": "it was not asked for"}),
            catalog_copy: Json::Null,
            errors: Vec::new(),
        })
    }

    fn failed(&mut self, what: &str, error: &Error) {
        self.errors.push(format!("{what}: {error}"));
    }

    /// All steps. What fails is noted, and what does not depend on it goes on.
    fn work(&mut self) {
        if self.request.backup && !self.request.dry_run {
            match guard(|| self.make_backup()) {
                Ok(backup) => self.backup = backup,
                Err(error) => {
                    self.backup = json!({"error": error.to_string()});
                    self.failed("no backup, so nothing was archived", &error);
                    return;
                }
            }
        }
        match policies::all(self.connection) {
            Ok(policies) => policies
                .iter()
                .filter(|policy| policy.enabled)
                .for_each(|policy| self.archive(policy)),
            Err(error) => self.failed("the policies cannot be read", &error),
        }
        if self.request.dry_run {
            return;
        }
        match guard(|| self.collect_leftovers()) {
            Ok(leftovers) => self.leftovers = leftovers,
            Err(error) => self.failed("archive_gc", &error),
        }
        if self.request.vacuum {
            match guard(|| self.shrink()) {
                Ok(vacuum) => self.vacuum = vacuum,
                Err(error) => {
                    self.vacuum = json!({"error": error.to_string()});
                    self.failed("VACUUM", &error);
                }
            }
        }
        self.catalog_copy = match guard(|| copy::save(self.connection, &self.archive)) {
            Ok(()) => json!("done"),
            Err(error) => {
                self.failed("the copy of the catalog", &error);
                json!({"error": error.to_string()})
            }
        };
    }

    fn make_backup(&self) -> Result<Json> {
        match backup::keep(self.config)? {
            0 => Ok(json!({"skipped": "backup_keep is 0"})),
            _ => Ok(backup::backup(self.connection, self.config, None)?.to_json()),
        }
    }

    /// Archives the table of a policy.
    fn archive(&mut self, policy: &PolicyRecord) {
        let begun = runs::newest(self.connection);
        let mut result = guard(|| {
            let table = policy::find_table(self.connection, policy)?;
            let mut options = policy.resolve(self.connection, self.config, &table)?;
            options.dry_run |= self.request.dry_run;
            let table = quote(&table.name);
            let lock = Some(self.lock.clone());
            archive(self.connection, Value::Text(&table), &options, lock)
        })
        .unwrap_or_else(|error| {
            self.failed(&policy.table, &error);
            let noted = begun.and_then(|begun| self.note_refusal(policy, begun, &error));
            if let Err(error) = noted {
                self.failed("the history cannot be written", &error);
            }
            json!({"table": policy.table, "error": error.to_string()})
        });
        let failed = result.get("error").is_some();
        result["status"] = json!(if failed { "failed" } else { "done" });
        let number = |key: &str| result[key].as_u64().unwrap_or(0);
        self.moved.rows += number("rows");
        self.moved.files += number("files");
        self.moved.bytes += number("parquet_bytes");
        self.tables.push(result);
    }

    /// A table that was refused before its run began has a line in the history, too. `begun` is the
    /// newest run before it.
    fn note_refusal(&self, policy: &PolicyRecord, begun: i64, error: &Error) -> Result<()> {
        let connection = self.connection;
        if runs::newest(connection)? > begun {
            return Ok(());
        }
        write_transaction(connection, || {
            let table = identity::of_table(connection, &policy.table)?;
            let subject = Subject {
                operation: Operation::Archive,
                table: table.map(|table| table.id),
                name: Some(&policy.table),
                cutoff: None,
            };
            let run = runs::begin(connection, subject)?;
            runs::end(connection, &run, Moved::default(), Some(&error.to_string()))
        })
    }

    fn collect_leftovers(&self) -> Result<Json> {
        let collection = Collection {
            retention_days: settings::RETENTION_DAYS.number(self.config, None)?,
            unknown: false,
            dry_run: false,
        };
        let collected = gc::collect(self.connection, &self.archive, collection)?;
        Ok(json!({
            "files": collected.files,
            "kept_files": collected.kept,
            "unknown_files": collected.unknown,
        }))
    }

    fn shrink(&self) -> Result<Json> {
        let vacuum = vacuum::vacuum(self.connection, self.config)?;
        // Tables have other places in sqlite_schema now.
        write_transaction(self.connection, || identity::refresh(self.connection))?;
        Ok(vacuum.to_json())
    }

    /// Writes the history, and says what the night came to.
    fn end(self) -> Result<Json> {
        let error = (!self.errors.is_empty()).then(|| self.errors.join("; "));
        write_transaction(self.connection, || {
            runs::end(self.connection, &self.run, self.moved, error.as_deref())
        })?;
        // Tables that were archived for the first time, or renamed.
        archive_attach(self.connection, &[])?;
        let failed = self
            .tables
            .iter()
            .filter(|table| table["status"] == "failed");
        Ok(json!({
            "status": if error.is_some() { "failed" } else { "done" },
            "database": database_path(self.connection).as_deref().map(Path::to_string_lossy),
            "started_at": self.started_at,
            "finished_at": clock::stamp(),
            "dry_run": self.request.dry_run,
            "rows": self.moved.rows,
            "files": self.moved.files,
            "parquet_bytes": self.moved.bytes,
            "failed": failed.count(),
            "backup": self.backup,
            "tables": self.tables,
            "leftovers": self.leftovers,
            "vacuum": self.vacuum,
            "catalog_copy": self.catalog_copy,
            "errors": self.errors,
        }))
    }
}
