-- The worked example: four tables, kept small from now on. Each is one line; a fifth takes one more.
--
--   sqlite3 forward.db < sql/policies.sql
--
-- from the top of the repository; elsewhere, change ./dist/cold below to where the library is. The tables
-- and their columns are examples, too: each needs a column that tells a row's age (README, archive_table).
--
-- The days come from the environment (HOT_DAYS_TASK and so on) when a run begins, else from
-- archive_config('hot_days_task', ...), else they are 7, 30, 30, 60, and 180 for HOT_DAYS_STATS. A
-- number in the place of 'env:...' is fixed. The least priority goes first. Tasks that are not finished stay
-- in the table, however old they are: task_queue has a column status for that.
.bail on
.load ./dist/cold

SELECT archive_policy('task_queue',       'env:HOT_DAYS_TASK', '{"priority":1, "where":"status <> ''pending''"}');
SELECT archive_policy('rule_logs',        'env:HOT_DAYS_LOG',  '{"priority":2}');
SELECT archive_policy('audit_logs',       'env:HOT_DAYS_LOG',  '{"priority":3}');
SELECT archive_policy('media_signatures', 'env:HOT_DAYS_SIGN', '{"priority":4}');

-- Statistics, if you have such a table:
-- SELECT archive_policy('chat_statistics', 'env:HOT_DAYS_STATS', '{"priority":5}');
