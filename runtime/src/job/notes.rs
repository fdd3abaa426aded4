//! What is found while a file is read, and the checks that all its parts share.

use serde_json::Value;
use weir_core::Faults;

use super::text::child;
use super::validate::{is_empty, show};

/// Faults and warnings so far.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub faults: Faults,
    pub warnings: Vec<String>,
    /// Unknown keys outside of connectors' parameters, decided once the form of the file is known.
    unknown: Vec<(String, String)>,
}

impl Notes {
    /// Adds a warning.
    pub fn warn(&mut self, pointer: &str, message: &str) {
        let warning = format!("{}: {message}", if pointer.is_empty() { "/" } else { pointer });
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Whether `value` is an object; null counts as an empty one.
    pub fn object(&mut self, value: &Value, pointer: &str) -> bool {
        if !value.is_null() && !value.is_object() {
            self.faults.add(pointer, format!("expected an object, found {}", show(value)));
        }
        value.is_object()
    }

    /// A number, perhaps written as a text.
    pub fn number(&mut self, value: &Value, pointer: &str, expected: &str) -> Option<f64> {
        let number = match value {
            empty if is_empty(empty) => return None,
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse::<f64>().ok().filter(|n| n.is_finite()),
            _ => None,
        };
        if number.is_none() {
            self.faults.add(pointer, format!("expected {expected}, found {}", show(value)));
        }
        number
    }

    /// A boolean, perhaps written as a text.
    pub fn boolean(&mut self, value: &Value, pointer: &str) -> Option<bool> {
        match value {
            empty if is_empty(empty) => return None,
            Value::Bool(boolean) => return Some(*boolean),
            Value::String(text) if text.eq_ignore_ascii_case("true") => return Some(true),
            Value::String(text) if text.eq_ignore_ascii_case("false") => return Some(false),
            _ => {}
        }
        self.faults.add(pointer, format!("expected true or false, found {}", show(value)));
        None
    }

    /// A text that is not empty.
    pub fn text<'v>(&mut self, value: &'v Value, pointer: &str) -> Option<&'v str> {
        match value {
            empty if is_empty(empty) => None,
            Value::String(text) => Some(text),
            other => {
                self.faults.add(pointer, format!("expected a text, found {}", show(other)));
                None
            }
        }
    }

    /// Looks for keys that are not `known`; those of `ignored` give a warning with the reason.
    pub fn unknown_keys(&mut self, value: &Value, pointer: &str, what: &str, known: &[&str], ignored: &[(&str, &str)]) {
        let Some(map) = value.as_object() else { return };
        for (key, _) in map.iter().filter(|(key, value)| !is_empty(value) && !known.contains(&key.as_str())) {
            let at = child(pointer, key);
            if let Some((_, reason)) = ignored.iter().find(|(name, _)| name == key) {
                self.warn(&at, &format!("`{key}` is ignored: {reason}"));
            } else if let Some(near) = weir_core::config::nearest(key, known.iter().copied()) {
                self.faults.add(at, format!("unknown key `{key}`: did you mean `{near}`?"));
            } else {
                self.unknown.push((at, format!("`{what}` knows no `{key}`")));
            }
        }
    }

    /// Decides about unknown keys: faults where `strict`, else warnings.
    pub fn settle(&mut self, strict: bool) {
        for (pointer, message) in std::mem::take(&mut self.unknown) {
            if strict {
                self.faults.add(pointer, format!("{message}: remove it"));
            } else {
                self.warn(&pointer, &format!("{message}, it is ignored"));
            }
        }
    }
}
