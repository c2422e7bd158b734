//! The DuckDB type of a column, chosen so that no value of it in this snapshot is lost or changed, and
//! the SQL that brings what a cold file stores to that type.

use crate::format::range::Kinds;
use crate::format::types::{MixedField, Storage};
use crate::sql::{literal, quote};
use crate::time::canonical::{Shape, Unit};
use crate::value::Value;

/// What a column is in DuckDB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnType {
    /// BIGINT
    Integer,
    /// DOUBLE; integers are exact in it.
    Real,
    /// VARCHAR
    Text,
    /// BLOB
    Blob,
    /// DATE, TIMESTAMP or TIMESTAMP_NS, of text that has a [`Shape`].
    Time(Time),
    /// A UNION with these members, in this order.
    Mixed(Vec<MixedField>),
}

/// What text of some shapes is in DuckDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    Date,
    /// In microseconds, UTC where the text says so.
    Timestamp,
    TimestampNs,
}

impl Time {
    /// What text of a shape is.
    pub fn of(shape: Shape) -> Self {
        match shape.unit() {
            None => Self::Date,
            Some(Unit::Millis | Unit::Micros) => Self::Timestamp,
            Some(Unit::Nanos) => Self::TimestampNs,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Date => "DATE",
            Self::Timestamp => "TIMESTAMP",
            Self::TimestampNs => "TIMESTAMP_NS",
        }
    }
}

impl ColumnType {
    /// The type of a member of a UNION.
    pub fn of(field: MixedField) -> Self {
        match field {
            MixedField::Integer => Self::Integer,
            MixedField::Real => Self::Real,
            MixedField::Text => Self::Text,
            MixedField::Blob | MixedField::RawText => Self::Blob,
        }
    }

    /// Its name in DuckDB's SQL.
    pub fn name(&self) -> String {
        match self {
            Self::Integer => "BIGINT".to_owned(),
            Self::Real => "DOUBLE".to_owned(),
            Self::Text => "VARCHAR".to_owned(),
            Self::Blob => "BLOB".to_owned(),
            Self::Time(time) => time.name().to_owned(),
            Self::Mixed(fields) => format!("UNION({})", members(fields)),
        }
    }
}

fn members(fields: &[MixedField]) -> String {
    let member =
        |field: &MixedField| format!("{} {}", quote(field.name()), ColumnType::of(*field).name());
    fields.iter().map(member).collect::<Vec<_>>().join(", ")
}

/// What is known of the values that a column has in hot rows, in cold files, or in both.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// In ascending order.
    fields: Vec<MixedField>,
    /// Not every integer is a DOUBLE.
    inexact: bool,
    /// What all texts so far are; `None` before the first.
    time: Option<Option<Time>>,
}

/// Up to this, every integer is a DOUBLE of its own: 2 to the 53rd.
const MAX_EXACT_INTEGER: u64 = 1 << 53;

impl Seen {
    fn field(&mut self, field: MixedField) {
        if let Err(place) = self.fields.binary_search(&field) {
            self.fields.insert(place, field);
        }
    }

    fn text(&mut self, time: Option<Time>) {
        self.field(MixedField::Text);
        if self.time != Some(time) {
            self.time = Some(self.time.map_or(time, |_| None));
        }
    }

    /// A value. Whether text is a time is only looked at if it can matter.
    pub fn value(&mut self, value: Value<'_>, times: bool) {
        match value {
            Value::Null => {}
            Value::Integer(integer) => {
                self.field(MixedField::Integer);
                self.inexact |= integer.unsigned_abs() > MAX_EXACT_INTEGER;
            }
            Value::Text(text) => {
                let undecided = times && self.time != Some(None);
                self.text(undecided.then(|| time_of(text)).flatten());
            }
            other => MixedField::of(other)
                .into_iter()
                .for_each(|f| self.field(f)),
        }
    }

    /// The values of a file that stores a column like this. `bounds` are its least and its greatest
    /// integer, if that is known.
    pub fn stored(&mut self, storage: &Storage, bounds: Option<(i64, i64)>) {
        match storage {
            Storage::Integer => {
                self.field(MixedField::Integer);
                self.bounds(bounds);
            }
            Storage::Real => self.field(MixedField::Real),
            Storage::Number => {
                self.field(MixedField::Integer);
                self.field(MixedField::Real);
            }
            Storage::Text => self.text(None),
            Storage::Blob => self.field(MixedField::Blob),
            Storage::Timestamp(shape) => self.text(Some(Time::of(*shape))),
            Storage::Mixed(fields) => {
                fields.iter().for_each(|field| self.field(*field));
                self.bounds(bounds);
                self.time = Some(None);
            }
        }
    }

    fn bounds(&mut self, bounds: Option<(i64, i64)>) {
        let exact = |bound: i64| bound.unsigned_abs() <= MAX_EXACT_INTEGER;
        self.inexact |= !bounds.is_some_and(|(min, max)| exact(min) && exact(max));
    }

    /// Whether all texts so far are times, so that it matters whether the next one is.
    pub fn has_times(&self) -> bool {
        matches!(self.time, Some(Some(_)))
    }

    /// The type that holds all of them. `typed` says whether times are to be more than text.
    pub fn column_type(&self, declared_type: &str, typed: bool) -> ColumnType {
        match self.fields[..] {
            [] => match Storage::for_nulls(declared_type) {
                Storage::Integer => ColumnType::Integer,
                Storage::Real => ColumnType::Real,
                Storage::Blob => ColumnType::Blob,
                _ => ColumnType::Text,
            },
            [MixedField::Integer] => ColumnType::Integer,
            [MixedField::Real] => ColumnType::Real,
            [MixedField::Integer, MixedField::Real] if !self.inexact => ColumnType::Real,
            [MixedField::Text] => match self.time.flatten().filter(|_| typed) {
                Some(time) => ColumnType::Time(time),
                None => ColumnType::Text,
            },
            [MixedField::Blob] => ColumnType::Blob,
            _ => ColumnType::Mixed(self.fields.clone()),
        }
    }
}

fn time_of(text: &str) -> Option<Time> {
    let shape = Shape::of(text)?;
    shape.parse(text).map(|_| Time::of(shape))
}

/// Whether a file has no value but NULL in a column, by what the catalog knows of it.
pub fn only_nulls(kinds: Kinds) -> bool {
    Kinds::NULL.contains(kinds)
}

/// SQL that makes a column of a file, stored as `storage`, one of type `target`. `column` is SQL, too.
pub fn convert(column: &str, storage: &Storage, target: &ColumnType) -> String {
    match (storage, target) {
        (Storage::Integer, ColumnType::Real) => format!("CAST({column} AS DOUBLE)"),
        (Storage::Mixed(_), ColumnType::Real) => {
            let integer = quote(MixedField::Integer.name());
            let real = quote(MixedField::Real.name());
            format!("coalesce(CAST(({column}).{integer} AS DOUBLE), ({column}).{real})")
        }
        // Where the text says UTC the file does, too, and DuckDB reads TIMESTAMP WITH TIME ZONE.
        (Storage::Timestamp(shape), ColumnType::Time(time)) if shape.is_utc() => {
            format!("CAST({column} AS {})", time.name())
        }
        (Storage::Timestamp(shape), ColumnType::Text) => text_of(column, *shape),
        (storage, ColumnType::Mixed(_)) => match storage {
            Storage::Integer => member(column, MixedField::Integer, target),
            Storage::Real => member(column, MixedField::Real, target),
            Storage::Text => member(column, MixedField::Text, target),
            Storage::Blob => member(column, MixedField::Blob, target),
            Storage::Timestamp(shape) => member(&text_of(column, *shape), MixedField::Text, target),
            Storage::Number => {
                let whole =
                    format!("trunc({column}) = {column} AND abs({column}) <= {MAX_EXACT_INTEGER}");
                let integer = format!("CASE WHEN {whole} THEN CAST({column} AS BIGINT) END");
                let real = format!("CASE WHEN NOT ({whole}) THEN {column} END");
                let cases = [(integer, MixedField::Integer), (real, MixedField::Real)];
                members_of(cases.into_iter(), target)
            }
            Storage::Mixed(fields) => handed_over(column, fields, target),
        },
        _ => column.to_owned(),
    }
}

/// SQL that makes a STRUCT of which one field is set, or none, a UNION.
pub fn handed_over(column: &str, fields: &[MixedField], target: &ColumnType) -> String {
    let field = |field: &MixedField| (format!("({column}).{}", quote(field.name())), *field);
    members_of(fields.iter().map(field), target)
}

fn members_of(values: impl Iterator<Item = (String, MixedField)>, target: &ColumnType) -> String {
    let values = values.map(|(value, field)| member(&value, field, target));
    format!("coalesce({})", values.collect::<Vec<_>>().join(", "))
}

/// A member of a UNION; NULL if the value is.
fn member(value: &str, field: MixedField, target: &ColumnType) -> String {
    let (name, target) = (quote(field.name()), target.name());
    format!(
        "CASE WHEN ({value}) IS NOT NULL THEN CAST(union_value({name} := {value}) AS {target}) END"
    )
}

/// The text that stands for a time, byte for byte as it was.
fn text_of(column: &str, shape: Shape) -> String {
    let (format, zone) = match shape {
        Shape::Date => ("%Y-%m-%d".to_owned(), ""),
        Shape::Timestamp {
            separator,
            fraction,
            zone,
        } => {
            let fraction = match fraction {
                0 => "",
                3 => ".%g",
                6 => ".%f",
                _ => ".%n",
            };
            let separator = char::from(separator);
            (format!("%Y-%m-%d{separator}%H:%M:%S{fraction}"), zone)
        }
    };
    let time = ColumnType::Time(Time::of(shape));
    let time = convert(column, &Storage::Timestamp(shape), &time);
    // DuckDB 2.0 writes over what follows %n.
    format!(
        "(strftime({time}, {}) || {})",
        literal(&format),
        literal(zone)
    )
}

/// A value as SQL of a type that it fits.
pub fn constant(value: Value<'_>, target: &ColumnType) -> String {
    let hex = |bytes: &[u8]| {
        let digits: String = bytes.iter().map(|byte| format!("\\x{byte:02X}")).collect();
        format!("CAST('{digits}' AS BLOB)")
    };
    let text = match value {
        Value::Null => "NULL".to_owned(),
        Value::Integer(integer) => format!("CAST({integer} AS BIGINT)"),
        Value::Real(real) => format!("CAST('{real:e}' AS DOUBLE)"),
        Value::Text(text) => literal(text),
        Value::RawText(bytes, _) | Value::Blob(bytes) => hex(bytes),
    };
    match (MixedField::of(value), target) {
        (Some(field), ColumnType::Mixed(_)) => member(&text, field, target),
        _ => format!("CAST({text} AS {})", target.name()),
    }
}
