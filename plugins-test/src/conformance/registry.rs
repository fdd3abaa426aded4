//! What holds for every connector that is linked, without any service.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::{Map, Value, json};
use weir_core::{ConnectorContext, Faults, readers, writers};

use crate::harness::context;

/// Bare locations as people write them; each is claimed by one connector a side at most.
const LOCATIONS: [&str; 24] = [
    "",
    "orders",
    "postgresql://u:p@localhost/shop",
    "postgres://localhost/shop",
    "jdbc:postgresql://localhost:5432/shop",
    "mysql://u:p@localhost:3306/shop",
    "mariadb://localhost/shop",
    "jdbc:mysql://localhost:3306/shop",
    "sqlite://shop.db",
    "shop.db",
    "shop.sqlite",
    "/data/shop.sqlite3",
    "orders.csv",
    "orders.csv.gz",
    "in/*.parquet",
    "orders.jsonl",
    "orders.arrow",
    "s3://bucket/in/orders.csv",
    "delta:lake/orders",
    "lake/orders/",
    "s3://bucket/lake/orders",
    "stream:",
    "-",
    "memory:x",
];

/// Checks every linked connector.
///
/// # Panics
/// When something is wrong, with everything that is.
pub fn check_registry() {
    let faults = registry_faults(&[]);
    assert!(faults.is_empty(), "{} faults of linked connectors\n- {}", faults.len(), faults.join("\n- "));
}

/// What is wrong with the linked connectors. `locations` are tried beside the library's own.
pub fn registry_faults(locations: &[&str]) -> Vec<String> {
    let entries = entries();
    let mut faults = Vec::new();
    for side in ["reader", "writer"] {
        names(side, entries.iter().filter(|e| e.side == side), &mut faults);
    }
    for entry in &entries {
        schema(entry, &mut faults);
        opening(entry, &mut faults);
    }
    for location in LOCATIONS.iter().chain(locations) {
        for side in ["reader", "writer"] {
            recognition(location, side, entries.iter().filter(|e| e.side == side), &mut faults);
        }
    }
    faults
}

type Open = Box<dyn Fn(&Value, &ConnectorContext) -> Result<(), Faults>>;

/// A reader or a writer: their plugins have the same parts.
struct Entry {
    side: &'static str,
    name: &'static str,
    aliases: &'static [&'static str],
    summary: &'static str,
    schema: fn() -> schemars::Schema,
    ignored: &'static [(&'static str, &'static str)],
    refused: &'static [(&'static str, &'static str)],
    opens: Vec<Open>,
    recognise: fn(&str, Option<&str>) -> Option<Value>,
}

fn entries() -> Vec<Entry> {
    let readers = readers().into_iter().map(|p| {
        let mut opens: Vec<Open> = vec![Box::new(move |v, c| (p.open)(v, c).map(|_| ()))];
        if let Some(catalog) = p.catalog {
            opens.push(Box::new(move |v, c| catalog(v, c).map(|_| ())));
        }
        Entry {
            side: "reader",
            name: p.name,
            aliases: p.aliases,
            summary: p.summary,
            schema: p.schema,
            ignored: p.ignored,
            refused: p.refused,
            opens,
            recognise: p.recognise,
        }
    });
    let writers = writers().into_iter().map(|p| Entry {
        side: "writer",
        name: p.name,
        aliases: p.aliases,
        summary: p.summary,
        schema: p.schema,
        ignored: p.ignored,
        refused: p.refused,
        opens: vec![Box::new(move |v, c| (p.open)(v, c).map(|_| ()))],
        recognise: p.recognise,
    });
    readers.chain(writers).collect()
}

impl Entry {
    fn title(&self) -> String {
        format!("{} {}", self.side, self.name)
    }
}

fn names<'a>(side: &str, entries: impl Iterator<Item = &'a Entry>, faults: &mut Vec<String>) {
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for entry in entries {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        if entry.name.is_empty() || !entry.name.chars().all(plain) {
            faults.push(format!("{}: a name has lower-case letters, digits, - and _ only", entry.title()));
        }
        for alias in entry.aliases.iter().filter(|alias| !alias.ends_with(side)) {
            faults.push(format!("{}: its alias `{alias}` does not end in `{side}`", entry.title()));
        }
        if entry.summary.is_empty() {
            faults.push(format!("{}: no summary", entry.title()));
        }
        for name in [entry.name].iter().chain(entry.aliases) {
            if let Some(owner) = owners.insert(name, entry.name) {
                faults.push(format!("{}: `{name}` is a name of {side} {owner} already", entry.title()));
            }
        }
    }
}

fn schema(entry: &Entry, faults: &mut Vec<String>) {
    let title = entry.title();
    let schema = (entry.schema)().to_value();
    if schema.get("type") != Some(&json!("object")) {
        faults.push(format!("{title}: its schema is not that of an object"));
    }
    let empty = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    if properties.is_empty() {
        faults.push(format!("{title}: its schema has no properties"));
    }
    objects(&schema, "", &mut |pointer, properties| {
        for (name, property) in properties {
            let described = property.get("description").and_then(Value::as_str).is_some_and(|text| !text.is_empty());
            if !described {
                faults.push(format!("{title}: {pointer}/{name} has no description"));
            }
            if is_secret(name) && !mentions_write_only(property) {
                faults.push(format!("{title}: {pointer}/{name} is a secret, but not `weir_core::Secret` (writeOnly)"));
            }
        }
    });
    let known: BTreeSet<_> = properties.keys().map(String::as_str).collect();
    for (what, listed) in [("ignored", entry.ignored), ("refused", entry.refused)] {
        for (key, reason) in listed {
            if known.contains(key) {
                faults.push(format!("{title}: `{key}` is {what} and a parameter"));
            }
            if reason.is_empty() {
                faults.push(format!("{title}: `{key}` is {what} without a reason"));
            }
        }
    }
    for (key, _) in entry.ignored.iter().filter(|(key, _)| entry.refused.iter().any(|(other, _)| other == key)) {
        faults.push(format!("{title}: `{key}` is both ignored and refused"));
    }
}

/// Visits the properties of every object in a schema, wherever it stands.
fn objects(schema: &Value, pointer: &str, visit: &mut dyn FnMut(&str, &Map<String, Value>)) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Object(properties)) = object.get("properties") {
                visit(pointer, properties);
            }
            for (key, value) in object {
                // A default or an example looks like anything.
                if !matches!(key.as_str(), "default" | "examples" | "const" | "enum") {
                    objects(value, &format!("{pointer}/{key}"), visit);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| objects(item, pointer, visit)),
        _ => {}
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase().replace(['_', '-'], "");
    ["password", "passwd", "secret", "token", "privatekey", "passphrase", "accesskey"].iter().any(|s| name.ends_with(s))
        || name.ends_with("secretaccesskey")
}

/// `writeOnly` itself, or inside the `anyOf` of an optional secret.
fn mentions_write_only(property: &Value) -> bool {
    match property {
        Value::Object(object) => {
            object.get("writeOnly") == Some(&Value::Bool(true)) || object.values().any(mentions_write_only)
        }
        Value::Array(items) => items.iter().any(mentions_write_only),
        _ => false,
    }
}

fn opening(entry: &Entry, faults: &mut Vec<String>) {
    let title = entry.title();
    for open in &entry.opens {
        if let Some(fault) = opens_quietly(open, &json!({})) {
            faults.push(format!("{title}: opened with {{}}, {fault}"));
        }
        // Nobody validates here: nonsense must come back as a fault too.
        for nonsense in [json!(null), json!([]), json!("text")] {
            match catch_unwind(AssertUnwindSafe(|| open(&nonsense, &context()))) {
                Ok(Ok(())) => faults.push(format!("{title}: it opens with {nonsense}")),
                Ok(Err(_)) => {}
                Err(_) => faults.push(format!("{title}: it panics when opened with {nonsense}")),
            }
        }
    }
}

/// What is wrong with an opening that may succeed or give faults.
fn opens_quietly(open: &Open, parameters: &Value) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(|| open(parameters, &context()))) {
        Ok(Ok(())) => None,
        Ok(Err(Faults(list))) if list.is_empty() => Some("it fails without a fault".into()),
        Ok(Err(Faults(list))) => list
            .iter()
            .find(|f| f.message.is_empty() || !(f.pointer.is_empty() || f.pointer.starts_with('/')))
            .map(|f| format!("it gives a fault without a place or a message: {f:?}")),
        Err(_) => Some("it panics".into()),
    }
}

fn recognition<'a>(location: &str, side: &str, entries: impl Iterator<Item = &'a Entry>, faults: &mut Vec<String>) {
    let mut owner: Option<&str> = None;
    for entry in entries {
        let title = entry.title();
        let claim = |table| catch_unwind(AssertUnwindSafe(|| (entry.recognise)(location, table)));
        let (Ok(bare), Ok(with_table)) = (claim(None), claim(Some("orders"))) else {
            faults.push(format!("{title}: it panics at the location `{location}`"));
            continue;
        };
        let claims: Vec<_> = bare.into_iter().chain(with_table).collect();
        if claims.is_empty() {
            continue;
        }
        if let Some(owner) = owner.replace(entry.name) {
            faults.push(format!("{title}: `{location}` is claimed by {side} {owner} already"));
        }
        let schema = (entry.schema)().to_value();
        let known = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        for parameters in claims {
            let Some(object) = parameters.as_object() else {
                faults.push(format!("{title}: for `{location}` it gives no object: {parameters}"));
                continue;
            };
            for key in object.keys().filter(|key| !known.contains_key(*key)) {
                faults.push(format!("{title}: for `{location}` it gives `{key}`, which is no parameter"));
            }
            if let Some(fault) = opens_quietly(&entry.opens[0], &parameters) {
                faults.push(format!("{title}: opened with its own parameters for `{location}`, {fault}"));
            }
        }
    }
}
