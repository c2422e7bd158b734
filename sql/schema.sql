-- The catalog: which cold files exist, and which of their rows count.
--
-- It lives in the same database as the hot rows, so that "publish rows of a file" and "delete the
-- hot rows" are one ordinary transaction. Version 2; docs/architecture.md explains each table.
-- Columns without a type keep every value as it is; ANY would be NUMERIC in a table that is not STRICT.

-- schema_version and database_id.
CREATE TABLE _archive_meta (
    key   TEXT PRIMARY KEY,
    value
) WITHOUT ROWID;

-- What archive_config(key, value) has set.
CREATE TABLE _archive_config (
    key   TEXT PRIMARY KEY,
    value
) WITHOUT ROWID;

-- What archive_policy(table, hot_days, options) has registered. By name: there may be a policy before
-- anything was archived.
CREATE TABLE _archive_policy (
    table_name TEXT PRIMARY KEY COLLATE NOCASE,
    hot_days   NOT NULL,                 -- a number, or env:NAME
    priority   INTEGER NOT NULL,         -- the least goes first
    enabled    INTEGER NOT NULL,
    options    TEXT NOT NULL             -- JSON: those of archive_table
) WITHOUT ROWID;

-- One row for each table that has been archived or has a policy. The last five columns say which table that is:
-- docs/architecture.md, "Which table it is".
CREATE TABLE _archive_table (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    name        TEXT NOT NULL COLLATE NOCASE UNIQUE,
    folder      TEXT NOT NULL,           -- below the archive folder
    time_column TEXT NOT NULL,
    time_format TEXT NOT NULL,
    columns     TEXT NOT NULL,           -- JSON, as in _archive_schema: when it was last looked at
    key         TEXT NOT NULL,           -- JSON: what identified its rows then
    sql         TEXT NOT NULL,           -- the CREATE TABLE statement that columns and key are from
    head        TEXT NOT NULL,           -- how its CREATE TABLE statement begins, which RENAME changes
    place       INTEGER,                 -- its rowid in sqlite_schema then; NULL: not in the database
    rank        INTEGER,                 -- how many tables came before it there
    anchor      INTEGER NOT NULL,        -- the rowid of _archive_anchor in sqlite_schema then
    anchor_rank INTEGER NOT NULL         -- how many tables came before that
);

-- The columns that cold files of a table were written with.
CREATE TABLE _archive_schema (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    table_id INTEGER NOT NULL REFERENCES _archive_table,
    columns  TEXT NOT NULL,              -- JSON: id, name, type, collation, default
    sql      TEXT NOT NULL,              -- the CREATE TABLE statement of the table
    UNIQUE (table_id, columns)
);

-- The history: one row for each table that something was done with.
CREATE TABLE _archive_run (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    token        TEXT NOT NULL UNIQUE,   -- part of the names of the files it writes
    operation    TEXT NOT NULL,          -- archive, expire, restore, recover; nightly for a call of archive_run
    table_id     INTEGER REFERENCES _archive_table, -- NULL for nightly, and before the first success
    table_name   TEXT,                   -- its name then; NULL for nightly
    started_at   TEXT NOT NULL,
    finished_at  TEXT,
    cutoff       TEXT,
    status       TEXT NOT NULL CHECK (status IN ('running', 'done', 'failed', 'interrupted')),
    planned_rows INTEGER,                -- how many it is about to move; NULL: not known yet
    rows         INTEGER NOT NULL DEFAULT 0,
    files        INTEGER NOT NULL DEFAULT 0,
    bytes        INTEGER NOT NULL DEFAULT 0,
    error        TEXT
);

-- One row for each cold file. Rows 0 to published - 1 of the file are cold; the others, if any,
-- are still hot, and the next run goes on from there; if the file is staged, once its grace period
-- is over.
CREATE TABLE _archive_file (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    table_id   INTEGER NOT NULL REFERENCES _archive_table,
    schema_id  INTEGER NOT NULL REFERENCES _archive_schema,
    run_id     INTEGER NOT NULL REFERENCES _archive_run,
    path       TEXT NOT NULL UNIQUE,     -- relative to the archive folder
    rows       INTEGER NOT NULL CHECK (rows > 0),
    row_groups INTEGER NOT NULL CHECK (row_groups > 0),
    published  INTEGER NOT NULL CHECK (published BETWEEN 0 AND rows),
    dead       INTEGER NOT NULL CHECK (dead BETWEEN 0 AND published), -- how many have tombstones
    bytes      INTEGER NOT NULL,
    hot_bytes  INTEGER NOT NULL,         -- what its rows took in the table
    checksum   BLOB NOT NULL,            -- XXH3-128 of the file
    blocks     BLOB NOT NULL,            -- XXH3-64 of each 64 KiB of it, little-endian
    time_min   TEXT NOT NULL,            -- UTC, ISO 8601
    time_max   TEXT NOT NULL,
    staged_at  TEXT                      -- when it was written, if the rows were to stay hot for a while
);
CREATE INDEX _archive_file_by_time ON _archive_file (table_id, time_min, id);
CREATE INDEX _archive_file_unfinished ON _archive_file (table_id) WHERE published < rows;

-- What is known of each column of a file, for pruning. All that a query needs to know of a column
-- lies together.
CREATE TABLE _archive_range (
    schema_id INTEGER NOT NULL REFERENCES _archive_schema,
    "column"  TEXT NOT NULL,
    file_id   INTEGER NOT NULL REFERENCES _archive_file,
    kinds     INTEGER NOT NULL,          -- bits: 1 NULL, 2 INTEGER, 4 REAL, 8 TEXT, 16 BLOB, ...
    min,                                 -- no value is less (BINARY order), NULL: unknown
    max,                                 -- no value is greater, NULL: unknown
    ascending INTEGER NOT NULL,          -- 1: in file order, no value is less than the one before
    PRIMARY KEY (schema_id, "column", file_id)
) WITHOUT ROWID;

-- Cold rows that do not count: the hot row was changed or deleted before it could move, or the row came
-- back, or expired. One row for each 65,536 rows of a file that have any such.
CREATE TABLE _archive_tombstone (
    file_id INTEGER NOT NULL REFERENCES _archive_file,
    chunk   INTEGER NOT NULL,            -- of the rows from chunk * 65536 on
    rows    BLOB NOT NULL,               -- a Roaring bitmap of row numbers, from 0, in file order
    PRIMARY KEY (file_id, chunk)
);

-- Files that were in the catalog and are no more: archive_gc removes them after a while, as a backup may
-- still refer to them.
CREATE TABLE _archive_removed (
    path       TEXT PRIMARY KEY,         -- relative to the archive folder
    removed_at TEXT NOT NULL
) WITHOUT ROWID;

-- Empty, and last: a table that comes after it in sqlite_schema was created later than all that are
-- registered, whatever its name is.
CREATE TABLE _archive_anchor (
    unused
);
