//! What a schema says against a value, in plain sentences.

use std::collections::BTreeSet;

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind;
use serde_json::Value;
use weir_core::Faults;

use super::schema::Node;
use super::secrets::refers;
use super::text::child;
use super::validate::show;

/// Checks a strict value against the schema.
pub(crate) fn check(value: &Value, schema: &Value, faults: &mut Faults) {
    let validator = match jsonschema::validator_for(schema) {
        Ok(validator) => validator,
        Err(error) => {
            faults.add("", format!("the connector's own schema is wrong, please report it: {error}"));
            return;
        }
    };
    let mut seen = BTreeSet::new();
    for error in validator.iter_errors(value) {
        explain(&error, value, schema, &mut seen, faults);
    }
}

fn explain(
    error: &ValidationError<'_>,
    value: &Value,
    schema: &Value,
    seen: &mut BTreeSet<String>,
    faults: &mut Faults,
) {
    let pointer = error.instance_path().as_str();
    let wrong = error.instance().as_ref();
    if wrong.as_str().is_some_and(refers) {
        return; // Checked again when the reference is filled in.
    }
    match error.kind() {
        // The alternative that takes a value of this type says best what is wrong inside it.
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            let inside: Vec<_> = context
                .iter()
                .filter(|errors| !errors.iter().any(|e| e.instance_path().as_str() == pointer && of_type(e)))
                .collect();
            if let Some(best) = inside.iter().min_by_key(|errors| errors.len()) {
                for error in best.iter() {
                    explain(error, value, schema, seen, faults);
                }
                return;
            }
        }
        ValidationErrorKind::Required { property } => {
            let property = property.as_str().unwrap_or_default();
            if seen.insert(child(pointer, property)) {
                faults.add(pointer, format!("`{property}` is missing"));
            }
            return;
        }
        _ => {}
    }
    if seen.insert(pointer.to_owned()) {
        let node = find(value, Node::root(schema), pointer);
        let expected = node.map_or_else(|| "another value".into(), Node::describe);
        let shown = if node.is_some_and(Node::is_secret) { "a secret of another type".into() } else { show(wrong) };
        let more = match error.kind() {
            kind if is_type(kind) => String::new(),
            ValidationErrorKind::Enum { .. } | ValidationErrorKind::AnyOf { .. } => String::new(),
            ValidationErrorKind::OneOfNotValid { .. } | ValidationErrorKind::Constant { .. } => String::new(),
            ValidationErrorKind::Minimum { .. } | ValidationErrorKind::Maximum { .. } => String::new(),
            _ => format!(": {}", error.masked_with("it")),
        };
        faults.add(pointer, format!("expected {expected}, found {shown}{more}"));
    }
}

fn is_type(kind: &ValidationErrorKind) -> bool {
    matches!(kind, ValidationErrorKind::Type { .. })
}

fn of_type(error: &ValidationError<'_>) -> bool {
    // An enumeration of texts has no type of its own.
    is_type(error.kind())
        || matches!(error.kind(), ValidationErrorKind::Enum { .. } | ValidationErrorKind::Constant { .. })
        || matches!(error.kind(), ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context }
            if context.iter().flatten().all(of_type))
}

/// The schema of the part of `value` at `pointer`.
fn find<'a>(value: &Value, node: Node<'a>, pointer: &str) -> Option<Node<'a>> {
    let Some(rest) = pointer.strip_prefix('/') else { return Some(node) };
    let (token, rest) = rest.find('/').map_or((rest, ""), |i| rest.split_at(i));
    let token = token.replace("~1", "/").replace("~0", "~");
    let branch = node.branch(value);
    match value {
        Value::Array(items) => find(items.get(token.parse::<usize>().ok()?)?, branch.items()?, rest),
        Value::Object(map) => find(map.get(&token)?, branch.property(&token).or_else(|| branch.additional())?, rest),
        _ => None,
    }
}
