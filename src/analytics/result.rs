//! What DuckDB answers as SQLite values, without loss.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int64Array,
    RecordBatch, StringArray, UInt64Array, UnionArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, DecimalType, Float64Type, Int64Type, UInt64Type};
use duckdb::core::{LogicalTypeHandle, LogicalTypeId};
use serde_json::{Number, Value as Json};

use crate::error::{Error, Result};
use crate::sql::quote;
use crate::value::Value;

/// Up to so many digits every decimal number is told from all others as a REAL.
const EXACT_DIGITS: u32 = 15;

/// A column of an answer.
#[derive(Debug, Clone)]
pub struct ResultColumn {
    pub name: String,
    kind: Kind,
}

/// How the values of a column come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Integer,
    Real,
    Text,
    Blob,
    /// Numbers that may be too large or too long for SQLite's, which are TEXT then.
    Number,
    /// As [`Self::Number`], as text from DuckDB already.
    Digits,
    /// DuckDB makes JSON of it.
    Json,
    /// DuckDB makes text of it.
    AsText,
    /// A UNION, of which each value comes back as that of its member.
    Member,
}

impl Kind {
    fn of(logical_type: &LogicalTypeHandle) -> Self {
        use LogicalTypeId as Id;
        match logical_type.id() {
            Id::Boolean
            | Id::Tinyint
            | Id::Smallint
            | Id::Integer
            | Id::Bigint
            | Id::UTinyint
            | Id::USmallint
            | Id::UInteger
            | Id::SqlNull => Self::Integer,
            Id::Float | Id::Double => Self::Real,
            Id::Varchar => Self::Text,
            Id::Blob => Self::Blob,
            Id::UBigint | Id::Hugeint | Id::Decimal => Self::Number,
            Id::UHugeint | Id::Bignum => Self::Digits,
            Id::List | Id::Array | Id::Struct | Id::Map | Id::Variant => Self::Json,
            Id::Union => {
                let members = 0..logical_type.num_children();
                let plain =
                    |kind| matches!(kind, Self::Integer | Self::Real | Self::Text | Self::Blob);
                match members.map(|n| Self::of(&logical_type.child(n))).all(plain) {
                    true => Self::Member,
                    false => Self::Json,
                }
            }
            _ => Self::AsText,
        }
    }

    /// The type that a virtual table declares.
    fn declared(self) -> &'static str {
        match self {
            Self::Integer => "INTEGER",
            Self::Real => "REAL",
            Self::Text | Self::Json | Self::AsText => "TEXT",
            Self::Blob => "BLOB",
            Self::Number | Self::Digits => "NUMERIC",
            Self::Member => "",
        }
    }
}

impl ResultColumn {
    pub fn new(name: &str, logical_type: &LogicalTypeHandle) -> Self {
        Self {
            name: name.to_owned(),
            kind: Kind::of(logical_type),
        }
    }

    /// Its part of a CREATE TABLE statement.
    pub fn declaration(&self) -> String {
        format!("{} {}", quote(&self.name), self.kind.declared())
    }

    /// Whether its values can be read as DuckDB hands them out.
    pub fn is_direct(&self) -> bool {
        !matches!(self.kind, Kind::Json | Kind::AsText | Kind::Digits)
    }

    /// The SQL that gives the columns of `sql` as they can be read here.
    pub fn query(columns: &[Self], sql: &str) -> String {
        let names: Vec<String> = (0..columns.len()).map(|n| format!("c{n}")).collect();
        let expressions = columns
            .iter()
            .zip(&names)
            .map(|(column, name)| match column.kind {
                Kind::Json => format!("CAST(to_json({name}) AS VARCHAR)"),
                Kind::AsText | Kind::Digits => format!("CAST({name} AS VARCHAR)"),
                _ => name.clone(),
            });
        let expressions = expressions.collect::<Vec<_>>().join(", ");
        format!(
            "SELECT {expressions} FROM ({sql}\n) AS q({})",
            names.join(", ")
        )
    }
}

/// The rows of a batch.
pub struct Rows {
    columns: Vec<Cells>,
    pub count: usize,
}

/// The values of a column, by how they are in Arrow.
enum Cells {
    Boolean(BooleanArray),
    Integer(Int64Array),
    Unsigned(UInt64Array),
    Real(Float64Array),
    Text(StringArray),
    Digits(StringArray),
    Blob(BinaryArray),
    Decimal(Decimal128Array),
    Union(UnionArray, Vec<(i8, Cells)>),
    Null,
}

impl Rows {
    pub fn new(columns: &[ResultColumn], batch: &RecordBatch) -> Result<Self> {
        let cells = batch.columns().iter().zip(columns);
        Ok(Self {
            columns: cells
                .map(|(array, column)| Cells::new(array, column.kind))
                .collect::<Result<_>>()?,
            count: batch.num_rows(),
        })
    }

    /// Calls `with` with a value.
    pub fn value<T>(&self, column: usize, row: usize, with: impl FnOnce(Value<'_>) -> T) -> T {
        match self.columns.get(column) {
            Some(cells) => cells.value(row, with),
            None => with(Value::Null),
        }
    }

    /// A row as a JSON object.
    pub fn json(&self, columns: &[ResultColumn], row: usize) -> String {
        let mut object = String::from("{");
        for (index, column) in columns.iter().enumerate() {
            if index > 0 {
                object.push(',');
            }
            object += &Json::from(column.name.as_str()).to_string();
            object.push(':');
            self.value(index, row, |value| {
                push_json(&mut object, value, column.kind)
            });
        }
        object.push('}');
        object
    }
}

impl Cells {
    fn new(array: &ArrayRef, kind: Kind) -> Result<Self> {
        let to = |target: DataType| {
            let problem = |error| Error::Internal(format!("an answer of DuckDB: {error}"));
            cast(array, &target).map_err(problem)
        };
        Ok(match array.data_type() {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Boolean(array.as_boolean().clone()),
            DataType::UInt64 => Self::Unsigned(array.as_primitive::<UInt64Type>().clone()),
            DataType::Decimal128(..) => {
                Self::Decimal(array.as_primitive::<Decimal128Type>().clone())
            }
            DataType::Union(fields, _) => {
                let union = array.as_any().downcast_ref::<UnionArray>();
                let union = union.ok_or_else(|| Error::Internal("no union".to_owned()))?;
                let members = fields
                    .iter()
                    .map(|(id, _)| Ok((id, Self::new(union.child(id), Kind::Member)?)));
                Self::Union(union.clone(), members.collect::<Result<_>>()?)
            }
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                Self::Real(to(DataType::Float64)?.as_primitive::<Float64Type>().clone())
            }
            other if other.is_integer() => {
                Self::Integer(to(DataType::Int64)?.as_primitive::<Int64Type>().clone())
            }
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
                Self::Blob(to(DataType::Binary)?.as_binary().clone())
            }
            _ => {
                let text = to(DataType::Utf8)?.as_string().clone();
                match kind {
                    Kind::Digits => Self::Digits(text),
                    _ => Self::Text(text),
                }
            }
        })
    }

    fn value<T>(&self, row: usize, with: impl FnOnce(Value<'_>) -> T) -> T {
        match self {
            Self::Boolean(array) if array.is_valid(row) => {
                with(Value::Integer(i64::from(array.value(row))))
            }
            Self::Integer(array) if array.is_valid(row) => with(Value::Integer(array.value(row))),
            Self::Unsigned(array) if array.is_valid(row) => {
                number(i128::from(array.value(row)), with)
            }
            // SQLite has no NaN.
            Self::Real(array) if array.is_valid(row) => match array.value(row) {
                real if real.is_nan() => with(Value::Null),
                real => with(Value::Real(real)),
            },
            Self::Text(array) if array.is_valid(row) => with(Value::Text(array.value(row))),
            Self::Digits(array) if array.is_valid(row) => match array.value(row).parse() {
                Ok(integer) => with(Value::Integer(integer)),
                Err(_) => with(Value::Text(array.value(row))),
            },
            Self::Blob(array) if array.is_valid(row) => with(Value::Blob(array.value(row))),
            Self::Decimal(array) if array.is_valid(row) => match array.scale() {
                0 => number(array.value(row), with),
                _ => decimal(array, row, with),
            },
            Self::Union(array, members) => {
                let id = array.type_id(row);
                match members.iter().find(|(member, _)| *member == id) {
                    Some((_, cells)) => cells.value(array.value_offset(row), with),
                    None => with(Value::Null),
                }
            }
            _ => with(Value::Null),
        }
    }
}

/// A whole number as INTEGER, or as the TEXT of its digits.
fn number<T>(number: i128, with: impl FnOnce(Value<'_>) -> T) -> T {
    match i64::try_from(number) {
        Ok(integer) => with(Value::Integer(integer)),
        Err(_) => with(Value::Text(&number.to_string())),
    }
}

/// A decimal number as the REAL that is read from its digits, if no other number of so many digits is the
/// same REAL; else as their TEXT.
fn decimal<T>(array: &Decimal128Array, row: usize, with: impl FnOnce(Value<'_>) -> T) -> T {
    let text = Decimal128Type::format_decimal(array.value(row), array.precision(), array.scale());
    let digits = text
        .trim_start_matches(['-', '0', '.'])
        .trim_end_matches('0');
    let count = digits.bytes().filter(u8::is_ascii_digit).count();
    match text.parse() {
        Ok(real) if count <= EXACT_DIGITS as usize => with(Value::Real(real)),
        _ => with(Value::Text(&text)),
    }
}

fn push_json(json: &mut String, value: Value<'_>, kind: Kind) {
    match value {
        Value::Null => json.push_str("null"),
        Value::Integer(integer) => *json += &integer.to_string(),
        Value::Real(real) => match Number::from_f64(real) {
            Some(number) => *json += &number.to_string(),
            // JSON has no infinity. SQLite writes it, and reads it, as a number that is too large.
            None => *json += if real > 0.0 { "9.0e+999" } else { "-9.0e+999" },
        },
        // What DuckDB makes is JSON but for NaN in a list.
        Value::Text(text) if kind == Kind::Json && serde_json::from_str::<Json>(text).is_ok() => {
            *json += text;
        }
        Value::Text(text) => *json += &Json::from(text).to_string(),
        Value::RawText(bytes, _) | Value::Blob(bytes) => {
            json.push('"');
            bytes
                .iter()
                .for_each(|byte| *json += &format!("{byte:02X}"));
            json.push('"');
        }
    }
}
