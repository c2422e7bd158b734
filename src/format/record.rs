//! What the catalog knows a cold file by.

use crate::storage::seal::Seal;

/// What a file is recognised by: who opens it checks all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRecord {
    /// Relative to the archive folder.
    pub path: String,
    pub rows: usize,
    pub row_groups: usize,
    pub seal: Seal,
}
