//! What a finished file is recognised by.

/// How many bytes have one checksum; the last block of a file is shorter. Part of the catalog's
/// format.
pub const BLOCK_BYTES: usize = 64 * 1024;

/// What a finished file is recognised by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    pub bytes: u64,
    /// XXH3-128 of the whole file.
    pub checksum: [u8; 16],
    /// XXH3-64 of each of its blocks.
    pub blocks: Vec<u64>,
}
