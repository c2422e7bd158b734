-- One row for each run, newest first.
SELECT operation, table_name, started_at, finished_at, cutoff, planned_rows, rows, files, bytes, status, error
FROM main._archive_run
ORDER BY id DESC
