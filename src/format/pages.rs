//! The pages of a column chunk, as the parquet crate reads them, each checked before anything is made of it.
//!
//! A page's header claims how large it is decompressed, and its contents how many values it has and how long
//! they are; the crate makes room for as many. [`CheckedBytes`] sees a page before it is decompressed, and
//! [`CheckedPages`] before it is decoded. Where the parts of a page are:
//! <https://parquet.apache.org/docs/file-format/data-pages/encodings/>

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parquet::basic::{Encoding, Type};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;

use super::outline::page_size;
use super::thrift::Reader;
use crate::storage::read::VerifiedFile;

/// The bytes of length of the levels in a page, or of a value in a plain one.
const LENGTH: usize = 4;
/// The largest block and the largest number of miniblocks of a delta encoding.
const MAX_BLOCK: u64 = 1 << 16;
const MAX_MINIBLOCKS: u64 = 1 << 10;
/// The most bits of a key of a dictionary.
const MAX_KEY_BITS: u8 = 32;
/// Bytes of a row group's values that do no harm.
const FEW: u64 = 16 << 20;

fn refused(reason: &str) -> ParquetError {
    ParquetError::General(reason.to_owned())
}

/// The bytes of pages, for one call of the reader.
pub struct CheckedBytes {
    file: Arc<VerifiedFile>,
    /// How many bytes the pages may still have when they are decompressed.
    left: AtomicU64,
}

impl Length for CheckedBytes {
    fn len(&self) -> u64 {
        self.file.len()
    }
}

impl ChunkReader for CheckedBytes {
    type T = <VerifiedFile as ChunkReader>::T;

    /// Not called where the index says where the pages are.
    fn get_read(&self, _start: u64) -> Result<Self::T> {
        Err(refused("a page is not in the index"))
    }

    /// Reads a whole page with its header.
    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let bytes = self.file.get_bytes(start, length)?;
        let size = page_size(&bytes).ok_or_else(|| refused("a page's header is malformed"))?;
        let take = |left: u64| left.checked_sub(size.uncompressed as u64);
        match self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
        {
            Ok(_) => Ok(bytes),
            Err(_) => Err(refused("a page is larger than its file can have")),
        }
    }
}

/// What is known of a chunk's dictionary.
enum Dictionary {
    /// Of values of fixed length.
    Numbers,
    /// Of values of any length, each after its length, and that of the longest.
    Values(Bytes, u32),
}

/// The pages of a column chunk.
pub struct CheckedPages {
    pages: SerializedPageReader<CheckedBytes>,
    physical: Type,
    /// Whether the chunk has NULLs, or could have: then a page has levels.
    levels: bool,
    /// Of the row group.
    rows: usize,
    /// How many bytes the values may still have when they are decoded.
    left: u64,
    dictionary: Option<Dictionary>,
    /// The dictionary, if it was passed over and then looked at.
    deferred: Option<Page>,
}

impl CheckedPages {
    /// The pages at `locations` of a chunk in a row group of `rows` rows, of which at most `most` bytes may be
    /// made.
    pub fn new(
        file: &Arc<VerifiedFile>,
        chunk: &ColumnChunkMetaData,
        rows: usize,
        locations: Vec<PageLocation>,
        most: u64,
    ) -> Result<Self> {
        let bytes = CheckedBytes {
            file: Arc::clone(file),
            left: AtomicU64::new(most),
        };
        Ok(Self {
            pages: SerializedPageReader::new(Arc::new(bytes), chunk, rows, Some(locations))?,
            physical: chunk.column_type(),
            levels: chunk.column_descr().max_def_level() > 0,
            rows,
            left: most,
            dictionary: None,
            deferred: None,
        })
    }

    fn check(&mut self, page: &Page) -> Result<()> {
        let what = match page {
            Page::DictionaryPage { .. } if self.dictionary.is_some() => None,
            Page::DictionaryPage {
                buf,
                num_values,
                encoding: Encoding::PLAIN,
                ..
            } => {
                self.dictionary = self.read_dictionary(buf, *num_values);
                self.dictionary.as_ref().map(|_| ())
            }
            Page::DataPage {
                buf,
                num_values,
                encoding,
                def_level_encoding: Encoding::RLE,
                ..
            } => self.check_values(buf, *num_values, *encoding)?,
            _ => None,
        };
        what.ok_or_else(|| refused("a page says what cannot be"))
    }

    /// The bytes of a value of fixed length.
    fn width(&self) -> Option<usize> {
        match self.physical {
            Type::INT32 => Some(4),
            Type::INT64 | Type::DOUBLE => Some(8),
            _ => None,
        }
    }

    fn read_dictionary(&self, bytes: &Bytes, count: u32) -> Option<Dictionary> {
        let count = usize::try_from(count).ok()?;
        if count > self.rows {
            return None;
        }
        if let Some(width) = self.width() {
            return (count * width <= bytes.len()).then_some(Dictionary::Numbers);
        }
        let mut longest = 0;
        for length in lengths(bytes).take(count) {
            longest = longest.max(length?);
        }
        Some(Dictionary::Values(bytes.clone(), longest))
    }

    /// `None` if the page says what cannot be.
    fn check_values(&mut self, bytes: &[u8], count: u32, encoding: Encoding) -> Result<Option<()>> {
        let Some((count, values)) = self.split_levels(bytes, count) else {
            return Ok(None);
        };
        let checked = match (encoding, self.physical) {
            (Encoding::PLAIN, _) => Some(bytes.len() as u64),
            (Encoding::DELTA_BINARY_PACKED, Type::INT32 | Type::INT64) => {
                is_delta(values, count).then_some(0)
            }
            (Encoding::DELTA_LENGTH_BYTE_ARRAY, Type::BYTE_ARRAY) => {
                is_delta(values, count).then_some(bytes.len() as u64)
            }
            (Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY, _) => {
                self.find_dictionary()?;
                self.expanded(values, count)
            }
            _ => None,
        };
        let Some(made) = checked else {
            return Ok(None);
        };
        match self.left.checked_sub(made) {
            Some(left) => self.left = left,
            None => return Err(refused("a page has more values than its file can have")),
        }
        Ok(Some(()))
    }

    /// The number of rows of a page of values, and what comes after its levels.
    fn split_levels<'a>(&self, bytes: &'a [u8], count: u32) -> Option<(usize, &'a [u8])> {
        let count = usize::try_from(count).ok()?;
        if !(1..=self.rows).contains(&count) {
            return None;
        }
        if !self.levels {
            return Some((count, bytes));
        }
        let (length, rest) = bytes.split_first_chunk::<LENGTH>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        Some((count, rest.get(length..)?))
    }

    /// Makes sure that the dictionary was looked at before the pages that refer to it.
    fn find_dictionary(&mut self) -> Result<()> {
        if self.dictionary.is_none() {
            self.deferred = self.pages.take_deferred_dictionary()?;
            if let Some(page) = self.deferred.take() {
                self.check(&page)?;
                self.deferred = Some(page);
            }
        }
        Ok(())
    }

    /// How many bytes the values of a page are that refers to the dictionary.
    fn expanded(&self, keys: &[u8], count: usize) -> Option<u64> {
        let (width, keys) = keys.split_first()?;
        match self.dictionary.as_ref()? {
            _ if *width > MAX_KEY_BITS => None,
            Dictionary::Numbers => Some(0),
            // Short values need not be added up: they are few bytes, whatever the keys are.
            Dictionary::Values(_, longest) if self.rows as u64 * u64::from(*longest) <= FEW => {
                Some(0)
            }
            Dictionary::Values(bytes, _) => {
                let lengths: Vec<u32> = lengths(bytes).map_while(|length| length).collect();
                sum_of_keys(keys, *width, count, &lengths)
            }
        }
    }
}

/// The lengths of values that come after each other, each after its length; `None` where a value is cut.
fn lengths(bytes: &[u8]) -> impl Iterator<Item = Option<u32>> {
    let cut = |bytes: &[u8]| {
        let (length, rest) = bytes.split_first_chunk::<LENGTH>()?;
        let length = u32::from_le_bytes(*length);
        Some((
            length,
            rest.len().checked_sub(usize::try_from(length).ok()?)?,
        ))
    };
    let mut left = bytes.len();
    std::iter::from_fn(move || {
        let rest = bytes.get(bytes.len() - left..)?;
        (left > 0).then(|| {
            let (length, after) = cut(rest)?;
            left = after;
            Some(length)
        })
    })
}

/// Adds up the `lengths` that the first `count` keys refer to. The keys are in runs, of one key or of `width` bits
/// for each; those that refer to nothing are left to the reader, which refuses them.
fn sum_of_keys(keys: &[u8], width: u8, count: usize, lengths: &[u32]) -> Option<u64> {
    let length = |key: u64| {
        let length = usize::try_from(key).ok().and_then(|key| lengths.get(key));
        length.copied().map_or(0, u64::from)
    };
    let width = usize::from(width);
    let mut reader = Reader::new(keys);
    let (mut left, mut sum) = (count, 0_u64);
    while left > 0 && !reader.rest().is_empty() {
        let run = reader.varint()?;
        let number = usize::try_from(run >> 1).ok()?;
        if run & 1 == 0 {
            let key = reader.take(width.div_ceil(8))?;
            let key = key
                .iter()
                .rev()
                .fold(0, |key, byte| key << 8 | u64::from(*byte));
            let number = number.min(left);
            sum = sum.saturating_add(length(key).saturating_mul(number as u64));
            left -= number;
        } else {
            // The last run may be cut.
            let bytes = number.saturating_mul(width).min(reader.rest().len());
            let bytes = reader.take(bytes)?;
            let number = number.saturating_mul(8).min(left);
            sum = (0..number).fold(sum, |sum, place| {
                sum.saturating_add(length(bits(bytes, place * width, width)))
            });
            left -= number;
        }
        if run == 0 {
            return None;
        }
    }
    Some(sum)
}

/// The number of `width` bits, 32 at most, that begins with the bit `start`; bits that are not there are 0.
fn bits(bytes: &[u8], start: usize, width: usize) -> u64 {
    let mut window = [0; 8];
    let rest = bytes.get(start / 8..).unwrap_or_default();
    window
        .iter_mut()
        .zip(rest)
        .for_each(|(to, from)| *to = *from);
    u64::from_le_bytes(window) >> (start % 8) & ((1 << width) - 1)
}

/// Whether the bytes begin as delta-encoded numbers do, of which there are at most `count`.
fn is_delta(bytes: &[u8], count: usize) -> bool {
    let mut reader = Reader::new(bytes);
    let mut header = || Some((reader.varint()?, reader.varint()?, reader.varint()?));
    header().is_some_and(|(block, miniblocks, values)| {
        (1..=MAX_BLOCK).contains(&block)
            && (1..=MAX_MINIBLOCKS).contains(&miniblocks)
            && values <= count as u64
    })
}

impl Iterator for CheckedPages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for CheckedPages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        if let Some(page) = &page {
            self.check(page)?;
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn supports_deferred_dictionary(&self) -> bool {
        self.pages.supports_deferred_dictionary()
    }

    fn take_deferred_dictionary(&mut self) -> Result<Option<Page>> {
        self.find_dictionary()?;
        Ok(self.deferred.take())
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_added_up() {
        let lengths = [1, 10, 100, 1000];
        // Three times key 2, then eight keys of two bits: 0, 1, 2, 3, 3, 2, 1, 0.
        let keys = [6, 2, 3, 0b1110_0100, 0b0001_1011];
        assert_eq!(sum_of_keys(&keys, 2, 100, &lengths), Some(300 + 2222));
        assert_eq!(sum_of_keys(&keys, 2, 5, &lengths), Some(300 + 11));
        assert_eq!(sum_of_keys(&keys[..4], 2, 7, &lengths), Some(300 + 1111));
        assert_eq!(
            sum_of_keys(&[0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 1], 1, 65_536, &lengths),
            None
        );
        assert_eq!(
            sum_of_keys(&[0xFE, 0xFF, 0xFF, 0xFF, 1, 3], 2, 65_536, &lengths),
            Some(65_536_000)
        );
        assert_eq!(sum_of_keys(&[0, 0, 0], 2, 3, &lengths), None);
    }

    #[test]
    fn bits_are_found_at_any_place() {
        let bytes = [0xF0, 0x0F, 0xAA, 0xFF];
        assert_eq!(bits(&bytes, 4, 8), 0xFF);
        assert_eq!(bits(&bytes, 16, 3), 2);
        assert_eq!(
            (
                bits(&bytes, 28, 32),
                bits(&bytes, 99, 32),
                bits(&bytes, 0, 0)
            ),
            (15, 0, 0)
        );
    }

    #[test]
    fn delta_numbers_are_no_more_than_there_are_rows() {
        assert!(is_delta(&[0x80, 1, 4, 100, 0], 100) && !is_delta(&[0x80, 1, 4, 101, 0], 100));
        let many = [0x80, 1, 4, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x08, 0];
        assert!(
            !is_delta(&many, 65_536) && !is_delta(&[0x80, 1, 0, 1], 5) && !is_delta(&[0x80], 5)
        );
    }
}
