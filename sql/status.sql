-- One row for each archived table; the caller fills in hot_rows.
SELECT t.name,
       NULL AS hot_rows,
       coalesce(sum(f.published), 0)
           - (SELECT count(*) FROM main._archive_tombstone d JOIN main._archive_file g ON g.id = d.file_id
              WHERE g.table_id = t.id AND d.row < g.published) AS cold_rows,
       count(f.id) AS files,
       coalesce(sum(f.bytes), 0) AS cold_bytes,
       min(f.time_min) AS oldest,
       max(f.time_max) AS newest,
       (SELECT max(r.started_at) FROM main._archive_run r WHERE r.table_id = t.id) AS last_run
FROM main._archive_table t LEFT JOIN main._archive_file f ON f.table_id = t.id AND f.published > 0
GROUP BY t.id
ORDER BY t.name
