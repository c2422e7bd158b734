//! Virtual tables: SQLite's `sqlite3_module` as two safe traits, [`Table`] and [`Cursor`].
//!
//! Every callback catches panics, and every error reaches the user with its text. rusqlite's own
//! `vtab` module does not catch panics and cannot return text that is not UTF-8, which P6 and P3
//! ask for; sqlite-loadable's cannot consume an ORDER BY and loses messages of xBestIndex.
//!
//! Reference: <https://www.sqlite.org/vtab.html>

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::rc::Rc;
use std::{ptr, slice};

use rusqlite::{Connection, ffi};

use super::api::User;
use super::panic::guard;
use super::query::Query;
use super::value::{Arguments, Output, sqlite_string};
use crate::error::{Error, Result};

/// A virtual table, connected.
pub trait Table: Sized {
    type Cursor: Cursor;
    /// What all tables of the module share on a connection.
    type Shared: Default;

    /// Whether views and triggers of the database must not use it: the database may be a stranger's.
    const DIRECT_ONLY: bool = false;

    /// Connects. Returns the table and the `CREATE TABLE` statement that declares its columns.
    ///
    /// It must not run SQL that can find that another connection has changed the schema: SQLite would then
    /// free the schema with the table that is being connected, and go on using it. What needs SQL holds
    /// a [`ReadPin::current`](super::pin::ReadPin::current) meanwhile.
    fn connect(
        connection: Rc<Connection>,
        shared: &Self::Shared,
        created: &Created<'_>,
    ) -> Result<(Self, String)>;

    /// Chooses what to push down (xBestIndex).
    fn best_index(&self, query: &mut Query<'_>) -> Result<()>;

    /// The table is dropped for good (xDestroy), not only disconnected.
    fn dropped(&self) {}

    /// Opens a cursor, which then gets a [`Cursor::filter`] before anything else.
    fn open(&self) -> Result<Self::Cursor>;
}

/// What `CREATE VIRTUAL TABLE schema.name USING module(arguments)` says. Without such a statement, as a
/// function in FROM, a table has no arguments.
pub struct Created<'a> {
    pub schema: &'a str,
    pub name: &'a str,
    /// As they were written, quotes and all.
    pub arguments: Vec<&'a str>,
}

/// A scan over a virtual table.
pub trait Cursor {
    /// Starts a scan with the plan that [`Query::finish`] was given and the values it asked for.
    fn filter(&mut self, plan: &str, arguments: &Arguments<'_>) -> Result<()>;
    /// Moves to the next row.
    fn next(&mut self) -> Result<()>;
    /// Whether the scan is past its last row.
    fn eof(&self) -> bool;
    /// Hands out one value of the current row.
    fn column(&mut self, column: usize, output: &mut Output) -> Result<()>;
    /// A number that no other row of this scan has.
    fn rowid(&mut self) -> Result<i64>;
}

/// How SQLite may use a module.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `CREATE VIRTUAL TABLE ... USING name`
    Declared,
    /// `SELECT ... FROM name(arguments)`
    TableValued,
    /// Either.
    Both,
}

/// A module that a connection knows.
struct Registered<S> {
    shared: S,
    _user: User,
}

/// Makes the module `name` known to the connection. Its tables share `shared`.
pub fn register<T: Table>(
    connection: &Connection,
    name: &CStr,
    kind: Kind,
    shared: T::Shared,
) -> Result<()> {
    let module = match kind {
        Kind::Declared => const { &module::<T>(Some(create::<T>)) },
        Kind::TableValued => const { &module::<T>(None) },
        Kind::Both => const { &module::<T>(Some(connect::<T>)) },
    };
    let shared = Registered {
        shared,
        _user: User::one_more(),
    };
    let shared = Box::into_raw(Box::new(shared)).cast();
    // SAFETY: the handle is valid, the name NUL-terminated and the module a constant, promoted to
    // static memory. SQLite owns `shared` and gives it to `drop_shared`, also if this fails.
    let code = unsafe {
        let db = connection.handle();
        ffi::sqlite3_create_module_v2(db, name.as_ptr(), module, shared, Some(drop_shared::<T>))
    };
    if code == ffi::SQLITE_OK {
        Ok(())
    } else {
        Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None).into())
    }
}

unsafe extern "C" fn drop_shared<T: Table>(shared: *mut c_void) {
    // SAFETY: made by `register`, given back exactly once.
    let shared = unsafe { Box::from_raw(shared.cast::<Registered<T::Shared>>()) };
    let _ = drop_quietly(shared);
}

type Connect = unsafe extern "C" fn(
    *mut ffi::sqlite3,
    *mut c_void,
    c_int,
    *const *const c_char,
    *mut *mut ffi::sqlite3_vtab,
    *mut *mut c_char,
) -> c_int;

const fn module<T: Table>(create: Option<Connect>) -> ffi::sqlite3_module {
    ffi::sqlite3_module {
        iVersion: 1,
        xCreate: create,
        xConnect: Some(connect::<T>),
        xBestIndex: Some(best_index::<T>),
        xDisconnect: Some(disconnect::<T>),
        xDestroy: Some(destroy::<T>),
        xOpen: Some(open::<T>),
        xClose: Some(close::<T>),
        xFilter: Some(filter::<T>),
        xNext: Some(next::<T>),
        xEof: Some(eof::<T>),
        xColumn: Some(column::<T>),
        xRowid: Some(rowid::<T>),
        xUpdate: None,
        xBegin: None,
        xSync: None,
        xCommit: None,
        xRollback: None,
        xFindFunction: None,
        xRename: None,
        xSavepoint: None,
        xRelease: None,
        xRollbackTo: None,
        xShadowName: None,
    }
}

/// A [`Table`] as SQLite sees it: its own part comes first.
#[repr(C)]
struct TableObject<T> {
    base: ffi::sqlite3_vtab,
    table: T,
}

/// A [`Cursor`] as SQLite sees it.
#[repr(C)]
struct CursorObject<C> {
    base: ffi::sqlite3_vtab_cursor,
    cursor: C,
}

/// Different from [`connect`] by address only: a module whose xCreate is its xConnect could be
/// used without CREATE VIRTUAL TABLE.
unsafe extern "C" fn create<T: Table>(
    db: *mut ffi::sqlite3,
    aux: *mut c_void,
    argc: c_int,
    argv: *const *const c_char,
    table: *mut *mut ffi::sqlite3_vtab,
    message: *mut *mut c_char,
) -> c_int {
    // SAFETY: the same contract.
    unsafe { connect::<T>(db, aux, argc, argv, table, message) }
}

unsafe extern "C" fn connect<T: Table>(
    db: *mut ffi::sqlite3,
    shared: *mut c_void,
    argc: c_int,
    argv: *const *const c_char,
    table: *mut *mut ffi::sqlite3_vtab,
    message: *mut *mut c_char,
) -> c_int {
    let outcome = guard(|| {
        // SAFETY: SQLite passes what `register` gave it, and argc NUL-terminated strings; the first
        // three are the names of the module, the schema and the table. The handle outlives the
        // virtual table.
        let (connection, shared, words) = unsafe {
            let count = usize::try_from(argc).unwrap_or(0);
            let words = slice::from_raw_parts(argv, count)
                .iter()
                .map(|word| CStr::from_ptr(*word).to_str())
                .collect::<Result<Vec<_>, _>>();
            let Registered { shared, .. } = &*shared.cast::<Registered<T::Shared>>();
            (Connection::from_handle(db)?, shared, words)
        };
        let words = words.map_err(|_| Error::refused("the arguments are not valid UTF-8"))?;
        let created = Created {
            schema: words.get(1).copied().unwrap_or_default(),
            name: words.get(2).copied().unwrap_or_default(),
            arguments: words.into_iter().skip(3).collect(),
        };
        let (connected, declaration) = T::connect(Rc::new(connection), shared, &created)?;
        let declaration = CString::new(declaration)
            .map_err(|_| Error::refused("a column's name or type contains a NUL character"))?;
        // SAFETY: called within xCreate or xConnect, as it must be.
        let code = unsafe { ffi::sqlite3_declare_vtab(db, declaration.as_ptr()) };
        if code != ffi::SQLITE_OK {
            return Err(undeclared(db, &declaration));
        }
        if T::DIRECT_ONLY {
            // SAFETY: as above; the option takes no further argument.
            unsafe { ffi::sqlite3_vtab_config(db, ffi::SQLITE_VTAB_DIRECTONLY) };
        }
        Ok(Box::new(TableObject {
            base: ffi::sqlite3_vtab {
                pModule: ptr::null(),
                nRef: 0,
                zErrMsg: ptr::null_mut(),
            },
            table: connected,
        }))
    });
    match outcome {
        Ok(object) => {
            // SAFETY: SQLite owns the object until xDisconnect or xDestroy.
            unsafe { *table = Box::into_raw(object).cast() };
            ffi::SQLITE_OK
        }
        // SAFETY: `message` is where SQLite wants the text, which it frees.
        Err(error) => unsafe { report(&error, message) },
    }
}

/// Why SQLite has not taken a declaration. That it was interrupted only its message says.
fn undeclared(db: *mut ffi::sqlite3, declaration: &CStr) -> Error {
    // SAFETY: the handle is valid; the text is copied before anything else uses the connection.
    let message = unsafe { CStr::from_ptr(ffi::sqlite3_errmsg(db)) };
    let message = message.to_string_lossy().into_owned();
    if message == "interrupted" {
        let code = ffi::Error::new(ffi::SQLITE_INTERRUPT);
        return rusqlite::Error::SqliteFailure(code, Some(message)).into();
    }
    let declaration = declaration.to_string_lossy();
    // A collation that the connection does not have, or a catalog that was changed.
    Error::refused(format!("cannot declare {declaration}: {message}"))
}

unsafe extern "C" fn disconnect<T: Table>(table: *mut ffi::sqlite3_vtab) -> c_int {
    // SAFETY: made by `connect`, given back exactly once.
    let object = unsafe { Box::from_raw(table.cast::<TableObject<T>>()) };
    drop_quietly(object)
}

unsafe extern "C" fn destroy<T: Table>(table: *mut ffi::sqlite3_vtab) -> c_int {
    // SAFETY: SQLite passes a table that `connect` made, and gives it back by this call.
    unsafe {
        let object = &*table.cast::<TableObject<T>>();
        let _ = guard(|| {
            object.table.dropped();
            Ok(())
        });
        disconnect::<T>(table)
    }
}

unsafe extern "C" fn best_index<T: Table>(
    table: *mut ffi::sqlite3_vtab,
    info: *mut ffi::sqlite3_index_info,
) -> c_int {
    // SAFETY: SQLite passes a table that `connect` made and a valid question.
    unsafe {
        let object = &*table.cast::<TableObject<T>>();
        let outcome = guard(|| object.table.best_index(&mut Query::new(&mut *info)));
        finish(outcome, table)
    }
}

unsafe extern "C" fn open<T: Table>(
    table: *mut ffi::sqlite3_vtab,
    cursor: *mut *mut ffi::sqlite3_vtab_cursor,
) -> c_int {
    // SAFETY: SQLite passes a table that `connect` made; it owns the cursor until xClose.
    unsafe {
        let object = &*table.cast::<TableObject<T>>();
        let outcome = guard(|| object.table.open()).map(|opened| {
            let base = ffi::sqlite3_vtab_cursor { pVtab: table };
            *cursor = Box::into_raw(Box::new(CursorObject {
                base,
                cursor: opened,
            }))
            .cast();
        });
        finish(outcome, table)
    }
}

unsafe extern "C" fn close<T: Table>(cursor: *mut ffi::sqlite3_vtab_cursor) -> c_int {
    // SAFETY: made by `open`, given back exactly once.
    let object = unsafe { Box::from_raw(cursor.cast::<CursorObject<T::Cursor>>()) };
    drop_quietly(object)
}

unsafe extern "C" fn filter<T: Table>(
    cursor: *mut ffi::sqlite3_vtab_cursor,
    _number: c_int,
    plan: *const c_char,
    argc: c_int,
    argv: *mut *mut ffi::sqlite3_value,
) -> c_int {
    // SAFETY: SQLite passes a cursor that `open` made, the string that `Query::finish` set and
    // argc values that live as long as the call.
    unsafe {
        let object = &mut *cursor.cast::<CursorObject<T::Cursor>>();
        let outcome = guard(|| {
            let plan = match plan.is_null() {
                true => "",
                false => CStr::from_ptr(plan).to_str().unwrap_or_default(),
            };
            let arguments = match usize::try_from(argc) {
                Ok(count) if count > 0 => slice::from_raw_parts(argv, count),
                _ => &[],
            };
            object.cursor.filter(plan, &Arguments::new(arguments))
        });
        finish(outcome, object.base.pVtab)
    }
}

unsafe extern "C" fn next<T: Table>(cursor: *mut ffi::sqlite3_vtab_cursor) -> c_int {
    // SAFETY: SQLite passes a cursor that `open` made.
    unsafe {
        let object = &mut *cursor.cast::<CursorObject<T::Cursor>>();
        let outcome = guard(|| object.cursor.next());
        finish(outcome, object.base.pVtab)
    }
}

unsafe extern "C" fn eof<T: Table>(cursor: *mut ffi::sqlite3_vtab_cursor) -> c_int {
    // SAFETY: SQLite passes a cursor that `open` made.
    let object = unsafe { &*cursor.cast::<CursorObject<T::Cursor>>() };
    // A panic here has no way to be reported; ending the scan would lose rows silently, so the
    // row is offered and xColumn or xNext meets the broken state.
    c_int::from(guard(|| Ok(object.cursor.eof())).unwrap_or(false))
}

unsafe extern "C" fn column<T: Table>(
    cursor: *mut ffi::sqlite3_vtab_cursor,
    context: *mut ffi::sqlite3_context,
    index: c_int,
) -> c_int {
    // SAFETY: SQLite passes a cursor that `open` made and a valid context.
    unsafe {
        let object = &mut *cursor.cast::<CursorObject<T::Cursor>>();
        let mut output = Output::new(context);
        let outcome = guard(|| {
            let index = usize::try_from(index)
                .map_err(|_| Error::Internal(format!("no column {index}")))?;
            object.cursor.column(index, &mut output)
        });
        match outcome {
            Ok(()) => ffi::SQLITE_OK,
            Err(error) => {
                output.fail(&error.to_string());
                code(&error)
            }
        }
    }
}

unsafe extern "C" fn rowid<T: Table>(
    cursor: *mut ffi::sqlite3_vtab_cursor,
    rowid: *mut ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite passes a cursor that `open` made and a place for the answer.
    unsafe {
        let object = &mut *cursor.cast::<CursorObject<T::Cursor>>();
        let outcome = guard(|| object.cursor.rowid()).map(|number| *rowid = number);
        finish(outcome, object.base.pVtab)
    }
}

/// Drops a table or a cursor; a panic in a destructor is not worth more than a return code.
fn drop_quietly<T>(object: Box<T>) -> c_int {
    match guard(|| {
        drop(object);
        Ok(())
    }) {
        Ok(()) => ffi::SQLITE_OK,
        Err(_) => ffi::SQLITE_INTERNAL,
    }
}

/// # Safety
/// `table` must be a virtual table of this module.
unsafe fn finish(outcome: Result<()>, table: *mut ffi::sqlite3_vtab) -> c_int {
    match outcome {
        Ok(()) => ffi::SQLITE_OK,
        // SAFETY: by contract.
        Err(error) => unsafe { report(&error, &raw mut (*table).zErrMsg) },
    }
}

/// # Safety
/// `place` must hold NULL or a string of SQLite's allocator.
unsafe fn report(error: &Error, place: *mut *mut c_char) -> c_int {
    // SAFETY: by contract; SQLite frees the new text.
    unsafe {
        ffi::sqlite3_free((*place).cast());
        *place = sqlite_string(&error.to_string()).unwrap_or(ptr::null_mut());
    }
    code(error)
}

/// The code of an error, which SQLite takes at its word: SQLITE_IOERR makes it roll the caller's
/// transaction back, SQLITE_CORRUPT makes COMMIT fail later. A cold file that cannot be read is no
/// reason for either.
fn code(error: &Error) -> c_int {
    match error {
        error if error.is_interrupt() => ffi::SQLITE_INTERRUPT,
        Error::Sqlite(rusqlite::Error::SqliteFailure(failure, _)) => failure.extended_code,
        _ => ffi::SQLITE_ERROR,
    }
}
