//! DataWorks' script mode: `{"type": "job", "version": "2.0", "steps": […], "order": {"hops": […]}, "setting": …}`, and its
//! older version `1.0`: `{"type": "job", "version": "1.0", "configuration": {"reader": {"plugin": …}, "writer": …,
//! "setting": …}}`.

use serde_json::Value;

use super::datax::transformers;
use super::loader::{RawEnd, RawEntry, RawJob};
use super::notes::Notes;
use super::text::child;
use super::validate::{is_empty, show};

struct Step<'a> {
    name: &'a str,
    category: &'a str,
    pointer: String,
    value: &'a Value,
}

/// Takes the file apart; says everything that is missing.
pub(crate) fn read(root: &Value, notes: &mut Notes) -> RawJob {
    notes.unknown_keys(
        root,
        "",
        "job file",
        &["type", "version", "steps", "order", "setting", "name", "transformer"],
        &[("extend", "it belongs to another editor"), ("configuration", "it belongs to another editor")],
    );
    version(root, notes);
    let mut raw = RawJob {
        name: notes.text(&root["name"], "/name").map(str::to_owned),
        setting: root["setting"].clone(),
        setting_pointer: "/setting".into(),
        ..RawJob::default()
    };
    let Some(list) = root["steps"].as_array().filter(|list| !list.is_empty()) else {
        notes.faults.add("/steps", "expected a list of steps: a reader and a writer");
        return raw;
    };
    let steps: Vec<Step<'_>> = list.iter().enumerate().filter_map(|(i, value)| step(value, i, notes)).collect();
    let pairs = pairs(&root["order"], &steps, notes);
    let transformers = transformers(&root["transformer"], "/transformer", notes);
    for (from, to) in &pairs {
        let (reader, writer) = (end(from, notes), end(to, notes));
        raw.entries.push(RawEntry { reader, writer, transformers: transformers.clone() });
    }
    for step in &steps {
        let used = pairs.iter().any(|(a, b)| a.pointer == step.pointer || b.pointer == step.pointer);
        if !used && !pairs.is_empty() {
            notes.warn(&step.pointer, &format!("no hop leads through step `{}`: it does nothing", step.name));
        }
    }
    raw
}

/// Takes a file of version 1.0 apart: one reader, one writer, no steps.
pub(crate) fn read_configuration(root: &Value, notes: &mut Notes) -> RawJob {
    let ignored = [("extend", "it belongs to another editor"), ("traceId", "runs have names of their own")];
    notes.unknown_keys(root, "", "job file", &["type", "version", "configuration", "name"], &ignored);
    version(root, notes);
    let (at, configuration) = ("/configuration", &root["configuration"]);
    let mut raw = RawJob {
        name: notes.text(&root["name"], "/name").map(str::to_owned),
        setting: configuration["setting"].clone(),
        setting_pointer: child(at, "setting"),
        ..RawJob::default()
    };
    if !notes.object(configuration, at) {
        if configuration.is_null() {
            notes.faults.add(at, "expected `reader`, `writer` and `setting`, found nothing");
        }
        return raw;
    }
    notes.unknown_keys(configuration, at, "configuration", &["reader", "writer", "setting", "transformer"], &[]);
    let mut of = |side: &str| {
        let (pointer, value) = (child(at, side), &configuration[side]);
        if value.is_null() {
            notes.faults.add(at, format!("`{side}` is missing"));
        }
        if value.is_null() || !notes.object(value, &pointer) {
            return None;
        }
        notes.unknown_keys(value, &pointer, side, &["plugin", "parameter", "name"], &[]);
        named(value, "plugin", &pointer, notes)
    };
    let (reader, writer) = (of("reader"), of("writer"));
    let transformers = transformers(&configuration["transformer"], &child(at, "transformer"), notes);
    raw.entries.push(RawEntry { reader, writer, transformers });
    raw
}

fn version(root: &Value, notes: &mut Notes) {
    let version = &root["version"];
    let known = is_empty(version)
        || version.as_f64().is_some_and(|number| [1.0, 2.0].contains(&number))
        || version.as_str().is_some_and(|text| ["1", "1.0", "2", "2.0"].contains(&text.trim()));
    if !known {
        let message = format!("scripts of version {} are not known: 1.0 and 2.0 are", show(version));
        notes.faults.add("/version", message);
    }
}

fn step<'a>(value: &'a Value, index: usize, notes: &mut Notes) -> Option<Step<'a>> {
    let pointer = format!("/steps/{index}");
    if value.is_null() || !notes.object(value, &pointer) {
        if value.is_null() {
            notes.faults.add(&pointer, "expected a step, found nothing");
        }
        return None;
    }
    if value["category"] == "processor" {
        // The editor adds an empty one to every file.
        if !is_empty(&value["parameter"]["nodes"]) {
            notes.faults.add(&pointer, "processors are not supported: use `transformer`, or expressions as columns");
        }
        return None;
    }
    let known = ["stepType", "parameter", "name", "category"];
    notes.unknown_keys(
        value,
        &pointer,
        "step",
        &known,
        &[
            ("copies", "`concurrent` says how many channels there are"),
            ("gui", "it belongs to another editor"),
            ("distribute", "splits are dealt out as channels come free"),
            ("displayName", "it belongs to another editor"),
            ("description", "it is for people"),
        ],
    );
    let category = notes.text(&value["category"], &child(&pointer, "category")).unwrap_or_default();
    if !matches!(category, "reader" | "writer") {
        let found = if category.is_empty() { "nothing".into() } else { format!("`{category}`") };
        notes.faults.add(child(&pointer, "category"), format!("expected `reader` or `writer`, found {found}"));
        return None;
    }
    let name = notes.text(&value["name"], &child(&pointer, "name")).unwrap_or_default();
    Some(Step { name, category, pointer, value })
}

/// Reader and writer of each hop.
fn pairs<'s, 'a>(order: &Value, steps: &'s [Step<'a>], notes: &mut Notes) -> Vec<(&'s Step<'a>, &'s Step<'a>)> {
    let hops = &order["hops"];
    let of = |category: &str| steps.iter().filter(|s| s.category == category).collect::<Vec<_>>();
    let (readers, writers) = (of("reader"), of("writer"));
    for (list, what) in [(&readers, "reader"), (&writers, "writer")] {
        if list.is_empty() && notes.faults.0.is_empty() {
            notes.faults.add("/steps", format!("no step has the category `{what}`"));
        }
    }
    if is_empty(hops) {
        return match (readers.as_slice(), writers.as_slice()) {
            ([reader], [writer]) => vec![(*reader, *writer)],
            ([], _) | (_, []) => Vec::new(),
            _ => {
                notes
                    .faults
                    .add("/order/hops", "there are several steps: `hops` must say which reader leads to which writer");
                Vec::new()
            }
        };
    }
    let list = match hops {
        Value::Array(list) => list.as_slice(),
        _ => std::slice::from_ref(hops),
    };
    let mut pairs = Vec::new();
    for (i, hop) in list.iter().enumerate() {
        let pointer = if hops.is_array() { format!("/order/hops/{i}") } else { "/order/hops".into() };
        let mut side = |key: &str, category: &str, all: &[&'s Step<'a>]| {
            let name = hop[key].as_str().unwrap_or_default();
            let named: Vec<_> = all.iter().filter(|step| step.name == name).copied().collect();
            match (named.as_slice(), all) {
                ([step], _) => Some(*step),
                // A file with one pair often names its steps in one place only.
                ([], [only]) if list.len() == 1 && (only.name.is_empty() || name.is_empty()) => Some(*only),
                ([], _) => {
                    let names = all.iter().map(|s| format!("`{}`", s.name)).collect::<Vec<_>>().join(", ");
                    notes
                        .faults
                        .add(child(&pointer, key), format!("no {category} is named `{name}`; there are {names}"));
                    None
                }
                _ => {
                    notes.faults.add(child(&pointer, key), format!("several steps are named `{name}`"));
                    None
                }
            }
        };
        let (from, to) = (side("from", "reader", &readers), side("to", "writer", &writers));
        pairs.extend(from.zip(to));
    }
    pairs
}

fn end(step: &Step<'_>, notes: &mut Notes) -> Option<RawEnd> {
    named(step.value, "stepType", &step.pointer, notes)
}

/// The end whose connector stands under `key`.
fn named(value: &Value, key: &str, pointer: &str, notes: &mut Notes) -> Option<RawEnd> {
    let name_pointer = child(pointer, key);
    let faults = notes.faults.0.len();
    let name = notes.text(&value[key], &name_pointer);
    if name.is_none() && notes.faults.0.len() == faults {
        notes.faults.add(pointer, format!("`{key}` is missing: which system is it?"));
    }
    Some(RawEnd {
        name: name?.to_owned(),
        name_pointer,
        parameter: value["parameter"].clone(),
        pointer: child(pointer, "parameter"),
        script: true,
    })
}
