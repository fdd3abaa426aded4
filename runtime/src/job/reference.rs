//! Parameters for people: what a connector's schema says, as a list.

use serde::Serialize;
use serde_json::Value;

use super::schema::Node;
use super::validate::is_empty;

/// One parameter of a connector.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ParameterInfo {
    /// Its name.
    pub name: String,
    /// Other names for it.
    pub aliases: Vec<String>,
    /// What it takes, in words: `a text or a list of texts`.
    pub kind: String,
    /// What holds when it is absent; `None` where nothing does.
    pub default: Option<Value>,
    /// Whether there must be one.
    pub required: bool,
    /// Whether it is never shown.
    pub secret: bool,
    /// What it means.
    pub description: String,
    /// The keys of its objects.
    pub fields: Vec<ParameterInfo>,
}

/// The parameters that a schema describes, in its order.
pub fn parameters(schema: &Value) -> Vec<ParameterInfo> {
    fields(Node::root(schema), 0)
}

fn fields(node: Node<'_>, depth: usize) -> Vec<ParameterInfo> {
    let required = node.get("required").and_then(Value::as_array);
    let is_required = |key: &str| required.is_some_and(|list| list.iter().any(|k| k == key));
    node.keys()
        .into_iter()
        .filter_map(|(key, aliases)| {
            // The keyword stands beside a `$ref`, so the unresolved place is asked first.
            let own = node.get("properties")?.get(key)?;
            let property = node.property(key)?;
            let said = |keyword: &str| own.get(keyword).or_else(|| property.get(keyword));
            let default = said("default").filter(|default| !says_nothing(default));
            let description = said("description").and_then(Value::as_str).unwrap_or_default();
            Some(ParameterInfo {
                name: key.to_owned(),
                aliases: aliases.into_iter().map(str::to_owned).collect(),
                kind: property.describe(),
                default: default.cloned(),
                required: is_required(key),
                secret: property.is_secret(),
                description: description.split_whitespace().collect::<Vec<_>>().join(" "),
                fields: if depth < 4 { nested(property, depth) } else { Vec::new() },
            })
        })
        .collect()
}

/// Whether a default is the same as none; an object of such defaults too.
fn says_nothing(default: &Value) -> bool {
    is_empty(default) || default.as_object().is_some_and(|map| map.values().all(says_nothing))
}

/// The keys of the objects that a parameter takes, alone or in a list.
fn nested(node: Node<'_>, depth: usize) -> Vec<ParameterInfo> {
    for branch in node.branches() {
        if !branch.keys().is_empty() {
            return fields(branch, depth + 1);
        }
        let Some(items) = branch.items() else { continue };
        if let Some(object) = items.branches().into_iter().find(|b| !b.keys().is_empty()) {
            return fields(object, depth + 1);
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Side, find_plugin};

    #[test]
    fn every_parameter_is_listed_with_its_meaning() {
        let (plugin, _) = find_plugin("fake", Side::Reader).unwrap();
        let list = parameters(&plugin.schema());
        let of = |name: &str| list.iter().find(|p| p.name == name).unwrap();
        assert_eq!(of("url").aliases, ["jdbcUrl"]);
        assert_eq!(of("url").description, "Where it is.");
        assert_eq!(of("table").kind, "a text or a list of texts");
        assert_eq!(of("table").default, None);
        assert!(of("password").secret && !of("url").secret);
        assert_eq!(of("connection").fields.len(), 4);
        assert_eq!(of("connection").kind, "an object or a list of objects");
    }
}
