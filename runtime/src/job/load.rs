//! From the text of a job file to a [`Job`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow::datatypes::{DataType, Field};
use chrono::{DateTime, Timelike, Utc};
use serde_json::{Map, Value};
use weir_core::convert::ConvertOptions;
use weir_core::{Error, Faults, Form, OnTypeLoss};

use super::datasources::DataSources;
use super::model::{Endpoint, Entry, Job};
use super::notes::Notes;
use super::plugins::{Plugin, Side, find_plugin};
use super::schema::Node;
use super::text::{self, Document, child};
use super::validate::{self, Rules, is_empty, rename_aliases, show};
use super::{datax, parameters, script, secrets, setting, zone};
use crate::mapping::MappingPair;
use crate::transform::{TransformerSpec, Transformers};

/// More columns than any source has.
const MAX_COLUMNS: usize = 4096;

/// What surrounds a job file.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// The file the text came from: names the job, and anchors relative paths of secrets.
    pub path: Option<PathBuf>,
    /// Parameters (`-p`); of one name the last counts.
    pub parameters: Vec<(String, String)>,
    /// The scheduled time (`--at`); now by default.
    pub at: Option<String>,
    /// The data sources file; by default `weir.datasources.json` beside the job, else in the user's config folder.
    pub datasources: Option<PathBuf>,
    /// The environment that chooses among the configurations of a data source (`--env`, `WEIR_ENV`).
    pub environment: Option<String>,
    /// The time zone where the job names none (`WEIR_TZ`); the machine's by default.
    pub time_zone: Option<String>,
    /// Whether unknown keys are faults in DataX's forms too.
    pub strict: bool,
    /// Stands in for the clock where `at` is missing.
    pub now: Option<DateTime<Utc>>,
}

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

/// Reads a job file.
///
/// # Errors
/// [`Config`](weir_core::ErrorKind::Config): the file cannot be read, or everything that is wrong in it.
pub fn load_file(path: &Path, options: &LoadOptions) -> weir_core::Result<Job> {
    let text = std::fs::read(path)
        .map_err(|error| Error::config(format!("the job file {} cannot be read: {error}", path.display())))?;
    let text = String::from_utf8(text).map_err(|_| {
        Error::config(format!("the job file {} is no UTF-8 text: save it in that encoding", path.display()))
    })?;
    let options = LoadOptions { path: options.path.clone().or_else(|| Some(path.to_owned())), ..options.clone() };
    Ok(load(&text, &options)?)
}

/// Reads the text of a job. Nothing is connected to; besides the text only a data sources file is read, and only when
/// the job names a data source.
///
/// # Errors
/// Everything that is wrong, each with its JSON pointer and line.
pub fn load(text: &str, options: &LoadOptions) -> Result<Job, Faults> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let given: BTreeMap<String, String> = options.parameters.iter().cloned().collect();
    let mut faults = Faults::default();

    let named = time_zone(text, &given);
    let named = named.as_ref().map(|(name, pointer)| (name.as_str(), *pointer));
    let utc = zone::Zone { tz: chrono_tz::Tz::UTC, from: "machine" };
    let zone = zone::choose(named, options.time_zone.as_deref()).unwrap_or_else(|more| {
        faults.0.extend(more.0);
        utc
    });
    // Schedules know no fractions of a second.
    let now = options.now.unwrap_or_else(Utc::now);
    let now = now.with_nanosecond(0).unwrap_or(now);
    let (at, zone) = zone::scheduled(options.at.as_deref(), now, zone).unwrap_or_else(|more| {
        faults.0.extend(more.0);
        (now.with_timezone(&zone.tz), zone)
    });
    let values = parameters::evaluate(&given, &at).unwrap_or_else(|more| {
        faults.0.extend(more.0);
        given.clone()
    });
    let (substituted, more) = parameters::substitute(text, &values, &at);
    faults.0.extend(more.0);
    let document = match text::parse(&substituted.text, text, |byte| substituted.origin(byte)) {
        Ok(document) => document,
        Err(more) => {
            faults.0.extend(more.0);
            return Err(faults);
        }
    };

    let mut notes = Notes::default();
    let folder = options.path.as_deref().and_then(|path| std::path::absolute(path).ok());
    let folder = folder.as_deref().and_then(Path::parent).unwrap_or(Path::new("."));
    let mut loader = Loader {
        sources: DataSources::new(
            options.datasources.as_deref(),
            options.path.as_deref(),
            options.environment.as_deref(),
        ),
        notes: &mut notes,
        folder,
        strict: options.strict,
        native: None,
    };
    let (setting, entries, name) = loader.job(&document);
    let strict = options.strict || loader.native == Some(true);
    notes.settle(strict);
    for pointer in &document.duplicates {
        let key = pointer.rsplit('/').next().unwrap_or_default();
        let message = format!("`{key}` stands here twice: keep one of them");
        if strict {
            notes.faults.add(pointer, message);
        } else {
            notes.warn(pointer, &format!("{message} (the last one counts)"));
        }
    }
    faults.0.extend(document.locate(std::mem::take(&mut notes.faults)).0);
    let path = options.path.as_deref().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
    faults.or(Job {
        name: name.or_else(|| path.as_ref().map(|p| p.display().to_string())).unwrap_or_else(|| "job".into()),
        path,
        entries,
        setting,
        at,
        time_zone_from: zone.from,
        parameters: shown(&given),
        warnings: notes.warnings,
    })
}

/// A connector with parameters of its own, outside any job: for catalogues and checks. Validated as in a job;
/// `datasource` may name a data source. Pointers of faults begin at the parameters.
///
/// # Errors
/// Everything that is wrong.
pub fn endpoint(name: &str, parameter: Value, side: Side, options: &LoadOptions) -> Result<Endpoint, Faults> {
    let mut notes = Notes::default();
    let folder = std::path::absolute(".").unwrap_or_default();
    let mut loader = Loader {
        sources: DataSources::new(
            options.datasources.as_deref(),
            options.path.as_deref(),
            options.environment.as_deref(),
        ),
        notes: &mut notes,
        folder: &folder,
        strict: options.strict,
        native: None,
    };
    let raw =
        RawEnd { name: name.to_owned(), name_pointer: String::new(), parameter, pointer: String::new(), script: false };
    match loader.endpoint(raw, side) {
        Some(endpoint) if notes.faults.0.is_empty() => Ok(endpoint),
        _ => Err(notes.faults),
    }
}

/// `setting.timeZone`, which has to be known before the variables that depend on it.
fn time_zone(text: &str, given: &BTreeMap<String, String>) -> Option<(String, &'static str)> {
    let preview = parameters::preview(text, given);
    let document = text::parse(&preview, &preview, |byte| byte).ok()?;
    ["/job/setting/timeZone", "/setting/timeZone"].into_iter().find_map(|pointer| {
        let value = document.value.pointer(pointer).filter(|value| !is_empty(value))?;
        Some((value.as_str().map_or_else(|| value.to_string(), str::to_owned), pointer))
    })
}

/// Parameters as a report may show them.
fn shown(given: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let map: Map<String, Value> = given.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
    match secrets::redact(&Value::Object(map), None) {
        Value::Object(map) => {
            map.into_iter().map(|(k, v)| (k, v.as_str().unwrap_or(secrets::HIDDEN).to_owned())).collect()
        }
        _ => BTreeMap::new(),
    }
}

struct Loader<'a> {
    sources: DataSources,
    notes: &'a mut Notes,
    folder: &'a Path,
    strict: bool,
    /// Whether every connector so far was named plainly.
    native: Option<bool>,
}

/// The keys of a writer that the runtime itself reads.
#[derive(Default)]
struct WriterKeys {
    mapping: Vec<MappingPair>,
    on_type_loss: OnTypeLoss,
    empty_as_null: Option<bool>,
}

impl Loader<'_> {
    fn job(&mut self, document: &Document) -> (super::Setting, Vec<Entry>, Option<String>) {
        let root = &document.value;
        let raw = match (root.get("job"), root.get("steps")) {
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
        };
        let setting = setting::read(&parts, self.notes);
        let entries = raw.entries.into_iter().filter_map(|entry| self.entry(entry)).collect();
        (setting, entries, raw.name)
    }

    fn neither(&mut self, root: &Value) {
        let expected = "a job is `{\"job\": {\"content\": [{\"reader\": …, \"writer\": …}]}}`, or DataWorks' `{\"type\": \
                        \"job\", \"steps\": […]}`";
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

    fn entry(&mut self, mut raw: RawEntry) -> Option<Entry> {
        self.transformers(&raw.transformers);
        let keys = raw.writer.as_mut().map(|end| self.writer_keys(end)).unwrap_or_default();
        let reader = raw.reader.and_then(|end| self.endpoint(end, Side::Reader));
        let writer = raw.writer.and_then(|end| self.endpoint(end, Side::Writer));
        let (reader, writer) = (reader?, writer?);
        Some(Entry {
            transformers: raw.transformers,
            mapping: keys.mapping,
            on_type_loss: keys.on_type_loss,
            empty_as_null: keys.empty_as_null.unwrap_or(writer.form == Form::DataX),
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

    /// Takes the keys of a writer that the runtime itself reads.
    fn writer_keys(&mut self, end: &mut RawEnd) -> WriterKeys {
        let Some(map) = end.parameter.as_object_mut() else { return Default::default() };
        let mapping = map.shift_remove("mapping").unwrap_or_default();
        let loss = map.shift_remove("onTypeLoss").unwrap_or_default();
        let empty = map.shift_remove("emptyAsNull").unwrap_or_default();
        let at = child(&end.pointer, "onTypeLoss");
        let loss = match self.notes.text(&loss, &at) {
            None => OnTypeLoss::default(),
            Some(text) if text.eq_ignore_ascii_case("error") => OnTypeLoss::Error,
            Some(text) if text.eq_ignore_ascii_case("cast") => OnTypeLoss::Cast,
            Some(text) => {
                self.notes.faults.add(&at, format!("expected `error` or `cast`, found `{text}`"));
                OnTypeLoss::default()
            }
        };
        WriterKeys {
            mapping: self.mapping(&mapping, &child(&end.pointer, "mapping")),
            on_type_loss: loss,
            empty_as_null: self.notes.boolean(&empty, &child(&end.pointer, "emptyAsNull")),
        }
    }

    fn mapping(&mut self, value: &Value, pointer: &str) -> Vec<MappingPair> {
        let list = match value {
            empty if is_empty(empty) => return Vec::new(),
            Value::Array(list) => list.as_slice(),
            Value::Object(_) => std::slice::from_ref(value),
            other => {
                let expected = "a list of pairs such as {\"from\": \"a\", \"to\": \"b\"}";
                self.notes.faults.add(pointer, format!("expected {expected}, found {}", show(other)));
                return Vec::new();
            }
        };
        let mut pairs = Vec::new();
        for (i, pair) in list.iter().enumerate() {
            let at = format!("{pointer}/{i}");
            if !self.notes.object(pair, &at) {
                if pair.is_null() {
                    self.notes.faults.add(&at, "expected a pair, found nothing");
                }
                continue;
            }
            let before = self.notes.faults.0.len();
            self.notes.unknown_keys(pair, &at, "mapping", &["from", "value", "to"], &[]);
            for key in ["from", "to"] {
                self.notes.text(&pair[key], &child(&at, key));
            }
            if is_empty(&pair["to"]) {
                self.notes.faults.add(&at, "`to` is missing: which column of the target is it?");
            }
            match (is_empty(&pair["from"]), pair.get("value").is_none()) {
                (true, true) => self.notes.faults.add(&at, "either `from` (a source column) or `value` is missing"),
                (false, false) => self.notes.faults.add(&at, "`from` and `value` exclude each other: remove one"),
                _ => {}
            }
            if self.notes.faults.0.len() > before {
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
                Err(error) => self.notes.faults.add(&at, error.to_string()),
            }
        }
        pairs
    }

    fn endpoint(&mut self, raw: RawEnd, side: Side) -> Option<Endpoint> {
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
            &["datasource", "mapping", "onTypeLoss", "emptyAsNull"]
        } else {
            &["datasource"]
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

    /// Fills in what the named data sources say and the job does not. Returns which top-level key came from which.
    fn merge(
        &mut self,
        map: &mut Map<String, Value>,
        plugin: &Plugin,
        side: Side,
        schema: &Value,
        pointer: &str,
    ) -> BTreeMap<String, String> {
        let root = Node::root(schema);
        let mut borrowed = BTreeMap::new();
        let takes = |key: &str| root.property(key).is_some() || root.additional().is_some();
        let mut defaults: Vec<(String, Map<String, Value>)> = Vec::new();
        if let Some(name) = map.shift_remove("datasource")
            && let Some(source) = self.look_up(&name, plugin, side, &child(pointer, "datasource"))
        {
            defaults.push(source);
        }
        // A source may also be named for one connection of several; what a connection cannot say goes beside it.
        if let (Some(connections), Some(node)) = (map.get_mut("connection"), root.property("connection")) {
            let list = connections.is_array();
            let entries = match connections {
                Value::Array(items) => items.as_mut_slice(),
                single => std::slice::from_mut(single),
            };
            for (i, entry) in entries.iter_mut().enumerate() {
                let node = node.branches().into_iter().find_map(|b| b.items()).unwrap_or(node).branch(entry);
                let Some(entry) = entry.as_object_mut() else { continue };
                let Some(name) = entry.shift_remove("datasource") else { continue };
                let at = if list { format!("{pointer}/connection/{i}") } else { format!("{pointer}/connection") };
                let Some((name, mut source)) = self.look_up(&name, plugin, side, &child(&at, "datasource")) else {
                    continue;
                };
                rename_aliases(entry, node);
                rename_aliases(&mut source, node);
                let (inner, mut outer): (Map<String, Value>, Map<String, Value>) =
                    source.into_iter().partition(|(key, _)| node.property(key).is_some());
                fill(entry, inner);
                outer.retain(|key, _| takes(key));
                defaults.push((name, outer));
            }
        }
        rename_aliases(map, root);
        for (name, mut source) in defaults {
            rename_aliases(&mut source, root);
            for key in fill(map, source) {
                borrowed.insert(key, name.clone());
            }
        }
        borrowed
    }

    fn look_up(
        &mut self,
        name: &Value,
        plugin: &Plugin,
        side: Side,
        pointer: &str,
    ) -> Option<(String, Map<String, Value>)> {
        let name = self.notes.text(name, pointer)?;
        match self.sources.get(name, side) {
            Ok(source) if source.plugin != plugin.name => {
                let (kind, who) = (source.plugin, plugin.name);
                let message = format!("data source `{name}` is of type {kind}, and this {} is {who}", side.name());
                self.notes.faults.add(pointer, message);
                None
            }
            Ok(source) => Some((name.to_owned(), source.parameter)),
            Err(faults) => {
                for fault in faults.0 {
                    let place = if fault.pointer.is_empty() { String::new() } else { format!("{}: ", fault.pointer) };
                    let message = format!("{place}{}", fault.message);
                    // One broken file of data sources is told of once.
                    if fault.pointer.is_empty() || !self.notes.faults.0.iter().any(|f| f.message == message) {
                        self.notes.faults.add(pointer, message);
                    }
                }
                None
            }
        }
    }
}

/// Adds what `map` does not have; returns the keys.
fn fill(map: &mut Map<String, Value>, defaults: Map<String, Value>) -> Vec<String> {
    let mut filled = Vec::new();
    for (key, value) in defaults {
        if map.get(&key).is_none_or(is_empty) {
            map.insert(key.clone(), value);
            filled.push(key);
        }
    }
    filled
}
