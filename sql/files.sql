-- One row for each cold file of the table ?1, oldest first; rows are those that count.
SELECT path,
       published - (SELECT count(*) FROM main._archive_tombstone d
                    WHERE d.file_id = f.id AND d.row < f.published),
       bytes,
       time_min,
       time_max,
       iif(published = rows, 'published', 'publishing')
FROM main._archive_file f
WHERE table_id = ?1
ORDER BY time_min, id
