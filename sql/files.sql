-- One row for each cold file of the table ?1, oldest first; rows are those that count.
SELECT path,
       published - dead,
       bytes,
       time_min,
       time_max,
       CASE WHEN published = rows THEN 'published'
            WHEN published = 0 AND staged_at IS NOT NULL THEN 'staged'
            ELSE 'publishing' END
FROM main._archive_file
WHERE table_id = ?1
ORDER BY time_min, id
