//! What a caller may give beside the SQL: parameters and options.

use duckdb::types::Value as Parameter;
use serde_json::Value as Json;

use crate::error::{Error, Result};
use crate::options::Object;
use crate::value::Value;

/// The options of `archive_query`.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether text that stands for a time is one in DuckDB, where cold files store it so.
    pub typed_times: bool,
}

impl Options {
    const TIMESTAMPS: &'static str = "timestamps";

    /// Reads the options object.
    pub fn parse(options: Value<'_>) -> Result<Self> {
        let object = Object::parse(options, &[Self::TIMESTAMPS])?;
        let typed = |name: &str| match name {
            "typed" => Some(true),
            "text" => Some(false),
            _ => None,
        };
        let typed_times = object.choice(Self::TIMESTAMPS, "typed or text", typed)?;
        Ok(Self {
            typed_times: typed_times.unwrap_or(true),
        })
    }
}

/// Reads the parameters: a JSON array with a value for each `?`.
pub fn parameters(json: Value<'_>) -> Result<Vec<Parameter>> {
    let usage = "the parameters must be a JSON array like '[1, \"x\", null]'";
    let text = match json {
        Value::Null => return Ok(Vec::new()),
        Value::Text(text) => text,
        _ => return Err(Error::refused(usage)),
    };
    match serde_json::from_str(text) {
        Ok(Json::Array(values)) => values.into_iter().map(parameter).collect(),
        _ => Err(Error::refused(usage)),
    }
}

fn parameter(json: Json) -> Result<Parameter> {
    Ok(match json {
        Json::Null => Parameter::Null,
        Json::Bool(value) => Parameter::Boolean(value),
        Json::String(text) => Parameter::Text(text),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Parameter::BigInt(integer),
            (None, Some(real)) => Parameter::Double(real),
            (None, None) => return Err(Error::refused(format!("{number} is not a number"))),
        },
        nested => {
            return Err(Error::refused(format!(
                "a parameter must be a number, text, true, false or null, not {nested}"
            )));
        }
    })
}
