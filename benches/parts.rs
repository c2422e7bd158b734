//! The parts of archiving that need no SQLite: `cargo bench --no-default-features`.
//!
//! One cold file of a day: 4,000 tasks with a payload of about 330 bytes.

#![allow(clippy::expect_used, reason = "a benchmark may panic")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use cold::format::decode::Scratch;
use cold::format::file::OpenFile;
use cold::format::rows::FileRows;
use cold::format::rows::RowGroup;
use cold::format::write::FileWriter;
use cold::schema::{Column, Key, Table};
use cold::storage::Folder;
use cold::storage::access::Access;
use cold::time::TimeFormat;
use cold::time::canonical::{MAX_LENGTH, Shape};
use cold::value::{Encoding, Value};

/// What tells the age of rows.
const TIME: (&str, TimeFormat) = ("created_at", TimeFormat::Iso8601);
const ROWS: i64 = 4_000;

fn table() -> Table {
    let column = |(name, declared_type): (&str, &str)| Column {
        id: 0,
        name: name.to_owned(),
        declared_type: declared_type.to_owned(),
        collation: "BINARY".to_owned(),
        default: None,
        generated: None,
    };
    let columns = [
        ("id", "INTEGER"),
        ("status", "TEXT"),
        ("payload", "TEXT"),
        ("created_at", "TEXT"),
    ];
    Table {
        sql: String::new(),
        name: "tasks".to_owned(),
        columns: columns.into_iter().map(column).collect(),
        key: Key::Rowid {
            name: "rowid",
            alias: Some(0),
        },
        autoincrement: true,
        unique: vec![0],
    }
}

/// Words in an order that a generator of pseudo-random numbers gives.
fn payload(seed: i64) -> String {
    const WORDS: [&str; 16] = [
        "alpha", "market", "release", "channel", "the", "of", "video", "rule", "and", "error",
        "forward", "a", "message", "photo", "update", "in",
    ];
    let mut state = seed.cast_unsigned().wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut text = format!("{{\"message_id\": {seed}, \"text\": \"");
    while text.len() < 330 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text += WORDS[usize::try_from(state % 16).unwrap_or(0)];
        text.push(' ');
    }
    text + "\"}"
}

fn rows() -> FileRows {
    let mut group = RowGroup::new(4);
    let shape = Shape::of("2024-05-06 00:00:00").unwrap_or(Shape::Date);
    for row in 0..ROWS {
        let mut buffer = [0; MAX_LENGTH];
        let time = shape.format((1_714_953_600 + row * 20) * 1_000, &mut buffer);
        group.push(0, Value::Integer(row));
        group.push(
            1,
            Value::Text(["completed", "failed"][usize::from(row % 20 == 0)]),
        );
        group.push(2, Value::Text(&payload(row)));
        group.push(3, Value::Text(time.unwrap_or_default()));
        group.rows += 1;
    }
    FileRows {
        partition: 20_240_506,
        groups: vec![group],
        time_min: 1_714_953_600_000_000,
        time_max: 1_715_033_600_000_000,
    }
}

fn parts(criterion: &mut Criterion) {
    let folder = std::env::temp_dir().join(format!("sqlite-cold-bench-{}", std::process::id()));
    let archive = Folder::new(folder.clone(), Access::default());
    archive.prepare().expect("the temporary folder is writable");
    let table = table();
    let names: Vec<String> = table.columns.iter().map(|c| c.name.clone()).collect();
    let rows = rows();
    let mut group = criterion.benchmark_group("a file of 4,000 rows");
    group.throughput(Throughput::Elements(ROWS.cast_unsigned()));
    for level in [3, 6, 9] {
        let writer = FileWriter::new(archive.clone(), &table, TIME, &names, Encoding::Utf8, level);
        group.bench_function(format!("write, sync, verify at ZSTD {level}"), |bencher| {
            bencher.iter(|| {
                let written = writer.write("day/a.parquet", &rows).expect("a file");
                archive.remove("day/a.parquet").expect("removed");
                written.record.seal.bytes
            });
        });
    }
    let writer = FileWriter::new(archive.clone(), &table, TIME, &names, Encoding::Utf8, 6);
    let written = writer.write("day/b.parquet", &rows).expect("a file");
    group.bench_function("open", |bencher| {
        bencher.iter(|| OpenFile::open(&archive, &written.record).map(|f| f.row_groups()));
    });
    let file = OpenFile::open(&archive, &written.record).expect("a file");
    for (index, name) in names.iter().enumerate() {
        group.bench_function(format!("decode {name}"), |bencher| {
            let mut scratch: Scratch = [0; MAX_LENGTH];
            bencher.iter(|| {
                let column = file.decode(0, index).expect("decoded");
                (0..column.rows())
                    .map(|row| column.value(row, &mut scratch).bytes().len())
                    .sum::<usize>()
            });
        });
    }
    group.finish();
    std::fs::remove_dir_all(folder).expect("removed");
}

criterion_group!(benches, parts);
criterion_main!(benches);
