//! References to secrets, `${env:NAME}` and `${file:PATH}`, and how parameters are shown without them.

use std::path::Path;
use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::Value;
use weir_core::Faults;

use super::schema::Node;
use super::text::child;

/// What stands for a secret wherever parameters are shown.
pub const HIDDEN: &str = "***";

static REFERENCE: LazyLock<Regex> = LazyLock::new(|| regex(r"\$\{(env|file):([^}]*)\}"));
static USER_INFO: LazyLock<Regex> = LazyLock::new(|| regex(r"([A-Za-z][A-Za-z0-9+.-]*://[^/\s:@?]*):[^?\s]*@"));
static PROPERTY: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r#"(?i)\b((?:[a-z0-9_.-]*(?:password|passwd|secret|token|credential))|pwd|[a-z0-9_.-]*access_?key(?:_?id)?)=([^&;\s"']*)"#,
    )
});
static SECRET_KEY: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(?i)(pass|pwd|(^|_)pw$|secret|token|credential|(access|api|private)_?key|^(ak|sk)$)"));

#[allow(clippy::expect_used, reason = "the patterns are constants, and the tests compile each of them")]
fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a constant pattern")
}

/// Whether a text holds a reference.
pub(crate) fn refers(text: &str) -> bool {
    text.contains("${") && REFERENCE.is_match(text)
}

/// Makes the paths of `${file:…}` independent of the working folder: relative ones start in `folder`.
pub(crate) fn anchor(value: &mut Value, folder: &Path) {
    match value {
        Value::String(text) if refers(text) => {
            let anchored = REFERENCE.replace_all(text, |found: &Captures<'_>| match &found[1] {
                "file" => format!("${{file:{}}}", folder.join(found[2].trim()).display()),
                _ => found[0].to_owned(),
            });
            *text = anchored.into_owned();
        }
        Value::Array(items) => items.iter_mut().for_each(|item| anchor(item, folder)),
        Value::Object(map) => map.values_mut().for_each(|item| anchor(item, folder)),
        _ => {}
    }
}

/// Replaces every reference by what it names. A file loses the line break at its end.
///
/// # Errors
/// Variables that are not set and files that cannot be read, all of them, each with the pointer of the value.
pub fn resolve(value: &Value) -> Result<Value, Faults> {
    let mut faults = Faults::default();
    let resolved = resolve_at(value, "", &mut faults);
    faults.or(resolved)
}

fn resolve_at(value: &Value, pointer: &str, faults: &mut Faults) -> Value {
    match value {
        Value::String(text) if refers(text) => {
            let filled = REFERENCE.replace_all(text, |found: &Captures<'_>| {
                let name = found[2].trim();
                let looked_up = match &found[1] {
                    "env" => std::env::var(name).map_err(|error| match error {
                        std::env::VarError::NotPresent => {
                            format!("the environment variable `{name}` is not set: set it, or change the reference")
                        }
                        std::env::VarError::NotUnicode(_) => {
                            format!("the environment variable `{name}` is no valid text")
                        }
                    }),
                    _ => std::fs::read_to_string(name)
                        .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
                        .map_err(|error| format!("the file `{name}` cannot be read: {error}")),
                };
                looked_up.unwrap_or_else(|message| {
                    faults.add(pointer, message);
                    String::new()
                })
            });
            Value::String(filled.into_owned())
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            Value::Array(items.map(|(i, item)| resolve_at(item, &format!("{pointer}/{i}"), faults)).collect())
        }
        Value::Object(map) => Value::Object(
            map.iter().map(|(key, item)| (key.clone(), resolve_at(item, &child(pointer, key), faults))).collect(),
        ),
        other => other.clone(),
    }
}

/// `value` as it may be shown: what the schema marks as secret, what is named like a secret, and passwords inside URLs
/// stand as `***`.
pub fn redact(value: &Value, schema: Option<&Value>) -> Value {
    match schema {
        Some(schema) => redact_at(value, Some(Node::root(schema))),
        None => redact_at(value, None),
    }
}

fn redact_at(value: &Value, node: Option<Node<'_>>) -> Value {
    if node.is_some_and(|node| node.is_secret()) && !value.is_null() {
        return Value::String(HIDDEN.into());
    }
    let branch = node.map(|node| node.branch(value));
    match value {
        Value::String(text) => Value::String(redact_text(text)),
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| redact_at(item, branch.and_then(|b| b.items()))).collect())
        }
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, item)| {
                    let shown = if SECRET_KEY.is_match(key) && !item.is_null() && !item.is_boolean() {
                        Value::String(HIDDEN.into())
                    } else {
                        redact_at(item, branch.and_then(|b| b.property(key)))
                    };
                    (key.clone(), shown)
                })
                .collect(),
        ),
        other => other.clone(),
    }
}

/// `text` without the passwords of URLs and connection strings in it.
pub fn redact_text(text: &str) -> String {
    let text = USER_INFO.replace_all(text, format!("${{1}}:{HIDDEN}@"));
    let text = PROPERTY.replace_all(&text, format!("${{1}}={HIDDEN}"));
    REFERENCE.replace_all(&text, HIDDEN).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn passwords_do_not_show() {
        for (text, shown) in [
            ("mysql://u:p@ss/w@h:3306/d?x=1", "mysql://u:***@h:3306/d?x=1"),
            ("jdbc:postgresql://h/d?user=u&password=p&ssl=1", "jdbc:postgresql://h/d?user=u&password=***&ssl=1"),
            (
                "jdbc:sqlserver://h:1433;user=sa;Password=x;encrypt=true",
                "jdbc:sqlserver://h:1433;user=sa;Password=***;encrypt=true",
            ),
            ("mysql://h:3306/d", "mysql://h:3306/d"),
            ("s3://bucket/a:b@c", "s3://bucket/a:b@c"),
            ("mysql://u:${env:PW}@h/d", "mysql://u:***@h/d"),
            ("x ${file:/etc/pw} y", "x *** y"),
        ] {
            assert_eq!(redact_text(text), shown);
        }
        let schema = json!({"type": "object", "properties": {
            "url": {"type": "string"}, "phrase": {"type": ["string", "null"], "writeOnly": true},
            "connection": {"anyOf": [{"$ref": "#/$defs/C"}, {"type": "array", "items": {"$ref": "#/$defs/C"}}]}},
            "$defs": {"C": {"type": "object", "properties": {"key": {"type": "string", "writeOnly": true}}}}});
        let value = json!({"url": "a://u:p@h", "phrase": "x", "s3": {"secretAccessKey": "k", "region": "r"},
            "connection": [{"key": "k", "table": "t"}], "accessKeyId": null});
        assert_eq!(
            redact(&value, Some(&schema)),
            json!({"url": "a://u:***@h", "phrase": "***", "s3": {"secretAccessKey": "***", "region": "r"},
            "connection": [{"key": "***", "table": "t"}], "accessKeyId": null})
        );
    }

    #[test]
    fn references_are_resolved_and_faults_name_the_place_but_not_the_value() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pw"), "geheim\n").unwrap();
        let mut value =
            json!({"a": ["x-${file:pw}"], "b": "${env:PATH}", "c": "${env:NO_SUCH_VARIABLE_1}", "d": "${file:gone}"});
        anchor(&mut value, folder.path());
        let faults = resolve(&value).unwrap_err();
        assert_eq!(faults.0.iter().map(|f| f.pointer.as_str()).collect::<Vec<_>>(), ["/c", "/d"]);
        assert!(!faults.to_string().contains("geheim"));
        let object = value.as_object_mut().unwrap();
        object.remove("c");
        object.remove("d");
        let resolved = resolve(&value).unwrap();
        assert_eq!(resolved["a"][0], "x-geheim");
        assert_eq!(resolved["b"], std::env::var("PATH").unwrap());
    }
}
