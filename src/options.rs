//! The options object of a call: JSON whose keys are all known.

use serde_json::{Map, Value as Json};

use crate::error::{Error, Result};
use crate::value::{self, Value};

/// Options by their type. A JSON null is the same as an option that is not there.
#[derive(Debug, Default, Clone)]
pub struct Object(Map<String, Json>);

impl Object {
    /// Reads a JSON object whose keys are all `known`; NULL is an empty one.
    pub fn parse(options: Value<'_>, known: &[&str]) -> Result<Self> {
        let text = match options {
            Value::Null => return Ok(Self::default()),
            Value::Text(text) => text,
            _ => return Err(Error::refused("the options must be a JSON object")),
        };
        let object = match serde_json::from_str(text) {
            Ok(Json::Object(object)) if count_keys(text) > object.len() => {
                return Err(Error::refused("an option is given twice"));
            }
            Ok(Json::Object(object)) => Self(object),
            Ok(_) => return Err(Error::refused("the options must be a JSON object")),
            Err(error) => {
                return Err(Error::refused(format!("the options are not JSON: {error}")));
            }
        };
        match object.0.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(Error::refused(format!(
                "unknown option {key}; there are {}",
                known.join(", ")
            ))),
            None => Ok(object),
        }
    }

    /// An option's whole number; `expected` says what it should be like. `None` if it is not there.
    pub fn whole(&self, key: &str, expected: &str) -> Result<Option<i64>> {
        let number = |value| {
            whole(value).ok_or_else(|| {
                Error::refused(format!("option {key} must be {expected}, not {value}"))
            })
        };
        self.get(key).map(number).transpose()
    }

    pub fn get(&self, key: &str) -> Option<&Json> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// Takes an option out.
    pub fn remove(&mut self, key: &str) -> Option<Json> {
        self.0.remove(key).filter(|value| !value.is_null())
    }

    /// What is left, as JSON text.
    pub fn to_json(&self) -> String {
        Json::Object(self.0.clone()).to_string()
    }

    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(text)),
            Some(other) => Err(Error::refused(format!(
                "option {key} must be text, not {other}"
            ))),
        }
    }

    /// A switch that is off if it is not there.
    pub fn flag(&self, key: &str) -> Result<bool> {
        Ok(self.switch(key)?.unwrap_or(false))
    }

    pub fn switch(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Json::Bool(flag)) => Ok(Some(*flag)),
            Some(number) if whole(number) == Some(0) => Ok(Some(false)),
            Some(number) if whole(number) == Some(1) => Ok(Some(true)),
            Some(other) => Err(Error::refused(format!(
                "option {key} must be true or false, not {other}"
            ))),
        }
    }

    /// A word that `parse` knows; `choices` names them for the message.
    pub fn choice<T>(
        &self,
        key: &str,
        choices: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        parse(text)
            .map(Some)
            .ok_or_else(|| Error::refused(format!("option {key} must be {choices}, not {text}")))
    }
}

/// The whole number of a JSON value, be it written as `7.0`.
pub fn whole(value: &Json) -> Option<i64> {
    value
        .as_i64()
        .or_else(|| value.as_f64().and_then(value::whole))
}

/// How many keys the text of a JSON object has, those that come twice included: what a colon outside
/// of strings and of inner values follows.
fn count_keys(text: &str) -> usize {
    let (mut depth, mut keys) = (0_usize, 0);
    let (mut quoted, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b':' if depth == 1 => keys += 1,
            _ => {}
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_whole_however_they_are_written() {
        let whole = |text: &str| whole(&serde_json::from_str(text).unwrap_or_default());
        assert_eq!([whole("7"), whole("7.0"), whole("7e0")], [Some(7); 3]);
        assert_eq!(whole("-0.0"), Some(0));
        assert_eq!(whole("9223372036854775807"), Some(i64::MAX));
        assert_eq!(whole("-9223372036854775808.0"), Some(i64::MIN));
        for other in [
            "7.5",
            "9223372036854775808",
            "1e300",
            "\"7\"",
            "true",
            "null",
            "[]",
        ] {
            assert_eq!(whole(other), None, "{other}");
        }
    }

    #[test]
    fn keys_are_counted_in_the_outermost_object() {
        assert_eq!(count_keys("{}"), 0);
        assert_eq!(count_keys(r#"{"a":1,"a":2}"#), 2);
        assert_eq!(
            count_keys(r#" {"a:\":{" : "x:y\\", "b" : {"c":[{"d":1}]}}"#),
            2
        );
    }
}
