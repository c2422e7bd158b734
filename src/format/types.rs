//! How a column is stored in a cold file: written by `out`, read by `cold`, and described in the
//! file's own metadata so that the file needs nothing else to be understood.

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use serde_json::{Value as Json, json};

use crate::schema::{Column, ROWID_COLUMN};
use crate::time::canonical::{Shape, Unit};
use crate::time::{TimeFormat, parse_iso8601};
use crate::value::{Encoding, Value};

/// The key of the description in the Parquet file's metadata.
pub const METADATA_KEY: &str = "sqlite_cold";
/// The version of the description.
const FORMAT: u64 = 1;
/// The name of [`Storage::Number`] in it.
const NUMBER: &str = "number";
/// Up to this, every integer is a DOUBLE of its own: 2 to the 53rd.
const MAX_EXACT_INTEGER: i64 = 1 << 53;

/// The most rows of a row group, which is what a scan decodes at once. A file with larger ones is not
/// ours, and could ask for any amount of memory.
pub const MAX_GROUP_ROWS: usize = 64 * 1024;

/// The most row groups of a file: it ends at 32 MiB of values, a row group of the smallest with 64 Ki rows.
pub const MAX_GROUPS: usize = 256;
/// The most values of a file. Each counts 9 bytes at least towards the 48 MiB in which a file ends.
pub const MAX_VALUES: usize = 8 << 20;

/// The Parquet type of a column, and what its values were in SQLite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    /// INT64
    Integer,
    /// DOUBLE
    Real,
    /// DOUBLE; whole numbers were INTEGER, the others REAL, as in a NUMERIC column.
    Number,
    /// BYTE_ARRAY (STRING)
    Text,
    /// BYTE_ARRAY
    Blob,
    /// INT64 (TIMESTAMP) or INT32 (DATE); text of this shape in SQLite.
    Timestamp(Shape),
    /// A group with these fields, in this order. A row has one of them, or is NULL.
    Mixed(Vec<MixedField>),
}

impl Storage {
    /// What a column without values is stored as.
    pub fn for_nulls(declared_type: &str) -> Self {
        let upper = declared_type.to_ascii_uppercase();
        let has = |part: &str| upper.contains(part);
        if has("INT") {
            Self::Integer
        } else if has("REAL") || has("FLOA") || has("DOUB") {
            Self::Real
        } else if has("BLOB") {
            Self::Blob
        } else {
            Self::Text
        }
    }

    /// The Arrow type; the Parquet type follows from it.
    pub fn data_type(&self) -> DataType {
        match self {
            Self::Integer => DataType::Int64,
            Self::Real | Self::Number => DataType::Float64,
            Self::Text => DataType::Utf8,
            Self::Blob => DataType::Binary,
            Self::Timestamp(shape) => match shape.unit() {
                None => DataType::Date32,
                Some(unit) => {
                    let unit = match unit {
                        Unit::Millis => TimeUnit::Millisecond,
                        Unit::Micros => TimeUnit::Microsecond,
                        Unit::Nanos => TimeUnit::Nanosecond,
                    };
                    DataType::Timestamp(unit, shape.is_utc().then(|| "UTC".into()))
                }
            },
            Self::Mixed(fields) => DataType::Struct(Self::fields(fields)),
        }
    }

    /// The Arrow fields of a mixed column.
    pub fn fields(fields: &[MixedField]) -> Fields {
        fields
            .iter()
            .map(|field| Field::new(field.name(), field.storage().data_type(), true))
            .collect()
    }

    fn to_json(&self) -> Json {
        match self {
            Self::Integer => json!("integer"),
            Self::Real => json!("real"),
            Self::Number => json!(NUMBER),
            Self::Text => json!("text"),
            Self::Blob => json!("blob"),
            Self::Timestamp(shape) => json!({"text": shape.name()}),
            Self::Mixed(fields) => {
                json!({"mixed": fields.iter().map(|field| field.name()).collect::<Vec<_>>()})
            }
        }
    }

    fn from_json(json: &Json) -> Option<Self> {
        if let Some(plain) = json.as_str() {
            if plain == NUMBER {
                return Some(Self::Number);
            }
            return MixedField::from_name(plain).map(MixedField::storage);
        }
        if let Some(shape) = json.get("text") {
            return Shape::from_name(shape.as_str()?).map(Self::Timestamp);
        }
        let fields = json.get("mixed")?.as_array()?.iter();
        fields
            .map(|field| MixedField::from_name(field.as_str()?))
            .collect::<Option<_>>()
            .map(Self::Mixed)
    }
}

/// The DOUBLE that stands for a number in a [`Storage::Number`] column, or `None` if
/// [`number_from_double`] would not give the same value back.
pub fn number_to_double(value: Value<'_>) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "checked by the way back")]
    let double = match value {
        Value::Integer(integer) => integer as f64,
        Value::Real(real) => real,
        _ => return None,
    };
    number_from_double(double).same(value).then_some(double)
}

/// The reverse of [`number_to_double`].
pub fn number_from_double(double: f64) -> Value<'static> {
    #[expect(clippy::cast_precision_loss, reason = "2 to the 53rd is exact")]
    let exact = double.abs() <= MAX_EXACT_INTEGER as f64;
    #[expect(clippy::cast_possible_truncation, reason = "whole and in range")]
    match exact && double.fract() == 0.0 {
        true => Value::Integer(double as i64),
        false => Value::Real(double),
    }
}

/// A field of a [`Storage::Mixed`] column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MixedField {
    Integer,
    Real,
    Text,
    Blob,
    /// Text that is not well-formed: its bytes in the database's encoding.
    RawText,
}

impl MixedField {
    const ALL: [Self; 5] = [
        Self::Integer,
        Self::Real,
        Self::Text,
        Self::Blob,
        Self::RawText,
    ];

    /// The field that holds `value`, or `None` for NULL.
    pub fn of(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Null => None,
            Value::Integer(_) => Some(Self::Integer),
            Value::Real(_) => Some(Self::Real),
            Value::Text(_) => Some(Self::Text),
            Value::RawText(..) => Some(Self::RawText),
            Value::Blob(_) => Some(Self::Blob),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Real => "real",
            Self::Text => "text",
            Self::Blob => "blob",
            Self::RawText => "text_raw",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.name() == name)
    }

    /// How the field itself is stored.
    pub fn storage(self) -> Storage {
        match self {
            Self::Integer => Storage::Integer,
            Self::Real => Storage::Real,
            Self::Text => Storage::Text,
            Self::Blob | Self::RawText => Storage::Blob,
        }
    }
}

/// A column of a cold file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredColumn {
    pub name: String,
    pub storage: Storage,
}

/// What a cold file says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Of the database, which tells what malformed text is.
    pub encoding: Encoding,
    /// In the order of the Parquet columns.
    pub columns: Vec<StoredColumn>,
}

impl Description {
    /// As JSON, with what is needed to read the file without the database, or without its catalog.
    pub fn to_json(&self, origin: &Origin) -> String {
        let Origin {
            table,
            columns: declared,
            ..
        } = origin;
        let columns = self.columns.iter().enumerate().map(|(index, column)| {
            let declared = declared.get(index);
            json!({
                "name": column.name,
                "storage": column.storage.to_json(),
                "type": declared.map(|d| d.declared_type.as_str()),
                "collation": declared.map(|d| d.collation.as_str()),
            })
        });
        json!({
            "format": FORMAT,
            "table": table,
            "encoding": self.encoding.name(),
            "columns": columns.collect::<Vec<_>>(),
            "time": {"column": origin.time_column, "format": origin.time_format.name()},
            "written": origin.written,
        })
        .to_string()
    }

    /// The reverse of [`Self::to_json`]; the error says what is wrong.
    pub fn from_json(text: &str) -> Result<Self, &'static str> {
        let json: Json = serde_json::from_str(text).map_err(|_| "its description is not JSON")?;
        if json.get("format").and_then(Json::as_u64) != Some(FORMAT) {
            return Err("it was written by a newer sqlite-cold; upgrade to read it");
        }
        let column = |json: &Json| {
            Some(StoredColumn {
                name: json.get("name")?.as_str()?.to_owned(),
                storage: Storage::from_json(json.get("storage")?)?,
            })
        };
        let parse = || {
            Some(Self {
                encoding: Encoding::from_name(json.get("encoding")?.as_str()?)?,
                columns: json
                    .get("columns")?
                    .as_array()?
                    .iter()
                    .map(column)
                    .collect::<Option<_>>()?,
            })
        };
        parse().ok_or("its description is incomplete")
    }
}

/// Where the rows of a cold file are from. Only what a file without a catalog needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// The table's name then.
    pub table: String,
    /// Its columns; in a file without numbers and defaults, and with that of the rowid, if it is stored.
    pub columns: Vec<Column>,
    /// What their age was told by.
    pub time_column: String,
    pub time_format: TimeFormat,
    /// When its run began to write, as the catalog keeps times: of two files this alone tells which is newer.
    /// What the file system says changes where files are copied.
    pub written: String,
}

impl Origin {
    /// What a description says of it, if it does.
    pub fn from_json(text: &str) -> Option<Self> {
        let json: Json = serde_json::from_str(text).ok()?;
        let text = |json: &Json, key: &str| json.get(key)?.as_str().map(str::to_owned);
        let column = |json: &Json| {
            let name = text(json, "name")?;
            Some(match name == ROWID_COLUMN {
                true => Column::stored_rowid(),
                false => Column {
                    id: 0,
                    declared_type: text(json, "type")?,
                    collation: text(json, "collation")?,
                    default: None,
                    generated: None,
                    name,
                },
            })
        };
        let columns = json.get("columns")?.as_array()?.iter().map(column);
        let time = json.get("time")?;
        Some(Self {
            table: text(&json, "table")?,
            columns: columns.collect::<Option<_>>()?,
            time_column: text(time, "column")?,
            time_format: TimeFormat::from_name(&text(time, "format")?)?,
            written: text(&json, "written").filter(|text| parse_iso8601(text).is_some())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_double_only_if_it_comes_back() {
        let real = [0.5, -1e300, f64::INFINITY, 9_007_199_254_740_994.0].map(Value::Real);
        let integer = [0, -7, MAX_EXACT_INTEGER].map(Value::Integer);
        for value in real.into_iter().chain(integer) {
            let double = number_to_double(value).unwrap();
            assert!(number_from_double(double).same(value), "{value:?}");
        }
        let real = [1.0, -0.0].map(Value::Real);
        let integer = [MAX_EXACT_INTEGER + 1, i64::MAX, i64::MIN].map(Value::Integer);
        for value in real.into_iter().chain(integer) {
            assert_eq!(number_to_double(value), None, "{value:?}");
        }
    }

    #[test]
    fn a_description_survives_its_file() {
        let storages = [
            Storage::Integer,
            Storage::Real,
            Storage::Number,
            Storage::Text,
            Storage::Blob,
            Storage::Timestamp(Shape::of("2024-01-01T00:00:00.000Z").unwrap()),
            Storage::Timestamp(Shape::Date),
            Storage::Mixed(MixedField::ALL.to_vec()),
        ];
        let columns = storages
            .into_iter()
            .enumerate()
            .map(|(index, storage)| StoredColumn {
                name: format!("column \"{index}\""),
                storage,
            });
        let description = Description {
            encoding: Encoding::Utf16be,
            columns: columns.collect(),
        };
        let origin = Origin {
            table: "t".to_owned(),
            columns: Vec::new(),
            time_column: "ts".to_owned(),
            time_format: TimeFormat::ALL[0],
            written: "2026-01-31T03:30:00.000Z".to_owned(),
        };
        let json = description.to_json(&origin);
        assert_eq!(Description::from_json(&json), Ok(description));
        // Columns that the table does not declare have no type.
        assert_eq!(Origin::from_json(&json), None);
        let none = Description {
            encoding: Encoding::Utf8,
            columns: Vec::new(),
        };
        let json = none.to_json(&origin);
        assert_eq!(Origin::from_json(&json), Some(origin));
        assert!(Description::from_json("{\"format\": 2}").is_err());
        assert!(Description::from_json("{\"format\": 1}").is_err());
    }
}
