//! How rows move without anybody noticing: no trigger fires, nothing cascades.

use rusqlite::{Connection, config::DbConfig};

use super::half_read;
use crate::error::{Error, Result};
use crate::schema::Table;

/// While it lives, a row of a table that moves neither fires a trigger nor cascades to another table.
/// Nothing but the call that made it uses the connection meanwhile.
pub struct MoveMode<'c> {
    connection: &'c Connection,
    triggers: bool,
    foreign_keys: bool,
}

impl<'c> MoveMode<'c> {
    /// For rows that leave `table`, or come back to it. It is refused while a query that has not ended would
    /// show rows that move twice or not at all, and if a TEMP trigger would fire:
    /// since 3.35 the switch leaves those on, and no other one is safe. Dropped and made again by us, a
    /// trigger could be gone after an error that nobody can handle.
    pub fn enter(connection: &'c Connection, table: &Table) -> Result<Self> {
        half_read::refuse(connection, table)?;
        let mode = Self::for_catalog(connection)?;
        if temp_triggers(connection, &table.name)?.is_empty() {
            return Ok(mode);
        }
        let name = table.qualified();
        let changes = [
            format!("DELETE FROM {name}"),
            format!("INSERT INTO {name} DEFAULT VALUES"),
        ];
        for change in changes {
            if runs_trigger(connection, &change)? {
                let names = temp_triggers(connection, &table.name)?.join(", ");
                return Err(Error::refused(format!(
                    "the TEMP trigger {names} would fire for rows of {} that only move, and SQLite \
                     cannot switch it off; drop it for the call, or call on another connection",
                    table.name
                )));
            }
        }
        Ok(mode)
    }

    /// For changes of the catalog's own tables.
    pub fn for_catalog(connection: &'c Connection) -> Result<Self> {
        let triggers = connection.db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER)?;
        let foreign_keys = connection.db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY)?;
        let mode = Self {
            connection,
            triggers,
            foreign_keys,
        };
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, false)?;
        Ok(mode)
    }
}

/// Whether a statement would run the program of a trigger, as SQLite has compiled it.
fn runs_trigger(connection: &Connection, sql: &str) -> Result<bool> {
    let mut statement = connection.prepare(&format!("EXPLAIN {sql}"))?;
    let opcodes = statement.query_map([], |row| row.get::<_, String>(1))?;
    for opcode in opcodes {
        if opcode? == "Program" {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The TEMP triggers of all tables that have the name: of `main`'s, and of others.
fn temp_triggers(connection: &Connection, table: &str) -> Result<Vec<String>> {
    let sql = "SELECT name FROM temp.sqlite_schema
               WHERE type = 'trigger' AND tbl_name = ?1 COLLATE NOCASE ORDER BY name";
    let mut statement = connection.prepare(sql)?;
    let names = statement.query_map([table], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

impl Drop for MoveMode<'_> {
    fn drop(&mut self) {
        let set = |config, value| self.connection.set_db_config(config, value);
        // Setting a flag in memory; there is no failure to handle.
        let _ = set(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, self.triggers);
        let _ = set(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, self.foreign_keys);
    }
}
