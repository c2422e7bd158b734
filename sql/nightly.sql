-- The nightly run from outside, for cron or a systemd timer:
--
--   sqlite3 forward.db < sql/nightly.sql
--
-- from the top of the repository; elsewhere, change ./dist/cold below to where the library is.
--
-- Prints the summary. If anything failed, the shell prints what and its exit status is not 0; the
-- tables that did not fail were archived all the same.
.bail on
.timeout 10000
.load ./dist/cold

SELECT archive_run('{"on_error":"fail"}');
