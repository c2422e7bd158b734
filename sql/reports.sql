-- Reports over all history of a table, hot rows and cold ones, by DuckDB:
--
--   sqlite3 -box forward.db < sql/reports.sql
--
-- from the top of the repository; elsewhere, change ./dist/cold below to where the library is.
--
-- The table is task_queue with the columns created_at (a time), status, payload and error_message (text); change the
-- names to yours.
-- Each report is a table of this connection: it can be joined, filtered and sorted, and is computed anew
-- each time it is read. The CASTs work on times that are still text, too.
.bail on
.load ./dist/cold

-- Rows per day and status.
CREATE VIRTUAL TABLE temp.rows_per_day USING archive_query('
    SELECT CAST(created_at AS DATE) AS day, status, count(*) AS tasks
    FROM task_queue GROUP BY ALL');

-- Growth per month: new rows, their bytes of text, and how many rows there were at its end.
CREATE VIRTUAL TABLE temp.growth_per_month USING archive_query('
    SELECT strftime(CAST(created_at AS TIMESTAMP), ''%Y-%m'') AS month, count(*) AS tasks,
           sum(strlen(payload)) // 1000000 AS payload_mb,
           sum(count(*)) OVER (ORDER BY month) AS total
    FROM task_queue GROUP BY month');

-- The most frequent errors; numbers in them are #, so that like ones count together.
CREATE VIRTUAL TABLE temp.top_errors USING archive_query('
    SELECT regexp_replace(error_message, ''[0-9]+'', ''#'', ''g'') AS error, count(*) AS tasks,
           CAST(min(created_at) AS DATE) AS first, CAST(max(created_at) AS DATE) AS last
    FROM task_queue WHERE error_message IS NOT NULL
    GROUP BY error ORDER BY tasks DESC, error LIMIT 10');

-- How many of the tasks of each hour of the day failed, in percent.
CREATE VIRTUAL TABLE temp.failures_by_hour USING archive_query('
    SELECT hour(CAST(created_at AS TIMESTAMP)) AS hour, count(*) AS tasks,
           count(*) FILTER (status = ''failed'') AS failed, round(100.0 * failed / tasks, 2) AS percent
    FROM task_queue GROUP BY hour');

SELECT * FROM rows_per_day WHERE day >= date('now', '-3 days') ORDER BY day, status;
SELECT * FROM growth_per_month ORDER BY month;
SELECT * FROM top_errors;
SELECT * FROM failures_by_hour ORDER BY hour;
