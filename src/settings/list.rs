//! Every setting there is. The README's table of settings has the same rows.

use super::setting::{Kind, Place, Setting};

/// Where the cold files are: relative to the database file's folder.
pub const ARCHIVE_DIR: Setting = Setting {
    key: "archive_dir",
    variable: Some("ARCHIVE_DIR"),
    kind: Kind::Folder,
    place: Place::Database,
    default: "archive/parquet",
};

/// Whether `archive_run` and the schedule do anything.
pub const AUTO_ARCHIVE_ENABLED: Setting = Setting {
    key: "auto_archive_enabled",
    variable: Some("AUTO_ARCHIVE_ENABLED"),
    kind: Kind::Switch,
    place: Place::Database,
    default: "true",
};

/// How many backups are kept; none are made if it is 0.
pub const BACKUP_KEEP: Setting = Setting {
    key: "backup_keep",
    variable: None,
    kind: Kind::Number { min: 0, max: 1000 },
    place: Place::Database,
    default: "3",
};

/// The most rows that one write transaction moves.
pub const BATCH_SIZE: Setting = Setting {
    key: "batch_size",
    variable: Some("ARCHIVE_BATCH_SIZE"),
    kind: Kind::Number {
        min: 1,
        max: 1_000_000,
    },
    place: Place::Database,
    default: "10000",
};

/// Bytes of footers and decoded pages that the process keeps for later queries.
pub const CACHE_BYTES: Setting = Setting {
    key: "cache_bytes",
    variable: None,
    kind: Kind::Number {
        min: 0,
        max: 1 << 40,
    },
    place: Place::Database,
    default: "64000000",
};

/// When the process runs `archive_run` by itself: what `archive_schedule` takes.
pub const CLEANUP_CRON_TIMES: Setting = Setting {
    key: "cleanup_cron_times",
    variable: Some("CLEANUP_CRON_TIMES"),
    kind: Kind::Text,
    place: Place::Environment,
    default: "",
};

/// The ZSTD level of new cold files.
pub const COMPRESSION_LEVEL: Setting = Setting {
    key: "compression_level",
    variable: None,
    kind: Kind::Number { min: 1, max: 22 },
    place: Place::Database,
    default: "3",
};

/// How much memory DuckDB may use in a connection; if it is empty, 2GB or half of the machine's memory if
/// that is less.
pub const DUCKDB_MEMORY_LIMIT: Setting = Setting {
    key: "duckdb_memory_limit",
    variable: Some("DUCKDB_MEMORY_LIMIT"),
    kind: Kind::Memory,
    place: Place::Database,
    default: "",
};

/// Which functions loading the library adds: `all`, or `read`.
pub const FUNCTIONS: Setting = Setting {
    key: "functions",
    variable: Some("ARCHIVE_FUNCTIONS"),
    kind: Kind::Text,
    place: Place::Environment,
    default: "all",
};

/// How many hours `archive_run` leaves rows hot after they were copied.
pub const GRACE_HOURS: Setting = Setting {
    key: "grace_hours",
    variable: None,
    kind: Kind::Number { min: 0, max: 8760 },
    place: Place::Database,
    default: "24",
};

/// Days that rows stay hot, for policies that name the variable.
pub const HOT_DAYS_TASK: Setting = hot_days("hot_days_task", "HOT_DAYS_TASK", "7");
pub const HOT_DAYS_LOG: Setting = hot_days("hot_days_log", "HOT_DAYS_LOG", "30");
pub const HOT_DAYS_SIGN: Setting = hot_days("hot_days_sign", "HOT_DAYS_SIGN", "60");
pub const HOT_DAYS_STATS: Setting = hot_days("hot_days_stats", "HOT_DAYS_STATS", "180");

const fn hot_days(key: &'static str, variable: &'static str, default: &'static str) -> Setting {
    Setting {
        key,
        variable: Some(variable),
        kind: DAYS,
        place: Place::Database,
        default,
    }
}

/// A number of days.
pub const DAYS: Kind = Kind::Number {
    min: 0,
    max: 36_500,
};

/// How many threads of the process may decode ahead of scans, and encode for an archive run.
pub const MAX_WORKERS: Setting = Setting {
    key: "max_workers",
    variable: Some("ARCHIVE_MAX_WORKERS"),
    kind: Kind::Number { min: 0, max: 64 },
    place: Place::Database,
    default: "2",
};

/// The most rows that move in a second; 0 for no limit.
pub const MAX_ROWS_PER_SECOND: Setting = Setting {
    key: "max_rows_per_second",
    variable: None,
    kind: Kind::Number {
        min: 0,
        max: 1_000_000_000,
    },
    place: Place::Database,
    default: "0",
};

/// Where `archive_run` sends its summary; nowhere if it is empty.
pub const NOTIFY_URL: Setting = Setting {
    key: "notify_url",
    variable: Some("ARCHIVE_NOTIFY_URL"),
    kind: Kind::Text,
    place: Place::Environment,
    default: "",
};

/// Milliseconds to wait after each write transaction, at least.
pub const PAUSE_MS: Setting = Setting {
    key: "pause_ms",
    variable: None,
    kind: Kind::Number {
        min: 0,
        max: 60_000,
    },
    place: Place::Database,
    default: "0",
};

/// Whether anything is kept for later queries.
pub const QUERY_CACHE_ENABLED: Setting = Setting {
    key: "query_cache_enabled",
    variable: Some("ARCHIVE_QUERY_CACHE_ENABLED"),
    kind: Kind::Switch,
    place: Place::Database,
    default: "true",
};

/// After how many seconds without use what is kept is dropped.
pub const QUERY_CACHE_TTL: Setting = Setting {
    key: "query_cache_ttl",
    variable: Some("ARCHIVE_QUERY_CACHE_TTL"),
    kind: Kind::Number {
        min: 0,
        max: 31_536_000,
    },
    place: Place::Database,
    default: "300",
};

/// How many days a file that nothing refers to is kept.
pub const RETENTION_DAYS: Setting = Setting {
    key: "retention_days",
    variable: None,
    kind: DAYS,
    place: Place::Database,
    default: "7",
};

/// How much of the database file must be free before `archive_run` runs VACUUM.
pub const VACUUM_FREE_PERCENT: Setting = Setting {
    key: "vacuum_free_percent",
    variable: None,
    kind: Kind::Number { min: 0, max: 100 },
    place: Place::Database,
    default: "10",
};

/// All settings by name.
pub const ALL: [&Setting; 22] = [
    &ARCHIVE_DIR,
    &AUTO_ARCHIVE_ENABLED,
    &BACKUP_KEEP,
    &BATCH_SIZE,
    &CACHE_BYTES,
    &CLEANUP_CRON_TIMES,
    &COMPRESSION_LEVEL,
    &DUCKDB_MEMORY_LIMIT,
    &FUNCTIONS,
    &GRACE_HOURS,
    &HOT_DAYS_LOG,
    &HOT_DAYS_SIGN,
    &HOT_DAYS_STATS,
    &HOT_DAYS_TASK,
    &MAX_ROWS_PER_SECOND,
    &MAX_WORKERS,
    &NOTIFY_URL,
    &PAUSE_MS,
    &QUERY_CACHE_ENABLED,
    &QUERY_CACHE_TTL,
    &RETENTION_DAYS,
    &VACUUM_FREE_PERCENT,
];
