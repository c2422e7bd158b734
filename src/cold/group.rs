//! A row group as a scan reads it: which of its rows count, and pages of its columns, each decoded
//! when it is first needed.

use std::ops::Range as Span;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use once_cell::sync::OnceCell;
use rusqlite::types::Value as Owned;

use super::selection::{Matcher, Selection};
use super::stats::Counters;
use crate::catalog::files::FileEntry;
use crate::catalog::tombstones::DeadRows;
use crate::error::{Error, Result};
use crate::format::decode::{DecodedColumn, Scratch};
use crate::format::file::OpenFile;
use crate::format::predicate::{Ordered, Predicate};
use crate::format::range::{Kinds, Range};
use crate::format::types::Storage;
use crate::schema::Column;
use crate::snapshot::cache::{Cache, PageKey};
use crate::snapshot::retyped::{Converter, Storing};
use crate::storage::Folder;
use crate::time::canonical::MAX_LENGTH;
use crate::value::Value;

/// What all parts of a scan share, on whatever thread.
pub struct Context {
    pub folder: Arc<Folder>,
    pub cache: Cache,
    pub counters: Arc<Counters>,
    /// The terms of the WHERE clause, each with the column of `cold_t` it is about.
    pub predicates: Vec<(usize, Predicate)>,
    /// The columns of `cold_t` that were asked for so far, which are worth decoding ahead.
    pub wanted: Vec<AtomicBool>,
    /// For each column of `cold_t`, what rows show of files that were written before it was added, or
    /// why that is not known.
    pub defaults: Vec<Result<Owned, String>>,
    pub converter: Converter,
    /// The column of `cold_t` that shows [`Group::rowid`].
    pub row_column: Option<usize>,
    /// How many threads may decode ahead.
    pub max_workers: usize,
}

/// A file of a scan.
pub struct ScanFile {
    pub entry: Arc<FileEntry>,
    /// The columns that it was written with.
    pub columns: Arc<Vec<Column>>,
    /// Where the columns of `cold_t` are among them.
    pub positions: Arc<Vec<Option<usize>>>,
    /// For each predicate of the scan, what kinds of values its column has in this file.
    pub kinds: Vec<Kinds>,
    /// For each column of `cold_t`, how its values become those of the table as it is now. Empty if all
    /// stay what they are.
    pub conversions: Vec<Option<Storing>>,
    /// The rows that do not count.
    pub dead: Arc<DeadRows>,
    pub counters: Arc<Counters>,
    pub opened: OnceCell<OpenFile>,
}

impl ScanFile {
    /// How values of a column of `cold_t` become those of the table as it is now, if they may change.
    #[inline]
    fn conversion(&self, column: usize) -> Option<Storing> {
        self.conversions.get(column).copied().flatten()
    }

    /// The number of its rows that count.
    pub fn live_rows(&self) -> usize {
        let published = self.entry.published;
        published - self.dead.among_first(published)
    }

    /// Opens it, if that has not been done.
    pub fn open(&self, context: &Context) -> Result<&OpenFile> {
        self.opened.get_or_try_init(|| {
            let (file, known) = context.cache.open(&context.folder, &self.entry.record)?;
            let stored = file.columns().iter().map(|column| &column.name);
            if !stored.eq(self.columns.iter().map(|column| &column.name)) {
                let reason = "its columns are not those that the catalog says it has";
                return Err(Error::damaged(file.path())(reason));
            }
            Counters::add(&context.counters.files_opened, 1);
            Counters::add(&context.counters.cache_hits, usize::from(known));
            Ok(file)
        })
    }
}

/// A row group of a scan.
pub struct Group {
    context: Arc<Context>,
    file: Arc<ScanFile>,
    number: usize,
    /// The number in the file of its first row.
    first_row: usize,
    /// The rows that count and pass all predicates, as far as that is known.
    pub selection: Selection,
    /// Whether the last row comes first.
    pub descending: bool,
    columns: Vec<PagedColumn>,
    /// The value that was converted last.
    converted: Owned,
    /// Bytes that the pages of all columns take.
    bytes: usize,
}

/// The pages of a column that have been decoded.
#[derive(Default)]
struct PagedColumn {
    /// The page that was used last, and its rows.
    current: Option<Arc<DecodedColumn>>,
    span: Span<usize>,
    pages: Vec<Option<Arc<DecodedColumn>>>,
    /// Rows that were decoded, and not found in the cache.
    decoded_rows: usize,
}

impl Group {
    /// Opens a row group and finds out which of its rows the scan goes through.
    pub fn prepare(
        context: &Arc<Context>,
        file: &Arc<ScanFile>,
        number: usize,
        descending: bool,
    ) -> Result<Self> {
        let opened = file.open(context)?;
        let rows = opened.footer().rows(number);
        let published = file.entry.published.clamp(rows.start, rows.end) - rows.start;
        let mut group = Self {
            context: Arc::clone(context),
            file: Arc::clone(file),
            number,
            first_row: rows.start,
            selection: Selection::Span(0..published),
            descending,
            columns: Vec::new(),
            converted: Owned::Null,
            bytes: 0,
        };
        group
            .columns
            .resize_with(opened.columns().len(), PagedColumn::default);
        group.select(opened)?;
        if !group.selection.is_empty() {
            Counters::add(&context.counters.groups_read, 1);
        }
        Ok(group)
    }

    /// Narrows the selection: by what is known of the row group, then of pages, then by the bloom
    /// filters, and last by the values themselves.
    fn select(&mut self, opened: &OpenFile) -> Result<()> {
        let file = Arc::clone(&self.file);
        let context = Arc::clone(&self.context);
        let predicates = context.predicates.iter().zip(&file.kinds);
        // A column that the file does not have was looked at when the file was chosen. What is stored says
        // nothing of values that are converted.
        let stored: Vec<(usize, &Predicate, Kinds)> = predicates
            .filter(|((column, _), _)| file.conversion(*column).is_none())
            .filter_map(|((column, predicate), kinds)| {
                Some((file.positions.get(*column).copied()??, predicate, *kinds))
            })
            .collect();
        let footer = opened.footer();
        let number = self.number;
        let rules_out = |range: Option<Range>, predicate: &Predicate| {
            range.is_some_and(|range| !predicate.may_match(&range))
        };
        for (column, predicate, kinds) in &stored {
            if rules_out(footer.group_range(number, *column, *kinds), predicate) {
                self.selection = Selection::Span(0..0);
                return Ok(());
            }
        }
        self.bury();
        for (column, predicate, kinds) in &stored {
            let page_at = |row| footer.page_at(number, *column, row);
            self.selection.narrow(page_at, |page, rows| {
                let range = footer.page_range(number, *column, page, *kinds);
                if rules_out(range, predicate) {
                    rows.clear();
                }
                Ok(())
            })?;
        }
        for (column, predicate, kinds) in &stored {
            if !self.selection.is_empty() && self.is_absent(opened, *column, predicate, *kinds)? {
                self.selection = Selection::Span(0..0);
            }
        }
        let mut scratch = [0; MAX_LENGTH];
        for (column, predicate, _) in &stored {
            let paged = self.columns.get_mut(*column).ok_or_else(no_column)?;
            let page_at = |row| footer.page_at(number, *column, row);
            self.selection.narrow(page_at, |_, rows| {
                if let Some(first) = rows.first() {
                    let page = paged.turn_to(
                        &context,
                        opened,
                        (number, *column),
                        *first,
                        &mut self.bytes,
                    )?;
                    let start = paged.span.start;
                    let matcher = Matcher::new(&page, predicate);
                    rows.retain(|row| matcher.may_pass(row - start, &mut scratch));
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Takes away the rows that do not count from a selection of all that are published.
    fn bury(&mut self) {
        let first = self.first_row;
        let span = first..first + self.selection.len();
        if self.file.dead.within(span.clone()).next().is_some() {
            let live = self.file.dead.live(span);
            self.selection = live.map(|row| row - first).collect();
        }
    }

    /// Whether the bloom filter says that no value of the column passes.
    fn is_absent(
        &self,
        opened: &OpenFile,
        column: usize,
        predicate: &Predicate,
        kinds: Kinds,
    ) -> Result<bool> {
        let (wanted, unless) = match predicate {
            Predicate::Compare {
                comparison: Ordered::Eq,
                value,
                unless,
            } => (std::slice::from_ref(value), *unless),
            Predicate::In { values, unless } => (&values[..], *unless),
            _ => return Ok(false),
        };
        let storage = opened.columns().get(column).map(|stored| &stored.storage);
        let has_filter = |chunk: &parquet::file::metadata::ColumnChunkMetaData| {
            chunk.bloom_filter_offset().is_some()
        };
        if kinds.intersects(unless)
            || !opened
                .footer()
                .chunk(self.number, column)
                .is_some_and(has_filter)
        {
            return Ok(false);
        }
        let filter = self
            .context
            .cache
            .bloom_filter(opened, self.number, column)?;
        Ok(filter.is_some_and(|filter| {
            wanted.iter().all(|value| match (storage, value) {
                (Some(Storage::Integer), Owned::Integer(integer)) => !filter.check(integer),
                (Some(Storage::Text), Owned::Text(text)) => !filter.check(text.as_str()),
                (Some(Storage::Blob), Owned::Blob(blob)) => !filter.check(blob.as_slice()),
                _ => false,
            })
        }))
    }

    /// Decodes the pages of the wanted columns that have selected rows.
    pub fn decode_wanted(&mut self) -> Result<()> {
        let file = Arc::clone(&self.file);
        let context = Arc::clone(&self.context);
        let opened = file.open(&context)?;
        for (wanted, stored) in context.wanted.iter().zip(file.positions.iter()) {
            if let (true, Some(stored)) = (wanted.load(Ordering::Relaxed), *stored) {
                let column = self.columns.get_mut(stored).ok_or_else(no_column)?;
                let mut position = 0;
                while let Some(row) = self.selection.get(position) {
                    column.turn_to(
                        &context,
                        opened,
                        (self.number, stored),
                        row,
                        &mut self.bytes,
                    )?;
                    position = self.selection.position_of(column.span.end);
                }
            }
        }
        Ok(())
    }

    /// The selected row at `position`, in the direction of the scan.
    #[inline]
    pub fn row_at(&self, position: usize) -> Option<usize> {
        match self.descending {
            true => self
                .selection
                .get(self.selection.len().checked_sub(position + 1)?),
            false => self.selection.get(position),
        }
    }

    /// The value of a column of `cold_t` in a row of this group.
    #[inline]
    pub fn value<'a>(
        &'a mut self,
        column: usize,
        row: usize,
        scratch: &'a mut Scratch,
    ) -> Result<Value<'a>> {
        let Some(stored) = self.file.positions.get(column).copied().flatten() else {
            if self.context.row_column == Some(column) {
                return Ok(Value::Integer(self.rowid(row)));
            }
            return match self.context.defaults.get(column) {
                Some(Ok(default)) => Ok(Value::from(default)),
                Some(Err(error)) => Err(Error::refused(error.clone())),
                None => Ok(Value::Null),
            };
        };
        let paged = self.columns.get_mut(stored).ok_or_else(no_column)?;
        if !paged.span.contains(&row) {
            if let Some(wanted) = self.context.wanted.get(column) {
                wanted.store(true, Ordering::Relaxed);
            }
            let opened = self.file.open(&self.context)?;
            paged.turn_to(
                &self.context,
                opened,
                (self.number, stored),
                row,
                &mut self.bytes,
            )?;
        }
        let page = paged.current.as_ref().ok_or_else(no_column)?;
        let value = page.value(row - paged.span.start, scratch);
        let Some(storing) = self.file.conversion(column) else {
            return Ok(value);
        };
        Ok(match self.context.converter.convert(storing, value)? {
            Some(converted) => {
                self.converted = converted;
                Value::from(&self.converted)
            }
            None => value,
        })
    }

    /// A number that no other row of the table's cold files has.
    pub fn rowid(&self, row: usize) -> i64 {
        let row = i64::try_from(self.first_row + row).unwrap_or(i64::MAX);
        (self.file.entry.id << 32) | row
    }

    /// Bytes that its decoded pages take.
    pub fn memory(&self) -> usize {
        self.bytes
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let counters = &self.context.counters;
        let decoded = self.columns.iter().map(|column| column.decoded_rows).max();
        Counters::add(&counters.rows_decoded, decoded.unwrap_or(0));
        for pages in self.columns.iter().map(|column| &column.pages) {
            let skipped = pages.iter().filter(|page| page.is_none()).count();
            Counters::add(&counters.pages_skipped, skipped);
        }
    }
}

impl Drop for ScanFile {
    fn drop(&mut self) {
        if let Some(opened) = self.opened.get() {
            let bytes = usize::try_from(opened.bytes_read()).unwrap_or(usize::MAX);
            Counters::add(&self.counters.bytes_read, bytes);
        }
    }
}

fn no_column() -> Error {
    Error::Internal("a row group has lost a column".into())
}

impl PagedColumn {
    /// Makes the page with `row` the current one. `place` is the row group and the column, `held` the bytes that
    /// all pages of the row group take.
    fn turn_to(
        &mut self,
        context: &Context,
        opened: &OpenFile,
        place: (usize, usize),
        row: usize,
        held: &mut usize,
    ) -> Result<Arc<DecodedColumn>> {
        let (group, column) = place;
        let footer = opened.footer();
        let (number, span) = footer.page_at(group, column, row);
        if self.pages.is_empty() {
            self.pages.resize(footer.pages(group, column).max(1), None);
        }
        let slot = self.pages.get_mut(number).ok_or_else(no_column)?;
        let page = match slot {
            Some(page) => Arc::clone(page),
            None => {
                let key = PageKey {
                    footer: footer.id,
                    group,
                    column,
                    page: number,
                };
                let counters = &context.counters;
                let page = match context.cache.page(key) {
                    Some(page) => {
                        Counters::add(&counters.cache_hits, 1);
                        page
                    }
                    None => {
                        let page = Arc::new(opened.decode_rows(group, column, span.clone())?);
                        Counters::add(&counters.pages_read, 1);
                        self.decoded_rows += span.len();
                        context.cache.keep_page(key, &page);
                        page
                    }
                };
                *held += page.memory();
                opened.check_group(*held)?;
                Arc::clone(slot.insert(page))
            }
        };
        self.span = span;
        self.current = Some(Arc::clone(&page));
        Ok(page)
    }
}
