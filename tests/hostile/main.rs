//! Files from an attacker, who writes the checksums, too: whatever they say, reading them is an error or an
//! answer, and takes no more memory than an honest file could.
//!
//!     hostile read FILES [SEED]                     changed files, read in this process
//!     hostile write FILE FILES SEED FOLDER          changed copies of a cold file
//!
//! It stops at the first file that breaks a promise, and says by which seed it was made.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod corpus;
mod mutate;
mod parts;
mod thrift;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use cold::error::{Error, Result};
use cold::format::decode::{DecodedColumn, Scratch};
use cold::format::file::OpenFile;
use cold::format::range::Kinds;
use cold::format::record::FileRecord;
use cold::sqlite::panic::{guard, silence};
use cold::storage::Folder;
use cold::storage::access::Access;
use cold::storage::seal::Seal;
use cold::time::canonical::MAX_LENGTH;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use mutate::{Random, mutate};
use parts::Parts;

/// No more than that may be in memory at once.
const MOST: usize = 256_000_000;
/// Longer than that no file of a few kilobytes may take.
const SECONDS: u64 = 10;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static SEED: AtomicU64 = AtomicU64::new(0);

/// Counts the bytes that are in use.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn grow(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(live, Ordering::Relaxed);
    if bytes > 4 * MOST {
        LIVE.fetch_sub(bytes, Ordering::Relaxed);
        PEAK.store(0, Ordering::Relaxed);
        panic!(
            "seed {} asks for {bytes} bytes",
            SEED.load(Ordering::Relaxed)
        );
    }
}

#[expect(
    unsafe_code,
    reason = "an allocator is unsafe; this one hands every call on"
)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both are there while it is copied.
        grow(size);
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.realloc(place, layout, size) }
    }
}

fn seal(bytes: &[u8]) -> Seal {
    Seal {
        bytes: bytes.len() as u64,
        checksum: xxh3_128(bytes).to_be_bytes(),
        blocks: bytes.chunks(64 * 1024).map(xxh3_64).collect(),
    }
}

/// Reads all that a query could read of a file; returns the number of rows.
fn read(folder: &Folder, record: &FileRecord, random: &mut Random) -> Result<usize> {
    let file = OpenFile::open(folder, record)?;
    let footer = file.footer();
    let mut scratch: Scratch = [0; MAX_LENGTH];
    let mut look = |column: &DecodedColumn| {
        for row in 0..column.rows() {
            std::hint::black_box(column.value(row, &mut scratch).bytes().len());
            std::hint::black_box(column.number(row));
        }
        column.rows()
    };
    let mut rows = 0;
    let by_pages = random.one_in(2);
    for group in 0..file.row_groups() {
        let mut held = Vec::new();
        for column in 0..file.columns().len() {
            std::hint::black_box(footer.group_range(group, column, Kinds::all()));
            if let Some(filter) = file.bloom_filter(group, column)? {
                std::hint::black_box((filter.check(&7_i64), filter.check("x")));
            }
            let mut row = 0;
            while by_pages && row < file.rows(group) {
                let (page, span) = footer.page_at(group, column, row);
                std::hint::black_box(footer.page_range(group, column, page, Kinds::all()));
                let decoded = file.decode_rows(group, column, span.clone())?;
                rows += look(&decoded);
                row = span.end;
                held.push(decoded);
                file.check_group(held.iter().map(DecodedColumn::memory).sum())?;
            }
        }
        if !by_pages {
            rows += file.decode_all(group)?.iter().map(&mut look).sum::<usize>();
        }
    }
    std::hint::black_box(footer.integers(0));
    Ok(rows)
}

fn read_many(count: u64, first: u64) {
    let root = std::env::temp_dir().join(format!("sqlite-cold-hostile-{}", std::process::id()));
    std::fs::create_dir_all(&root).expect("the temporary folder is writable");
    let folder = Folder::new(root.clone(), Access::default());
    let honest: Vec<(FileRecord, Parts)> = corpus::write(&folder)
        .into_iter()
        .map(|record| {
            let bytes = std::fs::read(root.join(&record.path)).expect("an honest file");
            let parts = Parts::read(&bytes);
            (record, parts)
        })
        .collect();
    for (record, parts) in &honest {
        check_honest(&folder, record, parts);
    }
    silence();
    let began = Instant::now();
    let mut reasons: HashMap<String, u64> = HashMap::new();
    let (mut errors, mut answers, mut gave_up, mut peak, mut slowest) = (0, 0, 0, 0, 0.0_f64);
    for seed in first..first + count {
        SEED.store(seed, Ordering::Relaxed);
        let mut random = Random::new(seed);
        let often = random.below(20);
        let (record, parts) = &honest[[0, 1, 2, 3][if often == 0 { 3 } else { often % 3 }]];
        let bytes = mutate(parts, &mut random);
        let mut record = FileRecord {
            path: "x.parquet".to_owned(),
            seal: seal(&bytes),
            ..record.clone()
        };
        if random.one_in(20) {
            record.rows = random.below(1 << 40);
            record.row_groups = random.below(300);
        }
        std::fs::write(root.join(&record.path), &bytes).expect("written");
        drop(bytes);
        let before = LIVE.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let start = Instant::now();
        let outcome = guard(|| read(&folder, &record, &mut random));
        let used = PEAK.load(Ordering::Relaxed) - before;
        peak = peak.max(used);
        slowest = slowest.max(start.elapsed().as_secs_f64());
        match outcome {
            Ok(_) => answers += 1,
            Err(Error::Internal(reason)) => panic!("seed {seed}: a panic escapes: {reason}"),
            Err(error) => {
                errors += 1;
                gave_up += u64::from(error.to_string().contains("gave up"));
                *reasons.entry(reason(&error)).or_insert(0) += 1;
            }
        }
        assert!(used <= MOST, "seed {seed} takes {used} bytes");
        assert!(
            start.elapsed().as_secs() < SECONDS,
            "seed {seed} takes too long"
        );
    }
    std::fs::remove_dir_all(&root).expect("removed");
    println!(
        "{count} files from seed {first} in {:.0} s: {errors} errors ({gave_up} of them panics of the \
         Parquet reader), {answers} answers, at most {} KB and {:.0} ms",
        began.elapsed().as_secs_f64(),
        peak / 1000,
        slowest * 1e3
    );
    let mut reasons: Vec<(String, u64)> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, count)| Reverse(*count));
    for (reason, count) in reasons.into_iter().take(40) {
        println!("{count:7} {reason}");
    }
}

/// What an error says, but for the file and for numbers.
fn reason(error: &Error) -> String {
    let text = error.to_string();
    let text = text
        .split_once("damaged: ")
        .map_or(&*text, |(_, reason)| reason);
    text.chars()
        .filter(|c| !c.is_ascii_digit())
        .take(100)
        .collect()
}

/// What is taken apart and put together again is the same to a reader.
fn check_honest(folder: &Folder, record: &FileRecord, parts: &Parts) {
    let bytes = parts.bytes();
    let copy = FileRecord {
        path: "copy.parquet".to_owned(),
        seal: seal(&bytes),
        ..record.clone()
    };
    std::fs::write(folder.root().join(&copy.path), &bytes).expect("written");
    let rows = |record: &FileRecord| read(folder, record, &mut Random::new(1));
    let (rows, expected) = (rows(&copy), rows(record));
    assert_eq!(rows.expect("a copy"), expected.expect("an honest file"));
}

fn write_many(file: &Path, count: u64, first: u64, folder: &Path) {
    let parts = Parts::read(&std::fs::read(file).expect("an honest file"));
    for seed in first..first + count {
        let bytes = mutate(&parts, &mut Random::new(seed));
        std::fs::write(folder.join(seed.to_string()), bytes).expect("written");
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().expect("a number");
    match arguments[..] {
        ["read", count] => read_many(number(count), 1),
        ["read", count, seed] => read_many(number(count), number(seed)),
        ["write", file, count, seed, folder] => {
            write_many(
                Path::new(file),
                number(count),
                number(seed),
                Path::new(folder),
            );
        }
        _ => read_many(2_000, 1),
    }
}
