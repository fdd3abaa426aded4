//! The keys of a writer that are the runtime's own: `mapping`, `onTypeLoss`, `emptyAsNull`, `timeZone`; the last one is a
//! reader's too.

use serde_json::Value;
use weir_core::OnTypeLoss;

use super::loader::RawEnd;
use super::notes::Notes;
use super::text::child;
use super::validate::{is_empty, show};
use crate::mapping::MappingPair;

/// The keys of a writer that the runtime itself reads.
#[derive(Default)]
pub(crate) struct WriterKeys {
    /// Explicit pairs of columns.
    pub mapping: Vec<MappingPair>,
    /// What to do with conversions that alter every value.
    pub on_type_loss: OnTypeLoss,
    /// Whether an empty text is NULL where anything but text is wanted.
    pub empty_as_null: Option<bool>,
    /// Whose clocks zone-less times show.
    pub time_zone: Option<String>,
}

/// Takes an end's `timeZone`.
pub(crate) fn take_zone(end: &mut RawEnd, notes: &mut Notes) -> Option<String> {
    let value = end.parameter.as_object_mut()?.shift_remove("timeZone").unwrap_or_default();
    let at = child(&end.pointer, "timeZone");
    let name = notes.text(&value, &at)?;
    match super::zone::parse(name) {
        Ok(tz) => Some(tz.name().to_owned()),
        Err(fault) => {
            notes.faults.add(&at, fault);
            None
        }
    }
}

/// Takes the keys of a writer that the runtime itself reads.
pub(crate) fn take(end: &mut RawEnd, notes: &mut Notes) -> WriterKeys {
    let time_zone = take_zone(end, notes);
    let Some(map) = end.parameter.as_object_mut() else { return Default::default() };
    let mapping = map.shift_remove("mapping").unwrap_or_default();
    let loss = map.shift_remove("onTypeLoss").unwrap_or_default();
    let empty = map.shift_remove("emptyAsNull").unwrap_or_default();
    let at = child(&end.pointer, "onTypeLoss");
    let loss = match notes.text(&loss, &at) {
        None => OnTypeLoss::default(),
        Some(text) if text.eq_ignore_ascii_case("error") => OnTypeLoss::Error,
        Some(text) if text.eq_ignore_ascii_case("cast") => OnTypeLoss::Cast,
        Some(text) => {
            notes.faults.add(&at, format!("expected `error` or `cast`, found `{text}`"));
            OnTypeLoss::default()
        }
    };
    WriterKeys {
        mapping: mapping_pairs(&mapping, &child(&end.pointer, "mapping"), notes),
        on_type_loss: loss,
        empty_as_null: notes.boolean(&empty, &child(&end.pointer, "emptyAsNull")),
        time_zone,
    }
}

fn mapping_pairs(value: &Value, pointer: &str, notes: &mut Notes) -> Vec<MappingPair> {
    let list = match value {
        empty if is_empty(empty) => return Vec::new(),
        Value::Array(list) => list.as_slice(),
        Value::Object(_) => std::slice::from_ref(value),
        other => {
            let expected = "a list of pairs such as {\"from\": \"a\", \"to\": \"b\"}";
            notes.faults.add(pointer, format!("expected {expected}, found {}", show(other)));
            return Vec::new();
        }
    };
    let mut pairs = Vec::new();
    for (i, pair) in list.iter().enumerate() {
        let at = format!("{pointer}/{i}");
        if !notes.object(pair, &at) {
            if pair.is_null() {
                notes.faults.add(&at, "expected a pair, found nothing");
            }
            continue;
        }
        let before = notes.faults.0.len();
        notes.unknown_keys(pair, &at, "mapping", &["from", "value", "to"], &[]);
        for key in ["from", "to"] {
            notes.text(&pair[key], &child(&at, key));
        }
        if is_empty(&pair["to"]) {
            notes.faults.add(&at, "`to` is missing: which column of the target is it?");
        }
        match (is_empty(&pair["from"]), pair.get("value").is_none()) {
            (true, true) => notes.faults.add(&at, "either `from` (a source column) or `value` is missing"),
            (false, false) => notes.faults.add(&at, "`from` and `value` exclude each other: remove one"),
            _ => {}
        }
        if notes.faults.0.len() > before {
            continue;
        }
        let mut pair = pair.clone();
        if let Some(map) = pair.as_object_mut() {
            map.retain(|key, _| matches!(key.as_str(), "from" | "value" | "to"));
            if is_empty(&map.get("from").cloned().unwrap_or_default()) {
                map.shift_remove("from");
            }
        }
        match serde_json::from_value(pair) {
            Ok(pair) => pairs.push(pair),
            Err(error) => notes.faults.add(&at, error.to_string()),
        }
    }
    pairs
}
