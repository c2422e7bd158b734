//! What the catalog says of a table, in one snapshot, as far as a query has asked.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use once_cell::unsync::OnceCell;
use rusqlite::{Connection, OptionalExtension};

use super::columns::{Mode, Shape};
use super::order::{self, Order};
use super::retyped::Storing;
use super::statements::{hot_arm, mark};
use crate::catalog;
use crate::catalog::files::{self, FileEntry, Totals};
use crate::catalog::identity::{self, Location};
use crate::catalog::tables;
use crate::catalog::tables::ArchivedTable;
use crate::catalog::tombstones::DeadRows;
use crate::error::{Error, Result};
use crate::format::predicate::Predicate;
use crate::format::range::{Kinds, Range};
use crate::schema::Column;
use crate::settings::{self, Config};
use crate::sql;
use crate::sqlite::filename::database_path;
use crate::storage::Folder;
use crate::value::Value;

/// If fewer than one in so many files are left, they are looked up one by one.
const FEW: u64 = 4;

/// What is known of a column in each file, by file id.
type Ranges = Rc<HashMap<i64, Arc<Range>>>;

/// The catalog's state of one table.
pub struct TableState {
    shape: Rc<Shape>,
    pub table: i64,
    pub time_column: String,
    pub totals: Totals,
    pub config: Config,
    /// The folder with the files, and what the environment said on it.
    folder: RefCell<Option<(Option<OsString>, Arc<Folder>)>>,
    /// For each file that was asked about, the rows that do not count.
    dead: RefCell<HashMap<i64, Arc<DeadRows>>>,
    /// The columns that files were written with, and where those of `cold_t` are among them.
    pub schemas: BTreeMap<i64, Schema>,
    ranges: RefCell<HashMap<usize, Ranges>>,
    /// All readable files, oldest first.
    files: OnceCell<Vec<Arc<FileEntry>>>,
}

/// The columns that some files were written with.
#[derive(Clone)]
pub struct Schema {
    pub columns: Arc<Vec<Column>>,
    pub positions: Arc<Vec<Option<usize>>>,
    /// The columns of `cold_t` that had another type then, and how their values are stored by now.
    retyped: Rc<Vec<(usize, Storing)>>,
}

impl Schema {
    /// How the values of a column of `cold_t` are stored by now, if that is another way than then.
    fn storing(&self, column: usize) -> Option<Storing> {
        let mut retyped = self.retyped.iter();
        let found = retyped.find(|(retyped, _)| *retyped == column);
        found.map(|(_, storing)| *storing)
    }
}

impl TableState {
    /// Reads the state of the table with this shape; `None` if it has no cold rows.
    pub fn read(connection: &Connection, shape: &Rc<Shape>) -> Result<Option<Self>> {
        if !catalog::exists(connection)? {
            return Ok(None);
        }
        let Some(table) = tables::get(connection, shape.table)? else {
            return Ok(None);
        };
        check_mode(connection, shape, &table)?;
        let ids = shape.ids(&table)?;
        shape.learn_defaults()?;
        let schema = |(id, columns): (i64, Vec<Column>)| {
            let positions = shape.positions(&ids, &columns);
            let retyped = shape.retyped(&positions, &columns);
            let schema = Schema {
                columns: Arc::new(columns),
                positions: Arc::new(positions),
                retyped: Rc::new(retyped),
            };
            (id, schema)
        };
        Ok(Some(Self {
            shape: Rc::clone(shape),
            table: table.id,
            time_column: table.time_column,
            totals: files::totals(connection, table.id)?,
            config: Config::read(connection)?,
            folder: RefCell::default(),
            dead: RefCell::default(),
            schemas: tables::schemas(connection, table.id)?
                .into_iter()
                .map(schema)
                .collect(),
            ranges: RefCell::default(),
            files: OnceCell::new(),
        }))
    }

    /// What is known of a column of `cold_t` in each file that has it: nothing, where its values are
    /// others by now.
    fn ranges(&self, connection: &Connection, column: usize) -> Result<Ranges> {
        if let Some(known) = self.ranges.borrow().get(&column) {
            return Ok(Rc::clone(known));
        }
        let mut ranges = HashMap::new();
        for (id, schema) in &self.schemas {
            let position = schema.positions.get(column).copied().flatten();
            if let Some(stored) = position.and_then(|position| schema.columns.get(position)) {
                let known = files::ranges(connection, *id, &stored.name)?.into_iter();
                let storing = schema.storing(column);
                let range = |range: Range| match storing {
                    Some(storing) if storing.changes(range.kinds) => Range::unknown(),
                    _ => range,
                };
                ranges.extend(known.map(|(file, known)| (file, Arc::new(range(known)))));
            }
        }
        let ranges = Rc::new(ranges);
        self.ranges.borrow_mut().insert(column, Rc::clone(&ranges));
        Ok(ranges)
    }

    /// The files that may have rows which pass all predicates, by their ids; `None` if none can be
    /// ruled out without looking at every file.
    pub fn candidates(
        &self,
        connection: &Connection,
        predicates: &[(usize, Predicate)],
    ) -> Result<Option<Vec<i64>>> {
        let mut candidates: Option<Vec<i64>> = None;
        for (column, predicate) in predicates {
            let ranges = self.ranges(connection, *column)?;
            // A file of which nothing is known stays.
            let may_match = |id: &i64| {
                let range = ranges.get(id);
                range.is_none_or(|range| predicate.may_match(range))
            };
            candidates = match candidates {
                Some(candidates) => Some(candidates.into_iter().filter(may_match).collect()),
                None if !self.is_known_everywhere(*column, &ranges) => None,
                None => Some(ranges.keys().copied().filter(may_match).collect()),
            };
        }
        Ok(candidates)
    }

    /// Whether every readable file has a range of this column: a file may have been written before the
    /// column was added. There are ranges of other files, too, which wait for their grace period to end.
    fn is_known_everywhere(&self, column: usize, ranges: &Ranges) -> bool {
        let has_column = |schema: &i64| {
            let schema = self.schemas.get(schema);
            schema.is_some_and(|schema| matches!(schema.positions.get(column), Some(Some(_))))
        };
        self.totals.schemas.iter().all(has_column) && ranges.len() as u64 >= self.totals.files
    }

    /// The files that may have rows which pass all predicates, oldest first.
    pub fn files(
        &self,
        connection: &Connection,
        predicates: &[(usize, Predicate)],
    ) -> Result<Vec<Arc<FileEntry>>> {
        let candidates = self.candidates(connection, predicates)?;
        if let Some(mut ids) = candidates
            && (ids.len() as u64) < self.totals.files / FEW
        {
            ids.sort_unstable();
            let found = ids.into_iter().map(|id| files::find(connection, id));
            return found
                .filter_map(|found| Some(found.transpose()?.map(Arc::new)))
                .collect();
        }
        let all = self.files.get_or_try_init(|| {
            let all = files::readable(connection, self.table)?;
            Ok::<_, Error>(all.into_iter().map(Arc::new).collect())
        })?;
        let mut files = all.clone();
        for (column, predicate) in predicates {
            let mut matching = Vec::with_capacity(files.len());
            for file in files {
                if predicate.may_match(&*self.range(connection, *column, &file)?) {
                    matching.push(file);
                }
            }
            files = matching;
        }
        Ok(files)
    }

    /// The rows of a file that do not count.
    pub fn dead_rows(&self, connection: &Connection, file: &FileEntry) -> Result<Arc<DeadRows>> {
        if file.dead == 0 {
            return Ok(Arc::default());
        }
        if let Some(known) = self.dead.borrow().get(&file.id) {
            return Ok(Arc::clone(known));
        }
        let dead = Arc::new(DeadRows::read(connection, file)?);
        self.dead.borrow_mut().insert(file.id, Arc::clone(&dead));
        Ok(dead)
    }

    /// The folder with the files.
    pub fn folder(&self, connection: &Connection) -> Result<Arc<Folder>> {
        let variable = settings::folder_variable();
        if let Some((known, folder)) = &*self.folder.borrow()
            && *known == variable
        {
            return Ok(Arc::clone(folder));
        }
        let folder = Arc::new(settings::folder(connection, &self.config)?);
        *self.folder.borrow_mut() = Some((variable, Arc::clone(&folder)));
        Ok(folder)
    }

    /// For each column of `cold_t`, how its values in a file become those of the table as it is now;
    /// `None` for those that stay what they are.
    pub fn conversions(
        &self,
        connection: &Connection,
        file: &FileEntry,
    ) -> Result<Vec<Option<Storing>>> {
        let mut conversions = Vec::new();
        let retyped = self.schemas.get(&file.schema).map(|schema| &schema.retyped);
        for (column, storing) in retyped.iter().flat_map(|retyped| retyped.iter()) {
            if *self.range(connection, *column, file)? == Range::unknown() {
                conversions.resize(self.shape.columns.len(), None);
                conversions[*column] = Some(*storing);
            }
        }
        Ok(conversions)
    }

    /// What is known of a column of `cold_t` in a file.
    pub fn range(
        &self,
        connection: &Connection,
        column: usize,
        file: &FileEntry,
    ) -> Result<Arc<Range>> {
        let ranges = self.ranges(connection, column)?;
        if let Some(known) = ranges.get(&file.id) {
            return Ok(Arc::clone(known));
        }
        let schema = self.schemas.get(&file.schema);
        let stored = schema.and_then(|schema| *schema.positions.get(column)?);
        Ok(Arc::new(match stored {
            Some(_) => Range::unknown(),
            None => self.default_range(column),
        }))
    }

    /// The kinds of values that a file has in the columns of predicates, whose ranges were asked for.
    pub fn kinds(&self, predicates: &[(usize, Predicate)], file: i64) -> Vec<Kinds> {
        let ranges = self.ranges.borrow();
        let kinds = |(column, _): &(usize, Predicate)| {
            let range = ranges.get(column).and_then(|ranges| ranges.get(&file));
            // Nothing can be ruled out where nothing is known.
            range.map_or(Kinds::all(), |range| range.kinds)
        };
        predicates.iter().map(kinds).collect()
    }

    /// The range of a column in files that were written before it was added: every row shows the
    /// default.
    fn default_range(&self, column: usize) -> Range {
        let default = self.shape.default(column);
        default.map_or_else(Range::unknown, |value| {
            Range::of(std::iter::once(Value::from(value)))
        })
    }

    /// The most files that have to be merged at a time to give their rows in `order`.
    pub fn merge_depth(&self, connection: &Connection, order: &Order) -> Result<usize> {
        let Some(first) = order.columns.first() else {
            return Ok(0);
        };
        let ranges = self.ranges(connection, *first)?;
        Ok(order::depth(ranges.values(), order))
    }
}

/// Fails where the rows of two tables would be shown as one, or rows of a table that was renamed not
/// at all.
fn check_mode(connection: &Connection, shape: &Shape, table: &ArchivedTable) -> Result<()> {
    if shape.mode == Mode::Alone {
        return Ok(());
    }
    match (identity::locate(connection, table)?, shape.mode) {
        (Location::Recreated, _) => Err(identity::recreated(&table.name)),
        (Location::Missing, Mode::Detached) => Err(identity::missing(&table.name)),
        (Location::Here(name), Mode::Detached) => Err(Error::refused(format!(
            "{name} is in the database again; call archive_attach()"
        ))),
        (Location::Here(name), Mode::Joined) => check_view(connection, table.id, &name),
        // There is no view over both, or its other arm fails.
        (Location::Missing | Location::Here(_), _) => Ok(()),
    }
}

/// Fails if `all_t` reads another table than `name`: the table was renamed by another connection, and
/// one that was created later may have its old name.
fn check_view(connection: &Connection, table: i64, name: &str) -> Result<()> {
    let sql = "SELECT v.name FROM temp.sqlite_schema c, temp.sqlite_schema v
               WHERE c.type = 'table' AND instr(c.sql, ?1) > 0
                 AND v.type = 'view' AND v.name = 'all_' || substr(c.name, length('cold_') + 1)
                 AND instr(v.sql, ?2) = 0";
    let parameters = (mark(table, Mode::Joined), hot_arm(name));
    let mut statement = connection.prepare_cached(sql)?;
    let other: Option<String> = statement
        .query_row(parameters, |row| row.get(0))
        .optional()?;
    match other {
        None => Ok(()),
        Some(view) => Err(Error::refused(format!(
            "{view} is out of date: its table is called {name} now; call archive_attach()"
        ))),
    }
}

/// The state of one table, kept as long as the database does not change.
pub struct States {
    pub connection: Rc<Connection>,
    pub shape: Rc<Shape>,
    known: RefCell<Option<(Version, Rc<TableState>)>>,
}

/// Tells one committed state of the database from every other that the connection sees: by what
/// other connections committed, by the rows that this one changed, and by the schema. A database in
/// memory can be another one at any moment (`sqlite3_deserialize`), and nothing of that need show: no
/// two of its versions are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version(i64, u64, i64, u64);

/// How many versions of databases in memory there have been.
static IN_MEMORY: AtomicU64 = AtomicU64::new(0);

impl Version {
    /// Of the connection's present snapshot.
    pub fn read(connection: &Connection) -> Result<Self> {
        Ok(Self(
            sql::data_version(connection)?,
            connection.total_changes(),
            sql::schema_version(connection)?,
            match database_path(connection) {
                Some(_) => 0,
                None => IN_MEMORY.fetch_add(1, Ordering::Relaxed) + 1,
            },
        ))
    }
}

impl States {
    pub fn new(connection: Rc<Connection>, shape: Rc<Shape>) -> Self {
        Self {
            connection,
            shape,
            known: RefCell::default(),
        }
    }

    /// The state in the connection's present snapshot.
    pub fn read(&self) -> Result<Option<Rc<TableState>>> {
        let version = Version::read(&self.connection)?;
        if let Some((read_at, state)) = &*self.known.borrow()
            && *read_at == version
        {
            return Ok(Some(Rc::clone(state)));
        }
        let state = TableState::read(&self.connection, &self.shape)?.map(Rc::new);
        // What a transaction has not committed yet could be rolled back, and the version would not
        // tell.
        let is_final =
            self.connection.is_autocommit() && !sql::reads_uncommitted(&self.connection)?;
        *self.known.borrow_mut() = match is_final {
            true => state.clone().map(|state| (version, state)),
            false => None,
        };
        Ok(state)
    }
}
