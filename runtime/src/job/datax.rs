//! The DataX form: `{"job": {"content": [{"reader": …, "writer": …, "transformer": […]}], "setting": …}, "core": …}`.

use serde_json::Value;

use super::loader::{RawEnd, RawEntry, RawJob};
use super::notes::Notes;
use super::text::child;
use super::validate::is_empty;
use crate::transform::TransformerSpec;

/// Takes the file apart; says everything that is missing.
pub(crate) fn read(root: &Value, notes: &mut Notes) -> RawJob {
    notes.unknown_keys(
        root,
        "",
        "job file",
        &["job", "core", "common", "name"],
        &[("entry", "there is no Java machine"), ("plugin", "connectors are linked into the program")],
    );
    let job = &root["job"];
    let mut raw = RawJob {
        name: notes.text(&job["name"], "/job/name").or_else(|| notes.text(&root["name"], "/name")).map(str::to_owned),
        setting: job["setting"].clone(),
        setting_pointer: "/job/setting".into(),
        core: root["core"].clone(),
        column_formats: [
            root.pointer("/common/column"),
            root.pointer("/core/common/column"),
            root.pointer("/job/common/column"),
        ]
        .into_iter()
        .flatten()
        .next()
        .cloned()
        .unwrap_or_default(),
        ..RawJob::default()
    };
    if !job.is_object() {
        if !notes.object(job, "/job") && job.is_null() {
            notes.faults.add("/job", "`content` is missing: a list of entries with `reader` and `writer`");
        }
        return raw;
    }
    notes.unknown_keys(job, "/job", "job", &["setting", "content", "name", "common"], &[]);
    for hook in ["preHandler", "postHandler"] {
        if !is_empty(&job[hook]) {
            notes
                .faults
                .add(format!("/job/{hook}"), format!("`{hook}` is not supported: use the writer's preSql or postSql"));
        }
    }
    core(&raw.core, notes);
    let content = &job["content"];
    let entries: Vec<(String, &Value)> = match content {
        empty if is_empty(empty) => {
            notes.faults.add("/job", "`content` is missing: a list of entries with `reader` and `writer`");
            Vec::new()
        }
        Value::Array(entries) => {
            entries.iter().enumerate().map(|(i, entry)| (format!("/job/content/{i}"), entry)).collect()
        }
        entry => vec![("/job/content".into(), entry)],
    };
    for (pointer, entry) in entries {
        if entry.is_null() || !notes.object(entry, &pointer) {
            if entry.is_null() {
                notes.faults.add(&pointer, "expected an entry with `reader` and `writer`, found nothing");
            }
            continue;
        }
        notes.unknown_keys(entry, &pointer, "content", &["reader", "writer", "transformer"], &[]);
        let reader = end(entry, &pointer, "reader", notes);
        let writer = end(entry, &pointer, "writer", notes);
        let transformers = transformers(&entry["transformer"], &child(&pointer, "transformer"), notes);
        raw.entries.push(RawEntry { reader, writer, transformers });
    }
    raw
}

/// Tuning of the other engine's threads: read and left aside.
fn core(core: &Value, notes: &mut Notes) {
    if core.is_null() || !notes.object(core, "/core") {
        return;
    }
    notes.unknown_keys(
        core,
        "/core",
        "core",
        &["transport", "common"],
        &[
            ("container", "the engine has no containers"),
            ("dataXServer", "there is no server"),
            ("statistics", "the report has them"),
        ],
    );
    let channel = &core["transport"]["channel"];
    notes.unknown_keys(
        channel,
        "/core/transport/channel",
        "core.transport.channel",
        &["speed", "class"],
        &[
            ("capacity", "channels size themselves"),
            ("byteCapacity", "channels size themselves"),
            ("flowControlInterval", "limits are exact"),
        ],
    );
}

fn end(entry: &Value, pointer: &str, side: &str, notes: &mut Notes) -> Option<RawEnd> {
    let end = &entry[side];
    let at = child(pointer, side);
    if end.is_null() {
        notes.faults.add(pointer, format!("`{side}` is missing"));
        return None;
    }
    if !notes.object(end, &at) {
        return None;
    }
    notes.unknown_keys(end, &at, side, &["name", "parameter"], &[]);
    let name_pointer = child(&at, "name");
    let faults = notes.faults.0.len();
    let name = notes.text(&end["name"], &name_pointer);
    if name.is_none() && notes.faults.0.len() == faults {
        notes.faults.add(&at, format!("`name` is missing: which {side} is it?"));
    }
    Some(RawEnd {
        name: name?.to_owned(),
        name_pointer,
        parameter: end["parameter"].clone(),
        pointer: child(&at, "parameter"),
        script: false,
    })
}

/// The list of transformers; their parameters are checked where they are understood.
pub(crate) fn transformers(value: &Value, pointer: &str, notes: &mut Notes) -> Vec<TransformerSpec> {
    let list = match value {
        empty if is_empty(empty) => return Vec::new(),
        Value::Array(list) => list.as_slice(),
        Value::Object(_) => std::slice::from_ref(value),
        _ => {
            notes.faults.add(pointer, "expected a list of transformers with `name` and `parameter`");
            return Vec::new();
        }
    };
    let mut specs = Vec::new();
    for (i, one) in list.iter().enumerate() {
        let at = if value.is_array() { format!("{pointer}/{i}") } else { pointer.to_owned() };
        let faults = notes.faults.0.len();
        let name = if one.is_object() { notes.text(&one["name"], &child(&at, "name")) } else { None };
        match name {
            Some(name) => {
                notes.unknown_keys(one, &at, "transformer", &["name", "parameter"], &[]);
                specs.push(TransformerSpec { name: name.to_owned(), parameter: one["parameter"].clone(), pointer: at });
            }
            None if notes.faults.0.len() == faults => {
                notes.faults.add(&at, "`name` is missing: expected a transformer with `name` and `parameter`");
            }
            None => {}
        }
    }
    specs
}
