//! Parameters that are wrong, each with its place; and lenient reading of what DataX jobs write.

use std::fmt;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One fault of a job file or of a connector's parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// A JSON pointer, `/job/content/0/reader/parameter/url`; relative to the parameters while inside a connector.
    pub pointer: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// All faults of a job file at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// A single fault.
    pub fn one(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        let mut faults = Self::default();
        faults.add(pointer, message);
        faults
    }

    /// Adds a fault.
    pub fn add(&mut self, pointer: impl Into<String>, message: impl Into<String>) {
        self.0.push(Fault { pointer: pointer.into(), message: message.into() });
    }

    /// `Ok(value)` if nothing is wrong.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }

    /// The same faults with `prefix` before each pointer.
    pub fn under(mut self, prefix: &str) -> Self {
        for fault in &mut self.0 {
            fault.pointer.insert_str(0, prefix);
        }
        self
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}: {}", if fault.pointer.is_empty() { "/" } else { &fault.pointer }, fault.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

impl From<Faults> for crate::Error {
    fn from(faults: Faults) -> Self {
        crate::Error::config(faults.to_string())
    }
}

/// Reads a connector's parameter struct from parameters that were validated against its schema.
///
/// # Errors
/// A fault with the key's pointer when serde finds something that the schema let through.
pub fn parse<T: DeserializeOwned>(parameters: &Value) -> Result<T, Faults> {
    T::deserialize(parameters).map_err(|error| {
        let message = error.to_string();
        Faults::one(place::<T>(parameters, &message), message)
    })
}

/// Serde says what is wrong, not where: it is the key without which the same complaint does not come.
fn place<T: DeserializeOwned>(parameters: &Value, message: &str) -> String {
    let Some(map) = parameters.as_object() else { return String::new() };
    let innocent = |key: &str| {
        let mut rest = map.clone();
        rest.remove(key);
        T::deserialize(&Value::Object(rest)).is_err_and(|error| error.to_string() == message)
    };
    let key = map.keys().find(|key| !innocent(key));
    key.map(|key| format!("/{}", key.replace('~', "~0").replace('/', "~1"))).unwrap_or_default()
}

/// One value or a list of them: DataX writes `"table": "t"` as well as `"table": ["t", "u"]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum OneOrMany<T> {
    /// One value.
    One(T),
    /// A list.
    Many(Vec<T>),
}

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl<T> From<Vec<T>> for OneOrMany<T> {
    fn from(values: Vec<T>) -> Self {
        Self::Many(values)
    }
}

impl<T> OneOrMany<T> {
    /// The values as a slice.
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }
}

/// The known name nearest to `name`, if one is near enough to be meant.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(&lower, &k.to_lowercase()), k))
        .filter(|(distance, k)| *distance <= 1 + k.chars().count().min(name.chars().count()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    #[derive(Default)]
    struct Config {
        _table: String,
        write_mode: Option<crate::WriteMode>,
    }

    #[test]
    fn a_fault_of_serde_names_its_key() {
        let faults = parse::<Config>(&serde_json::json!({"table": "t", "writeMode": "upsertt"})).unwrap_err();
        assert_eq!(faults.0[0].pointer, "/writeMode");
        assert!(faults.0[0].message.contains("`upsertt`"), "{faults}");
        assert_eq!(parse::<Config>(&serde_json::json!(1)).unwrap_err().0[0].pointer, "");
        let good = parse::<Config>(&serde_json::json!({"writeMode": "insert"})).unwrap();
        assert_eq!(good.write_mode, Some(crate::WriteMode::Append));
    }

    #[test]
    fn the_nearest_name_is_near() {
        assert_eq!(nearest("colunm", ["column", "where", "table"]), Some("column"));
        assert_eq!(nearest("writemode", ["writeMode"]), Some("writeMode"));
        assert_eq!(nearest("encoding", ["column", "where", "table"]), None);
    }
}
