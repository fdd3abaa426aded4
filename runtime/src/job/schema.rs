//! Walking a JSON schema beside a value: which part of it speaks about which part of the value.

use serde_json::Value;

/// A place in a schema.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node<'a> {
    root: &'a Value,
    here: &'a Value,
}

/// The JSON types, as a schema names them.
pub(crate) const TYPES: [&str; 7] = ["string", "integer", "number", "boolean", "array", "object", "null"];

impl<'a> Node<'a> {
    /// The whole schema.
    pub fn root(root: &'a Value) -> Self {
        Self { root, here: root }.resolved()
    }

    fn at(self, here: &'a Value) -> Self {
        Self { root: self.root, here }.resolved()
    }

    /// Follows `$ref`; a cycle ends somewhere inside it.
    fn resolved(self) -> Self {
        let mut here = self.here;
        for _ in 0..16 {
            let Some(pointer) = here.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix('#')) else {
                break;
            };
            let Some(next) = self.root.pointer(pointer) else { break };
            here = next;
        }
        Self { root: self.root, here }
    }

    /// A keyword here.
    pub fn get(&self, keyword: &str) -> Option<&'a Value> {
        self.here.get(keyword)
    }

    /// The alternatives, or this alone.
    pub fn branches(self) -> Vec<Self> {
        let alternatives = ["anyOf", "oneOf"].iter().find_map(|k| self.get(k)).and_then(Value::as_array);
        match alternatives {
            Some(list) => list.iter().flat_map(|here| self.at(here).branches()).collect(),
            None => match self.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
                // What schemars makes of a referenced type with a description of its own.
                Some([only]) => self.at(only).branches(),
                _ => vec![self],
            },
        }
    }

    /// The alternative that is meant by `value`: the first that takes its type; among several objects the one that
    /// knows most of its keys.
    pub fn branch(self, value: &Value) -> Self {
        let kind = type_of(value);
        let mut fitting = self.branches().into_iter().filter(|b| b.takes(kind));
        match value.as_object() {
            Some(map) => fitting.rev().max_by_key(|b| map.keys().filter(|k| b.property(k).is_some()).count()),
            None => fitting.next(),
        }
        .unwrap_or(self)
    }

    /// Whether a value of this JSON type fits, by type alone.
    pub fn takes(self, kind: &str) -> bool {
        let branches = self.branches();
        if branches.len() > 1 {
            return branches.iter().any(|b| b.takes(kind));
        }
        let own = branches.first().copied().unwrap_or(self);
        let fits = |name: &str| name == kind || (name == "number" && kind == "integer");
        match own.get("type") {
            Some(Value::String(name)) => fits(name),
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).any(fits),
            _ => match (own.get("enum").and_then(Value::as_array), own.get("const")) {
                (Some(values), _) => values.iter().any(|v| type_of(v) == kind),
                (None, Some(value)) => type_of(value) == kind,
                (None, None) => own.here != &Value::Bool(false),
            },
        }
    }

    /// The schema of the items of a list.
    pub fn items(self) -> Option<Self> {
        self.get("items").map(|here| self.at(here))
    }

    /// The schema of a key, by its main name.
    pub fn property(self, key: &str) -> Option<Self> {
        self.get("properties")?.get(key).map(|here| self.at(here))
    }

    /// The schema of keys that are not listed, where there may be any.
    pub fn additional(self) -> Option<Self> {
        match self.get("additionalProperties") {
            Some(Value::Bool(false)) => None,
            Some(here) => Some(self.at(here)),
            // No list of keys at all: anything goes.
            None => self.get("properties").is_none().then(|| self.at(&Value::Bool(true))),
        }
    }

    /// Every key with its other names.
    pub fn keys(self) -> Vec<(&'a str, Vec<&'a str>)> {
        let Some(properties) = self.get("properties").and_then(Value::as_object) else { return Vec::new() };
        properties
            .iter()
            .map(|(key, schema)| {
                let aliases = schema.get("x-aliases").and_then(Value::as_array);
                (key.as_str(), aliases.into_iter().flatten().filter_map(Value::as_str).collect())
            })
            .collect()
    }

    /// Whether the value must not be shown.
    pub fn is_secret(self) -> bool {
        let secret = |node: &Self| node.get("writeOnly") == Some(&Value::Bool(true));
        secret(&self) || self.branches().iter().any(secret)
    }

    /// Whether an empty text is a value of its own.
    pub fn keeps_empty(self) -> bool {
        self.get("x-keep-empty") == Some(&Value::Bool(true))
    }

    /// The texts that are allowed, if it is an enumeration.
    pub fn options(self) -> Vec<&'a str> {
        let mut options = Vec::new();
        for branch in self.branches() {
            options
                .extend(branch.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str));
            options.extend(branch.get("const").and_then(Value::as_str));
        }
        options
    }

    /// What is expected here, in words: `a text or a list of texts`.
    pub fn describe(self) -> String {
        let mut words: Vec<String> = Vec::new();
        let options = self.options();
        if !options.is_empty() {
            words.push(match options.as_slice() {
                [one] => format!("`{one}`"),
                [start @ .., last] => {
                    let start = start.iter().map(|o| format!("`{o}`")).collect::<Vec<_>>().join(", ");
                    format!("{start} or `{last}`")
                }
                [] => String::new(),
            });
        }
        for branch in self.branches() {
            for kind in TYPES {
                let named = match branch.get("type") {
                    Some(Value::String(name)) => name == kind,
                    Some(Value::Array(names)) => names.iter().any(|n| n == kind),
                    _ => false,
                };
                let enumerated = branch.get("enum").is_some() || branch.get("const").is_some();
                if !named || enumerated {
                    continue;
                }
                let word = branch.describe_type(kind);
                if !word.is_empty() && !words.contains(&word) {
                    words.push(word);
                }
            }
        }
        if words.is_empty() { "a value".into() } else { words.join(" or ") }
    }

    fn describe_type(self, kind: &str) -> String {
        match kind {
            "string" => match self.get("pattern").and_then(Value::as_str) {
                Some(pattern) => format!("a text that matches {pattern}"),
                None => "a text".into(),
            },
            "integer" => format!("a whole number{}", self.range()),
            "number" => format!("a number{}", self.range()),
            "boolean" => "true or false".into(),
            "array" => match self.items() {
                Some(items) => match items.describe().as_str() {
                    "a text" => "a list of texts".into(),
                    "an object" => "a list of objects".into(),
                    "a value" => "a list".into(),
                    other => format!("a list of ({other})"),
                },
                None => "a list".into(),
            },
            "object" => "an object".into(),
            _ => String::new(),
        }
    }

    fn range(self) -> String {
        let bound = |key| self.get(key).filter(|v| v.is_number());
        match (bound("minimum"), bound("maximum")) {
            (Some(low), Some(high)) => format!(" from {low} to {high}"),
            (Some(low), None) => format!(", {low} or more"),
            (None, Some(high)) => format!(", at most {high}"),
            (None, None) => String::new(),
        }
    }
}

/// The JSON type of a value; whole numbers are `integer`.
pub(crate) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "string",
        Value::Number(n) if n.is_i64() || n.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::Bool(_) => "boolean",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
        Value::Null => "null",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemars::{JsonSchema, schema_for};
    use serde_json::json;
    use weir_core::Secret;
    use weir_core::config::OneOrMany;

    /// Made with schemars, so that the tests follow what it really writes.
    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema is used")]
    struct Config {
        table: OneOrMany<String>,
        #[schemars(extend("x-aliases" = ["pw"]))]
        password: Option<Secret>,
        #[schemars(range(min = 1, max = 9))]
        size: Option<u64>,
        mode: Option<Mode>,
        column: OneOrMany<Column>,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema is used")]
    #[serde(rename_all = "lowercase")]
    enum Mode {
        /// One.
        Truncate,
        /// Two.
        Append,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema is used")]
    #[serde(untagged)]
    enum Column {
        Name(String),
        Full { index: u32, format: Option<String> },
    }

    #[test]
    fn words_for_what_is_expected() {
        let schema = Value::from(schema_for!(Config));
        let root = Node::root(&schema);
        let describe = |key: &str| root.property(key).unwrap().describe();
        assert_eq!(describe("table"), "a text or a list of texts");
        assert_eq!(describe("password"), "a text");
        assert_eq!(describe("size"), "a whole number from 1 to 9");
        assert_eq!(describe("mode"), "`truncate` or `append`");
        assert!(root.property("password").unwrap().is_secret());
        assert!(!root.property("table").unwrap().is_secret());
        assert!(root.keys().contains(&("password", vec!["pw"])));
    }

    #[test]
    fn a_value_picks_its_branch() {
        let schema = Value::from(schema_for!(Config));
        let column = Node::root(&schema).property("column").unwrap();
        let list = column.branch(&json!([{"index": 1}]));
        assert!(list.items().is_some());
        let object = list.items().unwrap().branch(&json!({"index": 1}));
        assert!(object.property("format").is_some());
        assert!(column.branch(&json!({"index": 1})).property("index").is_some());
        assert!(column.takes("array") && column.takes("string") && !column.takes("boolean"));
    }
}
