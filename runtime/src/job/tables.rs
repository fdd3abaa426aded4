//! Several tables of one writer, as DataX has them: each is filled from the source in the same place of the reader's list.
//!
//! A writer of ours has one table, so such an entry becomes one entry for each of them. It is found by the keys that
//! DataX gives every relational connector (`table`, `querySql`, `connection`), whatever the connectors are.

use serde_json::{Value, json};
use weir_core::{Faults, Form, tables};

use super::model::{Endpoint, Entry};
use super::notes::Notes;

/// A table or statement of an end, and where it stands.
struct Place {
    /// Which of `connection`, where there is that list.
    connection: Option<usize>,
    key: &'static str,
    name: String,
}

/// The entry, or one for each table of its writer.
pub(crate) fn pair(entry: Entry, notes: &mut Notes) -> Vec<Entry> {
    // A list that is wrong in itself is told of by the connector that reads it.
    let Ok(targets) = places(&entry.writer) else { return vec![entry] };
    if targets.len() < 2 {
        return vec![entry];
    }
    let Ok(sources) = places(&entry.reader) else { return vec![entry] };
    if sources.len() != targets.len() {
        let key = if targets[0].connection.is_some() { "connection" } else { "table" };
        let read = match sources.len() {
            0 => "the reader has no list of tables".into(),
            1 => "1 to read".into(),
            n => format!("{n} to read"),
        };
        let message = format!(
            "{} tables to write and {read}: they are paired in their order, so give as many on both sides; or write all \
             into one table",
            targets.len()
        );
        notes.faults.add(format!("{}/{key}", entry.writer.pointer), message);
        return Vec::new();
    }
    let pairs = sources.iter().zip(&targets);
    pairs
        .map(|(from, to)| Entry { reader: only(&entry.reader, from), writer: only(&entry.writer, to), ..entry.clone() })
        .collect()
}

/// All tables and statements, in the order in which connectors take them.
fn places(endpoint: &Endpoint) -> Result<Vec<Place>, Faults> {
    let whole = &endpoint.parameter;
    let connections: Vec<(Option<usize>, &Value)> = match whole.get("connection") {
        None => vec![(None, whole)],
        Some(Value::Array(list)) => list.iter().enumerate().map(|(i, one)| (Some(i), one)).collect(),
        Some(one) => vec![(Some(0), one)],
    };
    let mut all = Vec::new();
    for (connection, own) in connections {
        let says = |value: &Value| value.get("table").is_some() || value.get("querySql").is_some();
        // What stands beside `connection` holds for those that name nothing themselves.
        let named = if says(own) { own } else { whole };
        let statements = texts(&named["querySql"]);
        // Beside statements DataX ignores tables, and our own form calls them a fault, which the connector finds.
        let tables = match (statements.is_empty(), endpoint.form) {
            (false, Form::DataX) => Vec::new(),
            _ => tables::expand(&texts(&named["table"]), "")?,
        };
        let of = |key, names: Vec<String>| names.into_iter().map(move |name| Place { connection, key, name });
        all.extend(of("table", tables).chain(of("querySql", statements)));
    }
    Ok(all)
}

fn texts(value: &Value) -> Vec<String> {
    let list = match value {
        Value::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    list.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

/// The same end with one table or statement.
fn only(endpoint: &Endpoint, place: &Place) -> Endpoint {
    let mut endpoint = endpoint.clone();
    let Some(whole) = endpoint.parameter.as_object_mut() else { return endpoint };
    for key in ["table", "querySql"] {
        whole.shift_remove(key);
    }
    let connection = whole.get("connection").map(|all| match (all, place.connection) {
        (Value::Array(list), Some(index)) => list.get(index).cloned().unwrap_or_default(),
        (one, _) => one.clone(),
    });
    match connection {
        None => {
            whole.insert(place.key.into(), json!([place.name]));
        }
        Some(mut own) => {
            if let Some(own) = own.as_object_mut() {
                for key in ["table", "querySql"] {
                    own.shift_remove(key);
                }
                own.insert(place.key.into(), json!([place.name]));
            }
            whole.insert("connection".into(), json!([own]));
        }
    }
    endpoint
}
