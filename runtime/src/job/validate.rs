//! Parameters against a connector's schema: first made strict, then checked, every fault with its place.
//!
//! Job files write numbers as texts, single values for lists, and whatever their last tool understood. So a value that
//! only looks different from what the schema wants is turned into it; what is left is a fault.

use std::collections::BTreeSet;

use serde_json::{Map, Number, Value};
use weir_core::{Faults, Form};

use super::explain::check;
use super::schema::{Node, type_of};
use super::secrets::{redact_text, refers};
use super::text::child;

/// What is known of a connector besides its schema, and how strictly to look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules<'a> {
    /// Shown in messages: `mysql reader`.
    pub who: &'a str,
    /// Parameters that are accepted with a warning.
    pub ignored: &'a [(&'a str, &'a str)],
    /// Parameters that are refused.
    pub refused: &'a [(&'a str, &'a str)],
    /// Keys that the runtime itself reads.
    pub framework: &'a [&'a str],
    /// Whose words the job uses.
    pub form: Form,
    /// Unknown keys are always faults.
    pub strict: bool,
}

/// What validation found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Faults, with pointers relative to the parameters.
    pub faults: Faults,
    /// Warnings as (pointer, sentence), one for each key.
    pub warnings: Vec<(String, String)>,
}

/// Makes `parameters` strict and checks them.
pub(crate) fn validate(parameters: &mut Value, schema: &Value, rules: &Rules<'_>) -> Findings {
    let mut walk = Walk { rules, findings: Findings::default(), warned: BTreeSet::new() };
    walk.tidy(parameters, Node::root(schema), "");
    check(parameters, schema, &mut walk.findings.faults);
    walk.findings
}

/// Makes values strict again after references were filled in, and checks them.
///
/// # Errors
/// Values that do not fit the schema.
pub(crate) fn settle(parameters: &mut Value, schema: &Value) -> Result<(), Faults> {
    coerce_tree(parameters, Node::root(schema));
    let mut faults = Faults::default();
    check(parameters, schema, &mut faults);
    faults.or(())
}

/// Renames the aliases of top-level keys, so that two sets of parameters can be merged.
pub(crate) fn rename_aliases(map: &mut Map<String, Value>, node: Node<'_>) {
    for (main, aliases) in node.keys() {
        for alias in aliases {
            if !map.contains_key(main)
                && let Some(value) = map.remove(alias)
            {
                map.insert(main.to_owned(), value);
            }
        }
    }
}

struct Walk<'a> {
    rules: &'a Rules<'a>,
    findings: Findings,
    warned: BTreeSet<String>,
}

impl Walk<'_> {
    fn tidy(&mut self, value: &mut Value, node: Node<'_>, pointer: &str) {
        coerce(value, node);
        let branch = node.branch(value);
        match value {
            Value::Array(items) => {
                if let Some(node) = branch.items() {
                    for (i, item) in items.iter_mut().enumerate() {
                        self.tidy(item, node, &format!("{pointer}/{i}"));
                    }
                }
            }
            Value::Object(map) => self.tidy_object(map, branch, pointer),
            _ => {}
        }
    }

    fn tidy_object(&mut self, map: &mut Map<String, Value>, node: Node<'_>, pointer: &str) {
        for (main, aliases) in node.keys() {
            for alias in aliases {
                let Some(value) = map.get(alias) else { continue };
                match map.get(main) {
                    // `"jdbcUrl": ""` beside `url` says nothing.
                    Some(_) if is_empty(value) => {}
                    Some(other) if !is_empty(other) && other != value => {
                        let message =
                            format!("`{alias}` and `{main}` are two names of one parameter: keep one of them");
                        self.findings.faults.add(child(pointer, alias), message);
                    }
                    _ => {
                        let value = value.clone();
                        map.insert(main.to_owned(), value);
                    }
                }
                map.shift_remove(alias);
            }
        }
        let keys: Vec<String> = map.keys().cloned().collect();
        for key in keys {
            let Some(value) = map.get_mut(&key) else { continue };
            let known = node.property(&key);
            if is_empty(value) && !known.is_some_and(|node| node.keeps_empty() && value.is_string()) {
                // Known or not, it says nothing.
                map.shift_remove(&key);
                continue;
            }
            match known.or_else(|| node.additional()) {
                Some(node) => self.tidy(value, node, &child(pointer, &key)),
                None => {
                    self.unknown(&key, node, &child(pointer, &key));
                    map.shift_remove(&key);
                }
            }
        }
    }

    fn unknown(&mut self, key: &str, node: Node<'_>, pointer: &str) {
        let Rules { who, ignored, refused, framework, form, strict } = *self.rules;
        let named = |list: &[(&str, &str)]| {
            list.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, reason)| (*reason).to_owned())
        };
        if let Some(reason) = named(refused) {
            self.findings.faults.add(pointer, format!("`{key}` is not supported by the {who}: {reason}"));
            return;
        }
        if let Some(reason) = named(ignored) {
            self.warn(pointer, key, format!("`{key}` is ignored by the {who}: {reason}"));
            return;
        }
        let keys = node.keys();
        let top = pointer.matches('/').count() == 1;
        let known = keys.iter().flat_map(|(main, aliases)| std::iter::once(main).chain(aliases)).copied();
        let known = known.chain(framework.iter().copied().filter(|_| top));
        if let Some(near) = weir_core::config::nearest(key, known) {
            self.findings.faults.add(pointer, format!("unknown key `{key}`: did you mean `{near}`?"));
        } else if strict || form == Form::Native {
            let hint = match who.split_once(' ') {
                Some((name, "reader" | "writer")) => format!("see `weir connectors {name}` for its parameters"),
                _ => "see docs/databases.md for its keys".into(),
            };
            self.findings.faults.add(pointer, format!("the {who} knows no `{key}`: remove it, or {hint}"));
        } else {
            self.warn(pointer, key, format!("the {who} knows no `{key}`, it is ignored"));
        }
    }

    fn warn(&mut self, pointer: &str, key: &str, message: String) {
        if self.warned.insert(key.to_owned()) {
            self.findings.warnings.push((pointer.to_owned(), message));
        }
    }
}

/// `""`, `[]` and null mean that a key is absent.
pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn coerce_tree(value: &mut Value, node: Node<'_>) {
    coerce(value, node);
    let branch = node.branch(value);
    match value {
        Value::Array(items) => {
            if let Some(node) = branch.items() {
                items.iter_mut().for_each(|item| coerce_tree(item, node));
            }
        }
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                if let Some(node) = branch.property(key).or_else(|| branch.additional()) {
                    coerce_tree(value, node);
                }
            }
        }
        _ => {}
    }
}

/// Turns `value` into what the schema takes, where that is the same value in other clothes.
fn coerce(value: &mut Value, node: Node<'_>) {
    let takes = |kind| node.takes(kind);
    let kind = type_of(value);
    let turned = match value {
        Value::String(text) if refers(text) => None,
        Value::String(text) => match option(text, node) {
            Some(option) => Some(Value::String(option)),
            None if takes("string") => None,
            None => from_text(text.trim(), node),
        },
        Value::Number(number) if !takes(kind) => {
            let whole = number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < 9e15);
            match whole {
                Some(n) if takes("integer") => Some(Value::from(n as i64)),
                _ if takes("string") => Some(Value::String(number.to_string())),
                _ => None,
            }
        }
        Value::Bool(boolean) if !takes("boolean") && takes("string") => Some(Value::String(boolean.to_string())),
        // A list of one where a single value is meant.
        Value::Array(items) if !takes("array") => match items.as_mut_slice() {
            [only] => Some(only.take()),
            _ => None,
        },
        _ => None,
    };
    if let Some(turned) = turned {
        *value = turned;
    }
    if !value.is_array() && !value.is_null() && !node.takes(type_of(value)) && node.takes("array") {
        let mut item = value.clone();
        if let Some(items) = node.branches().into_iter().find_map(|b| b.items()) {
            coerce(&mut item, items);
            if !items.takes(type_of(&item)) {
                return;
            }
        }
        *value = Value::Array(vec![item]);
    }
}

fn from_text(text: &str, node: Node<'_>) -> Option<Value> {
    if node.takes("integer") {
        if let Ok(number) = text.parse::<i64>() {
            return Some(number.into());
        }
        if let Ok(number) = text.parse::<u64>() {
            return Some(number.into());
        }
    }
    if node.takes("number")
        && let Some(number) = text.parse().ok().and_then(Number::from_f64)
    {
        return Some(Value::Number(number));
    }
    if node.takes("boolean") {
        if text.eq_ignore_ascii_case("true") {
            return Some(Value::Bool(true));
        }
        if text.eq_ignore_ascii_case("false") {
            return Some(Value::Bool(false));
        }
    }
    None
}

/// The allowed text that `text` spells in another case.
fn option(text: &str, node: Node<'_>) -> Option<String> {
    let options = node.options();
    if options.contains(&text) {
        return None;
    }
    options.into_iter().find(|option| option.eq_ignore_ascii_case(text.trim())).map(str::to_owned)
}

/// A value in a message: short, and without passwords.
pub(crate) fn show(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
        Value::Null => "nothing".into(),
        Value::String(text) => {
            let text = redact_text(text);
            let short: String = text.chars().take(60).collect();
            format!("`{short}{}`", if short.len() < text.len() { "…" } else { "" })
        }
        other => format!("`{other}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemars::{JsonSchema, schema_for};
    use serde_json::json;
    use weir_core::Secret;
    use weir_core::config::OneOrMany;

    #[derive(JsonSchema)]
    #[serde(rename_all = "camelCase")]
    #[allow(dead_code, reason = "only its schema is used")]
    struct Config {
        #[schemars(extend("x-aliases" = ["jdbcUrl"]))]
        url: String,
        password: Option<Secret>,
        table: Option<OneOrMany<String>>,
        #[schemars(range(min = 1))]
        batch_size: Option<u64>,
        rate: Option<f64>,
        header: Option<bool>,
        mode: Option<Mode>,
        column: Option<OneOrMany<Column>>,
        #[schemars(extend("x-keep-empty" = true))]
        null_format: Option<String>,
        options: Option<std::collections::BTreeMap<String, String>>,
        free: Option<Value>,
    }

    #[derive(JsonSchema)]
    #[serde(rename_all = "lowercase")]
    #[allow(dead_code, reason = "only its schema is used")]
    enum Mode {
        /// One.
        Truncate,
        /// Two.
        Append,
    }

    #[derive(JsonSchema)]
    #[serde(untagged)]
    #[allow(dead_code, reason = "only its schema is used")]
    enum Column {
        Name(String),
        Full { index: u32, format: Option<String> },
    }

    fn run(value: Value, form: Form) -> (Value, Findings) {
        let schema = Value::from(schema_for!(Config));
        let rules = Rules {
            who: "fake reader",
            ignored: &[("fetchSize", "the driver chooses")],
            refused: &[("splitMode", "it would lose rows")],
            framework: &["mapping"],
            form,
            strict: false,
        };
        let mut value = value;
        let findings = validate(&mut value, &schema, &rules);
        (value, findings)
    }

    #[test]
    fn other_clothes_are_taken_off() {
        let (value, findings) = run(
            json!({"jdbcUrl": ["a://b"], "table": "t", "batchSize": "10", "rate": "2.5", "header": "True", "mode": "TRUNCATE",
                "column": [{"index": "3", "format": ""}, "x", 5], "nullFormat": "", "password": null, "options": {"a": 1, "b": true},
                "free": {"any": [""]}}),
            Form::Native,
        );
        assert_eq!(findings.faults, Faults::default());
        assert_eq!(
            value,
            json!({"url": "a://b", "table": "t", "batchSize": 10, "rate": 2.5, "header": true, "mode": "truncate",
                "column": [{"index": 3}, "x", "5"], "nullFormat": "", "options": {"a": "1", "b": "true"}, "free": {"any": [""]}})
        );
        let (value, findings) = run(json!({"url": "u", "batchSize": 3.0, "table": [7]}), Form::Native);
        assert_eq!((value, findings.faults), (json!({"url": "u", "batchSize": 3, "table": ["7"]}), Faults::default()));
    }

    #[test]
    fn every_fault_has_its_place_and_a_plain_sentence() {
        let (_, findings) = run(
            json!({"batchSize": 0, "rate": "fast", "header": 3, "mode": "both", "column": [{"index": "x"}, {"format": "f"}, [1, 2]],
                "password": {"a": "geheim"}, "table": {"x": 1}}),
            Form::Native,
        );
        let text = findings.faults.to_string();
        for line in [
            "/: `url` is missing",
            "/batchSize: expected a whole number, 1 or more, found `0`",
            "/rate: expected a number, found `fast`",
            "/header: expected true or false, found `3`",
            "/mode: expected `truncate` or `append`, found `both`",
            "/column/0/index: expected a whole number, 0 or more, found `x`",
            "/column/1: `index` is missing",
            "/password: expected a text, found a secret of another type",
            "/table: expected a text or a list of texts, found an object",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\nin\n{text}");
        }
        assert!(text.contains("/column/2: "), "{text}");
        assert_eq!(findings.faults.0.len(), 10, "{text}");
        assert!(!text.contains("geheim"));
    }

    #[test]
    fn unknown_keys_depend_on_the_form_but_near_ones_never_pass() {
        let given = json!({"url": "u", "encoding": "utf8", "tabel": "t", "fetchSize": 3, "splitMode": "x", "maping": [],
            "JDBCURL": "", "column": [{"index": 1, "visible": 1}, {"index": 2, "visible": 1}, {"index": 1, "fromat": "x"}]});
        let (value, findings) = run(given.clone(), Form::DataX);
        let text = findings.faults.to_string();
        assert!(text.contains("/tabel: unknown key `tabel`: did you mean `table`?"), "{text}");
        assert!(text.contains("/column/2/fromat") && text.contains("`format`"), "{text}");
        assert!(
            text.contains("/splitMode: `splitMode` is not supported by the fake reader: it would lose rows"),
            "{text}"
        );
        assert_eq!(findings.faults.0.len(), 3, "{text}");
        assert_eq!(findings.warnings.len(), 3, "{:?}", findings.warnings);
        assert_eq!(value["column"][0], json!({"index": 1}));
        let (_, findings) = run(given, Form::Native);
        assert_eq!(findings.faults.0.len(), 6, "{}", findings.faults);
        let (_, findings) = run(json!({"url": "a", "jdbcUrl": "b", "maping": 1}), Form::DataX);
        assert_eq!(findings.faults.0.len(), 2, "{}", findings.faults);
    }

    #[test]
    fn references_wait_until_they_are_filled_in() {
        let (mut value, findings) = run(json!({"url": "u", "batchSize": "${env:SIZE}"}), Form::Native);
        assert_eq!(findings.faults, Faults::default());
        let schema = Value::from(schema_for!(Config));
        value["batchSize"] = json!("12");
        settle(&mut value, &schema).unwrap();
        assert_eq!(value["batchSize"], 12);
        value["batchSize"] = json!("many");
        assert!(settle(&mut value, &schema).is_err());
    }
}
