-- One row for each archived table, and for each that has a policy; the caller fills in hot_rows.
SELECT t.name,
       NULL AS hot_rows,
       coalesce(sum(f.published - f.dead), 0) AS cold_rows,
       (SELECT coalesce(sum(s.rows), 0) FROM main._archive_file s
        WHERE s.table_id = t.id AND s.published = 0 AND s.staged_at IS NOT NULL) AS staged_rows,
       count(f.id) AS files,
       coalesce(sum(f.bytes), 0) AS cold_bytes,
       round(sum(f.hot_bytes) * 1.0 / sum(f.bytes), 2) AS compression_ratio,
       min(f.time_min) AS oldest,
       max(f.time_max) AS newest,
       (SELECT json_object('hot_days', p.hot_days, 'priority', p.priority,
                           'enabled', json(iif(p.enabled, 'true', 'false')), 'options', json(p.options))
        FROM main._archive_policy p WHERE p.table_name = t.name) AS policy,
       (SELECT max(r.started_at) FROM main._archive_run r WHERE r.table_id = t.id) AS last_run
FROM main._archive_table t LEFT JOIN main._archive_file f ON f.table_id = t.id AND f.published > 0
GROUP BY t.id
UNION ALL
SELECT p.table_name, NULL, 0, 0, 0, 0, NULL, NULL, NULL,
       json_object('hot_days', p.hot_days, 'priority', p.priority,
                   'enabled', json(iif(p.enabled, 'true', 'false')), 'options', json(p.options)),
       (SELECT max(r.started_at) FROM main._archive_run r WHERE r.table_name = p.table_name)
FROM main._archive_policy p
WHERE p.table_name NOT IN (SELECT name FROM main._archive_table)
ORDER BY 1
