//! What `archive_run` does in a night: backup, every policy, VACUUM, history, notification.
