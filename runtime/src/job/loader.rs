//! From a job file taken apart to the entries of a [`Job`](super::Job): every name looked up, every parameter checked.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::datatypes::{DataType, Field};
use serde_json::{Map, Value};
use weir_core::Form;
use weir_core::convert::ConvertOptions;

use super::datasources::DataSources;
use super::load::LoadOptions;
use super::model::{Endpoint, Entry};
use super::notes::Notes;
use super::plugins::{Side, find_plugin};
use super::text::{Document, child};
use super::validate::{self, Rules, show};
use crate::database::DatabaseJob;

use super::{datax, script, secrets, setting, tables, writer_keys};
use crate::transform::{TransformerSpec, Transformers};

/// More columns than any source has.
const MAX_COLUMNS: usize = 4096;

/// A job file taken apart, before anything in it is looked up.
#[derive(Debug, Default)]
pub(crate) struct RawJob {
    pub name: Option<String>,
    pub entries: Vec<RawEntry>,
    pub setting: Value,
    pub setting_pointer: String,
    pub core: Value,
    pub column_formats: Value,
}

#[derive(Debug)]
pub(crate) struct RawEntry {
    // An end that is missing was told of; the other is looked at all the same.
    pub reader: Option<RawEnd>,
    pub writer: Option<RawEnd>,
    pub transformers: Vec<TransformerSpec>,
}

#[derive(Debug)]
pub(crate) struct RawEnd {
    pub name: String,
    pub name_pointer: String,
    pub parameter: Value,
    pub pointer: String,
    /// A step of a script: DataX's defaults, whatever it is called.
    pub script: bool,
}

/// Turns raw entries into entries, and notes whatever is wrong.
pub(crate) struct Loader<'a> {
    pub sources: DataSources,
    pub notes: &'a mut Notes,
    folder: &'a Path,
    strict: bool,
    /// Whether every connector so far was named plainly; `None` before the first.
    native: Option<bool>,
    /// The whole-database job, if the file is one.
    pub database: Option<DatabaseJob>,
}

impl<'a> Loader<'a> {
    /// For a job whose relative paths begin at `folder`.
    pub fn new(options: &LoadOptions, folder: &'a Path, notes: &'a mut Notes) -> Self {
        let (file, job, environment) = (&options.datasources, &options.path, &options.environment);
        Self {
            sources: DataSources::new(file.as_deref(), job.as_deref(), environment.as_deref()),
            notes,
            folder,
            strict: options.strict,
            native: None,
            database: None,
        }
    }

    /// Whether all connectors are named plainly, so that the file is in our own form.
    pub fn is_native(&self) -> bool {
        self.native == Some(true)
    }

    /// The setting, the entries and the name of a whole file.
    pub fn job(&mut self, document: &Document) -> (super::Setting, Vec<Entry>, Option<String>) {
        let root = &document.value;
        if root["type"] == "database" {
            return self.whole_database(root);
        }
        let raw = match (root.get("job"), root.get("steps")) {
            (None, None) if root.get("configuration").is_some() => script::read_configuration(root, self.notes),
            (Some(_), Some(_)) => {
                self.notes.faults.add("/steps", "a file has either `job` (DataX) or `steps` (script mode): remove one");
                return Default::default();
            }
            (Some(_), None) => datax::read(root, self.notes),
            (None, Some(_)) => script::read(root, self.notes),
            (None, None) => {
                self.neither(root);
                return Default::default();
            }
        };
        let parts = setting::Parts {
            setting: &raw.setting,
            pointer: &raw.setting_pointer,
            core: &raw.core,
            column_formats: &raw.column_formats,
            script: root.get("job").is_none(),
        };
        let setting = setting::read(&parts, self.notes);
        let entries = raw.entries.into_iter().flat_map(|entry| self.entries(entry)).collect();
        (setting, entries, raw.name)
    }

    fn whole_database(&mut self, root: &Value) -> (super::Setting, Vec<Entry>, Option<String>) {
        self.native = Some(true);
        let null = Value::Null;
        let (setting, core, column_formats) = (&root["setting"], &null, &null);
        let parts = setting::Parts { setting, pointer: "/setting", core, column_formats, script: false };
        let setting = setting::read(&parts, self.notes);
        self.database = crate::database::read(root, self);
        let name = self.database.as_ref().and_then(|database| database.config.name.clone());
        (setting, Vec::new(), name)
    }

    fn neither(&mut self, root: &Value) {
        let expected = "a job is `{\"job\": {\"content\": [{\"reader\": …, \"writer\": …}]}}`, or DataWorks' `{\"type\": \
                        \"job\", \"steps\": […]}`, or for whole databases `{\"type\": \"database\", …}`";
        let message = match root.as_object() {
            Some(map) if map.contains_key("content") => format!("`content` belongs inside `job`: {expected}"),
            Some(map) => match map
                .keys()
                .find_map(|key| weir_core::config::nearest(key, ["job", "steps"]).map(|near| (key, near)))
            {
                Some((key, near)) => {
                    self.notes.faults.add(child("", key), format!("unknown key `{key}`: did you mean `{near}`?"));
                    return;
                }
                None => format!("neither `job` nor `steps` is here: {expected}"),
            },
            None => format!("expected an object, found {}: {expected}", show(root)),
        };
        self.notes.faults.add("", message);
    }

    /// What an entry of the file stands for: one, or one for each table of its writer.
    fn entries(&mut self, raw: RawEntry) -> Vec<Entry> {
        let Some(entry) = self.entry(raw) else { return Vec::new() };
        tables::pair(entry, self.notes)
    }

    fn entry(&mut self, mut raw: RawEntry) -> Option<Entry> {
        self.transformers(&raw.transformers);
        let keys = raw.writer.as_mut().map(|end| writer_keys::take(end, self.notes)).unwrap_or_default();
        let source_zone = raw.reader.as_mut().and_then(|end| writer_keys::take_zone(end, self.notes));
        let reader = raw.reader.and_then(|end| self.endpoint(end, Side::Reader));
        let writer = raw.writer.and_then(|end| self.endpoint(end, Side::Writer));
        let (reader, writer) = (reader?, writer?);
        Some(Entry {
            transformers: raw.transformers,
            mapping: keys.mapping,
            on_type_loss: keys.on_type_loss,
            empty_as_null: keys.empty_as_null.unwrap_or(writer.form == Form::DataX),
            source_zone,
            target_zone: keys.time_zone,
            table: None,
            reader,
            writer,
        })
    }

    /// What is wrong with transformers whatever the columns are: these stand in for them, and take any value.
    fn transformers(&mut self, specs: &[TransformerSpec]) {
        if specs.is_empty() {
            return;
        }
        let columns: Vec<Field> = (0..MAX_COLUMNS).map(|i| Field::new(i.to_string(), DataType::Utf8, true)).collect();
        if let Err(faults) = Transformers::plan(specs, &columns, &ConvertOptions::default()) {
            self.notes.faults.0.extend(faults.0);
        }
    }

    /// One end; `None` when it cannot be known what it is.
    pub fn endpoint(&mut self, raw: RawEnd, side: Side) -> Option<Endpoint> {
        let (plugin, form) = match find_plugin(&raw.name, side) {
            Ok(found) => found,
            Err(message) => {
                self.notes.faults.add(&raw.name_pointer, message);
                return None;
            }
        };
        let form = if raw.script { Form::DataX } else { form };
        self.native = Some(self.native.unwrap_or(true) && form == Form::Native);
        let mut parameter = match raw.parameter {
            Value::Null => Value::Object(Map::new()),
            object @ Value::Object(_) => object,
            other => {
                self.notes.faults.add(&raw.pointer, format!("expected an object, found {}", show(&other)));
                return None;
            }
        };
        secrets::anchor(&mut parameter, self.folder);
        let schema = plugin.schema();
        let borrowed = match parameter.as_object_mut() {
            Some(map) => self.merge(map, &plugin, side, &schema, &raw.pointer),
            None => BTreeMap::new(),
        };
        let who = format!("{} {}", plugin.name, side.name());
        let framework: &[&str] = if side == Side::Writer {
            &["datasource", "mapping", "onTypeLoss", "emptyAsNull", "timeZone"]
        } else {
            &["datasource", "timeZone"]
        };
        let rules =
            Rules { who: &who, ignored: plugin.ignored, refused: plugin.refused, framework, form, strict: self.strict };
        let findings = validate::validate(&mut parameter, &schema, &rules);
        for fault in findings.faults.0 {
            let key = fault.pointer.split('/').nth(1).unwrap_or_default();
            let from = borrowed.get(key).map(|name| format!(" (from data source `{name}`)")).unwrap_or_default();
            self.notes.faults.add(format!("{}{}", raw.pointer, fault.pointer), format!("{}{from}", fault.message));
        }
        for (pointer, message) in findings.warnings {
            self.notes.warn(&format!("{}{pointer}", raw.pointer), &message);
        }
        Some(Endpoint { plugin: plugin.name.to_owned(), form, parameter, pointer: raw.pointer })
    }
}
