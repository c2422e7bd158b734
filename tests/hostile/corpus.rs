//! Honest files, as the library writes them: every way to store a column, with NULLs, dictionaries, bloom
//! filters, several pages and several row groups.

use cold::format::record::FileRecord;
use cold::format::rows::FileRows;
use cold::format::rows::RowGroup;
use cold::format::write::FileWriter;
use cold::schema::{Column, Key, Table};
use cold::storage::Folder;
use cold::time::TimeFormat;
use cold::value::{Encoding, Value};

const NAMES: [&str; 11] = [
    "id", "status", "note", "day", "stamp", "price", "amount", "mixed", "bytes", "nothing", "token",
];

fn table() -> Table {
    let column = |name: &str| Column {
        id: 0,
        name: name.to_owned(),
        declared_type: String::new(),
        collation: "BINARY".to_owned(),
        default: None,
        generated: None,
    };
    Table {
        sql: String::new(),
        name: "t".to_owned(),
        columns: NAMES.into_iter().map(column).collect(),
        key: Key::Rowid {
            name: "rowid",
            alias: Some(0),
        },
        autoincrement: true,
        unique: vec![0, 10],
    }
}

fn group(first: i64, rows: i64) -> RowGroup {
    let mut group = RowGroup::new(NAMES.len());
    for row in first..first + rows {
        let number = usize::try_from(row).expect("a row");
        let note = format!("note {row} {}", "word ".repeat(number % 7));
        let day = format!("2024-05-{:02}", row % 28 + 1);
        let stamp = format!("2024-05-06 {:02}:{:02}:00", row % 24, row % 60);
        let token = format!(
            "{:016x}",
            row.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64.cast_signed())
        );
        let blob = vec![u8::try_from(number % 251).expect("a byte"); number % 40];
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let real = row as f64 / 4.0;
        let values = [
            Value::Integer(row),
            Value::Text(["completed", "failed", "pending"][number % 3]),
            Value::Text(&note),
            Value::Text(&day),
            Value::Text(&stamp),
            Value::Real(real + 0.1),
            match row % 2 {
                0 => Value::Integer(row),
                _ => Value::Real(real),
            },
            match row % 5 {
                0 => Value::Integer(row),
                1 => Value::Text(&note),
                2 => Value::Blob(&blob),
                3 => Value::RawText(b"\xFF\xFE", Encoding::Utf8),
                _ => Value::Real(real),
            },
            Value::Blob(&blob),
            Value::Null,
            Value::Text(&token),
        ];
        for (column, value) in values.into_iter().enumerate() {
            match (number + column) % 13 == 5 && column > 0 {
                true => group.push(column, Value::Null),
                false => group.push(column, value),
            }
        }
        group.rows += 1;
    }
    group
}

/// Writes the files; returns what the catalog would say of each.
pub fn write(folder: &Folder) -> Vec<FileRecord> {
    let names: Vec<String> = NAMES.map(str::to_owned).to_vec();
    let table = table();
    let time = ("stamp", TimeFormat::Iso8601);
    let writer = FileWriter::new(folder.clone(), &table, time, &names, Encoding::Utf8, 3);
    let files: [&[i64]; 4] = [&[1], &[300], &[40, 700, 3], &[20_000]];
    let write = |(number, sizes): (usize, &&[i64])| {
        let mut first = 0;
        let groups = sizes.iter().map(|rows| {
            first += rows;
            group(first - rows, *rows)
        });
        let rows = FileRows {
            partition: 0,
            groups: groups.collect(),
            time_min: 0,
            time_max: 0,
        };
        let written = writer.write(&format!("{number}.parquet"), &rows);
        written.expect("an honest file").record
    };
    files.iter().enumerate().map(write).collect()
}
