//! JSON as people write it: with comments and trailing commas, and with the line of every value for messages.

use std::collections::HashMap;

use jsonc_parser::ast::{Object, Value as Node};
use jsonc_parser::common::{Range, Ranged};
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use serde_json::{Map, Number, Value};
use weir_core::{Fault, Faults};

/// A parsed text, and where its values stand.
#[derive(Debug, Clone, Default)]
pub(crate) struct Document {
    /// The value.
    pub value: Value,
    /// JSON pointers of keys that an object has twice; the last one counts.
    pub duplicates: Vec<String>,
    lines: HashMap<String, usize>,
}

/// Adds a key or an index to a JSON pointer.
pub(crate) fn child(pointer: &str, token: &str) -> String {
    format!("{pointer}/{}", token.replace('~', "~0").replace('/', "~1"))
}

/// Parses `text`. `origin` gives, for a byte of `text`, the byte of the file it came from.
pub(crate) fn parse(text: &str, file: &str, origin: impl Fn(usize) -> usize) -> Result<Document, Faults> {
    let options = ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    let parsed = parse_to_ast(text, &CollectOptions::default(), &options).map_err(|error| {
        let at = origin(error.range().start.min(text.len()));
        let (line, column) = position(file, at);
        let said = error.kind().to_string();
        let said = said.trim_end_matches('.').to_lowercase();
        Faults::one("", format!("this is no valid JSON: {said} at line {line}, column {column}"))
    })?;
    let Some(node) = parsed.value else {
        return Err(Faults::one("", "the file is empty: it should hold a job as JSON"));
    };
    let mut document = Document::default();
    let starts = line_starts(file);
    let line = |range: Range| starts.partition_point(|start| *start <= origin(range.start));
    document.value = convert(&node, "", &line, &mut document);
    Ok(document)
}

impl Document {
    /// The line of the value at `pointer`, or of the nearest value around it.
    pub fn line(&self, pointer: &str) -> Option<usize> {
        let mut pointer = pointer;
        loop {
            if let Some(line) = self.lines.get(pointer) {
                return Some(*line);
            }
            pointer = &pointer[..pointer.rfind('/')?];
        }
    }

    /// Adds its line to each fault.
    pub fn locate(&self, faults: Faults) -> Faults {
        let located = faults.0.into_iter().map(|fault| match self.line(&fault.pointer) {
            Some(line) if !fault.pointer.is_empty() => {
                Fault { message: format!("{} (line {line})", fault.message), pointer: fault.pointer }
            }
            _ => fault,
        });
        Faults(located.collect())
    }
}

fn convert(node: &Node<'_>, pointer: &str, line: &impl Fn(Range) -> usize, document: &mut Document) -> Value {
    document.lines.entry(pointer.to_owned()).or_insert_with(|| line(node.range()));
    match node {
        Node::StringLit(text) => Value::String(text.value.to_string()),
        Node::NumberLit(number) => {
            // A number beyond u64 and f64 stays readable as text; the schema then says what it should be.
            number.value.parse::<Number>().map_or_else(|_| Value::String(number.value.to_owned()), Value::Number)
        }
        Node::BooleanLit(boolean) => Value::Bool(boolean.value),
        Node::NullKeyword(_) => Value::Null,
        Node::Array(array) => {
            let items = array.elements.iter().enumerate();
            Value::Array(items.map(|(i, item)| convert(item, &format!("{pointer}/{i}"), line, document)).collect())
        }
        Node::Object(object) => Value::Object(convert_object(object, pointer, line, document)),
    }
}

fn convert_object(
    object: &Object<'_>,
    pointer: &str,
    line: &impl Fn(Range) -> usize,
    document: &mut Document,
) -> Map<String, Value> {
    let mut map = Map::new();
    for property in &object.properties {
        let name = property.name.as_str();
        let at = child(pointer, name);
        document.lines.insert(at.clone(), line(property.range()));
        let value = convert(&property.value, &at, line, document);
        if map.insert(name.to_owned(), value).is_some() {
            document.duplicates.push(at);
        }
    }
    map
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect()
}

/// Line and column, from 1, of a byte of `text`.
pub(crate) fn position(text: &str, byte: usize) -> (usize, usize) {
    let mut byte = byte.min(text.len());
    while !text.is_char_boundary(byte) {
        byte -= 1;
    }
    let before = &text[..byte];
    let start = before.rfind('\n').map_or(0, |i| i + 1);
    (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> Result<Document, Faults> {
        parse(text, text, |byte| byte)
    }

    #[test]
    fn comments_and_trailing_commas_are_read() {
        let document = read("{ // name\n \"a\": [1, 2.5,], /* more */\n \"b\": {\"c/d\": null,},\n}").unwrap();
        assert_eq!(document.value, json!({"a": [1, 2.5], "b": {"c/d": null}}));
        assert_eq!(document.line("/b/c~1d"), Some(3));
        assert_eq!(document.line("/a/7/x"), Some(2));
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_place() {
        for (text, place) in [
            ("{\n  \"a\": 1\n  \"b\": 2\n}", "line 2, column 9"),
            ("{\"a\": }", "line 1, column 7"),
            ("{\"a\": 'x'}", "line 1, column 7"),
            ("{\"é\": \"x\" 1}", "line 1, column 10"),
            ("{\"a\": [1, 2}", "column"),
            ("{} {}", "line 1, column 4"),
            ("{\"a\": \"x", "line 1"),
        ] {
            let faults = read(text).unwrap_err();
            assert!(faults.to_string().contains(place), "{text}: {faults}");
        }
        assert!(read("  // nothing\n").unwrap_err().to_string().contains("empty"));
        assert!(read(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn a_key_given_twice_is_noticed() {
        let document = read(r#"{"a": {"b": 1, "b": 2}}"#).unwrap();
        assert_eq!(document.duplicates, ["/a/b"]);
        assert_eq!(document.value, json!({"a": {"b": 2}}));
    }
}
