//! A progress bar on stderr, only if it was asked for and stderr is a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shows how many rows have moved.
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar for `rows` rows, invisible unless it is `wanted`. Indicatif itself draws nothing where
    /// stderr is no terminal.
    pub fn new(wanted: bool, table: &str, rows: u64) -> Self {
        let target = match wanted {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(rows), target);
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} rows {eta}") {
            bar.set_style(style);
        }
        bar.set_message(format!("archiving {table}"));
        Self(bar)
    }

    /// So many more rows are done.
    pub fn advance(&self, rows: u64) {
        self.0.inc(rows);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
