-- One row for each run, newest first.
SELECT t.name, r.started_at, r.finished_at, r.cutoff, r.rows, r.files, r.bytes, r.status, r.error
FROM main._archive_run r JOIN main._archive_table t ON t.id = r.table_id
ORDER BY r.id DESC
