//! Scalar SQL functions, registered through sqlite-loadable.

use std::ffi::c_int;

use rusqlite::{Connection, ffi};
use sqlite_loadable::errors::ErrorKind;
use sqlite_loadable::ext::{sqlite3_context, sqlite3_value};
use sqlite_loadable::{FunctionFlags, api, define_scalar_function};

use super::panic::guard;
use super::value;
use crate::error::{Error, Result};
use crate::value::Value;

/// What a scalar function does: from its arguments to one JSON text.
pub type Body = fn(&Connection, &[Value<'_>]) -> Result<serde_json::Value>;

/// Registers `name` with each of the numbers of arguments in `arities`.
///
/// The functions are DIRECTONLY: they change the database or the disk, so a view or a trigger in a
/// database from a stranger must not call them.
pub fn register(
    connection: &Connection,
    name: &'static str,
    arities: std::ops::RangeInclusive<c_int>,
    body: Body,
) -> Result<()> {
    // SAFETY: the handle is valid; sqlite-loadable only passes it on to SQLite.
    let db = unsafe { connection.handle() };
    for arity in arities {
        let flags = FunctionFlags::UTF8 | FunctionFlags::DIRECTONLY;
        let call = move |context: *mut sqlite3_context, arguments: &[*mut sqlite3_value]| {
            let outcome = guard(|| {
                // SAFETY: SQLite calls this with a valid context, whose connection outlives the
                // call, and with valid arguments, each converted only here.
                unsafe {
                    let connection =
                        Connection::from_handle(api::context_db_handle(context).cast())?;
                    let arguments = arguments
                        .iter()
                        .map(|argument| value::read(argument.cast()))
                        .collect::<Result<Vec<_>>>()?;
                    body(&connection, &arguments)
                }
            });
            // SAFETY: the context is valid for the whole call.
            let mut output = unsafe { value::Output::new(context.cast()) };
            match outcome {
                Ok(json) => output.set(Value::Text(&json.to_string())),
                Err(error) => {
                    output.fail(&format!("{name}: {error}"));
                    if error.is_interrupt() {
                        output.interrupted();
                    }
                }
            }
            Ok(())
        };
        define_scalar_function(db.cast(), name, arity, call, flags).map_err(|error| match error
            .kind()
        {
            ErrorKind::DefineScalarFunction(ffi::SQLITE_BUSY) => Error::refused(format!(
                "cannot define {name} while a statement of this connection is running"
            )),
            _ => Error::Internal(format!("cannot define {name}")),
        })?;
    }
    Ok(())
}
