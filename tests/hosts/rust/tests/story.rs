//! The story that every host tells, in rusqlite.

use std::fs;
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Result};
use serde_json::{Value as Json, json};
use sqlite_cold_host::connect;

fn to_json(value: ValueRef<'_>) -> Json {
    match value {
        ValueRef::Null => Json::Null,
        ValueRef::Integer(integer) => json!(integer),
        ValueRef::Real(real) => json!(real),
        ValueRef::Text(text) | ValueRef::Blob(text) => json!(String::from_utf8_lossy(text)),
    }
}

fn rows(connection: &Connection, sql: &str) -> Result<Vec<Json>> {
    let mut statement = connection.prepare(sql)?;
    let width = statement.column_count();
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let values = (0..width).map(|column| row.get_ref(column).map(to_json));
        found.push(values.collect::<Result<Json>>()?);
    }
    Ok(found)
}

/// The same steps with the same outcomes as in every other host, errors with their text.
#[test]
fn the_story() {
    let story = Path::new(env!("CARGO_MANIFEST_DIR")).join("../story.json");
    let steps: Vec<Json> = serde_json::from_str(&fs::read_to_string(story).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    let mut connection = connect(&path).unwrap();
    for step in &steps {
        let Some(sql) = step["sql"].as_str() else {
            connection.close().unwrap();
            connection = connect(&path).unwrap();
            continue;
        };
        match (rows(&connection, sql), step["error"].as_str()) {
            (Ok(found), None) => assert_eq!(Json::from(found), step["rows"], "{sql}"),
            (Err(error), Some(expected)) => {
                assert!(error.to_string().contains(expected), "{sql}: {error}");
            }
            (outcome, _) => panic!("{sql}: {outcome:?}"),
        }
    }
    connection.close().unwrap();
    let plain = Connection::open(&path).unwrap();
    assert_eq!(
        rows(&plain, "SELECT count(*) FROM task").unwrap(),
        [json!([3])]
    );
    assert!(plain.prepare("SELECT * FROM cold_task").is_err());
}
