//! From the file of a whole-database job to the job, before anything is connected to.

use serde_json::{Map, Value};
use weir_core::{Form, ObjectName, OnTypeLoss, TargetName, WriteMode, database_reader, database_writer};

use super::config::{DatabaseConfig, TableConfig};
use super::naming::{Expression, target_name};
use super::pattern::Pattern;
use super::table::TableSource;
use crate::job::Endpoint;
use crate::job::front::{Loader, RawEnd, Rules, Side, child, is_empty, show, validate};
use crate::job::writer_keys;

/// A whole-database job, read and validated.
#[derive(Debug, Clone)]
pub struct DatabaseJob {
    /// Where the tables are.
    pub sources: Vec<DatabaseSource>,
    /// Where they go; the parameters name no table.
    pub target: Endpoint,
    /// See [`Entry::on_type_loss`](crate::Entry).
    pub on_type_loss: OnTypeLoss,
    /// See [`Entry::empty_as_null`](crate::Entry).
    pub empty_as_null: bool,
    /// Whose clocks the target's zone-less times show, if the job says so.
    pub target_zone: Option<String>,
    /// Everything else, as the file has it; `source`, `target` and `setting` are empty.
    pub config: DatabaseConfig,
    pub(super) patterns: Patterns,
    pub(super) schema: Expression,
    pub(super) table: Expression,
    /// Where merges go.
    pub(super) into: Vec<TargetName>,
    pub(super) tables: Vec<Override>,
    /// Whether the file says what becomes of tables that are gone.
    pub(super) says_deleted: bool,
}

/// One source of a whole-database job.
#[derive(Debug, Clone)]
pub struct DatabaseSource {
    /// The data source's name, else the connector's, with a number where that is not enough: `{SOURCE_DATASOURCE}`.
    pub name: String,
    /// Connector and parameters, which name no table.
    pub endpoint: Endpoint,
    /// Whose clocks its zone-less times show, if the job says so.
    pub zone: Option<String>,
}

/// The patterns of a job.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    /// Tables to take.
    pub include: Vec<Pattern>,
    /// Tables to leave out.
    pub exclude: Vec<Pattern>,
    /// For each merge, its tables.
    pub merges: Vec<Vec<Pattern>>,
    /// Whether globs select views too.
    pub views: bool,
}

impl Patterns {
    /// Whether nothing is said of what to take.
    pub fn is_whole(&self) -> bool {
        self.include.is_empty() && self.merges.is_empty()
    }
}

/// What is different for some tables.
#[derive(Debug, Clone)]
pub(super) struct Override {
    pub pattern: Pattern,
    pub config: TableConfig,
    pub target: Option<TargetName>,
}

impl DatabaseJob {
    /// Whether the job looks for tables in a database of this name, beside those of its sources' own connections.
    pub fn looks_into(&self, database: &str) -> bool {
        let patterns = &self.patterns;
        patterns.include.iter().chain(patterns.merges.iter().flatten()).any(|pattern| pattern.looks_into(database))
            && !patterns.exclude.iter().any(|pattern| pattern.is_all_of(database))
    }

    /// A source table as people read it: where there are several sources, with the name of its own.
    pub(super) fn label(&self, source: usize, name: &ObjectName) -> String {
        match self.sources.get(source).filter(|_| self.sources.len() > 1) {
            Some(source) => format!("{}: {name}", source.name),
            None => name.to_string(),
        }
    }

    /// What the ledger calls a source table: the same, however many sources the job has. Ledgers of before have the name alone.
    pub(super) fn identity(&self, source: usize, name: &ObjectName) -> String {
        let source = self.sources.get(source).map(|source| source.name.as_str()).unwrap_or_default();
        format!("{source}: {name}")
    }

    /// The names under which a ledger may have a source table: its identity, and the name alone.
    pub(super) fn names_of(&self, table: &TableSource) -> [String; 2] {
        [self.identity(table.source, &table.name), table.name.to_string()]
    }

    /// A job with one source of the connector `fake`, without what only the reading of a file tells.
    #[cfg(test)]
    pub(super) fn of(config: &Value) -> Self {
        let config: DatabaseConfig = weir_core::config::parse(config).unwrap();
        let endpoint =
            || Endpoint { plugin: "fake".into(), form: Form::Native, parameter: Value::Null, pointer: String::new() };
        let tables = config.tables.iter().map(|(key, own)| Override {
            pattern: Pattern::parse(key).unwrap(),
            config: own.clone(),
            target: None,
        });
        Self {
            sources: vec![DatabaseSource { name: "fake".into(), endpoint: endpoint(), zone: None }],
            target: endpoint(),
            on_type_loss: OnTypeLoss::default(),
            empty_as_null: false,
            target_zone: None,
            patterns: Patterns::default(),
            schema: Expression::parse("{SOURCE_SCHEMA}").unwrap(),
            table: Expression::parse("{SOURCE_TABLE}").unwrap(),
            into: Vec::new(),
            tables: tables.collect(),
            says_deleted: false,
            config,
        }
    }

    /// What a run is compared by when it is to be continued: the job as it was read, without secrets.
    pub fn fingerprint(&self) -> Value {
        let sources = self.sources.iter().map(|source| {
            serde_json::json!({"name": source.name, "plugin": source.endpoint.plugin, "zone": source.zone,
                "parameter": source.endpoint.redacted()})
        });
        serde_json::json!({
            "source": sources.collect::<Vec<_>>(),
            "target": {"plugin": self.target.plugin, "zone": self.target_zone, "parameter": self.target.redacted(),
                "onTypeLoss": self.on_type_loss, "emptyAsNull": self.empty_as_null},
            "job": self.config,
        })
    }
}

/// Reads the document of a whole-database job; `None` when too much is wrong with it, which was noted.
pub(crate) fn read(root: &Value, loader: &mut Loader<'_>) -> Option<DatabaseJob> {
    let before = loader.notes.faults.0.len();
    let sources = sources(&root["source"], loader);
    let target = end(&root["target"], "/target", Side::Writer, loader);
    let mut rest: Map<String, Value> = root.as_object().cloned().unwrap_or_default();
    for key in ["source", "target", "setting"] {
        rest.shift_remove(key);
    }
    let mut rest = Value::Object(rest);
    let schema = schemars::schema_for!(DatabaseConfig).to_value();
    let rules = Rules {
        who: "database job",
        ignored: &[],
        refused: &[],
        framework: &["source", "target", "setting"],
        form: Form::Native,
        strict: true,
    };
    let findings = validate(&mut rest, &schema, &rules);
    loader.notes.faults.0.extend(findings.faults.0);
    if loader.notes.faults.0.len() > before {
        return None;
    }
    let config: DatabaseConfig = match weir_core::config::parse(&rest) {
        Ok(config) => config,
        Err(faults) => {
            loader.notes.faults.0.extend(faults.0);
            return None;
        }
    };
    let faults = &mut loader.notes.faults;
    let mut noted = |pointer: &str, error: String| faults.add(pointer, error);
    let mut patterns = |list: &[String], pointer: &str| -> Vec<Pattern> {
        let read = list.iter().map(|text| Pattern::parse(text).map_err(|error| noted(pointer, error)));
        read.filter_map(Result::ok).collect()
    };
    let objects = &config.objects;
    let include = patterns(objects.include.as_slice(), "/objects/include");
    let exclude = patterns(objects.exclude.as_slice(), "/objects/exclude");
    let merges = objects.merge.as_slice().iter().enumerate();
    let merges =
        merges.map(|(i, merge)| patterns(merge.from.as_slice(), &format!("/objects/merge/{i}/from"))).collect();
    let mut into = Vec::new();
    for (i, merge) in objects.merge.as_slice().iter().enumerate() {
        match target_name(&merge.into) {
            Ok(name) => into.push(name),
            Err(error) => noted(&format!("/objects/merge/{i}/into"), error),
        }
        if merge.from.is_empty() {
            noted(&format!("/objects/merge/{i}"), "`from` is missing: patterns of the tables to merge".into());
        }
    }
    let mut expression = |text: &Option<String>, default: &str, pointer: &str| {
        Expression::parse(text.as_deref().unwrap_or(default)).map_err(|error| noted(pointer, error)).ok()
    };
    let schema = expression(&config.naming.schema, "{SOURCE_SCHEMA}", "/naming/schema");
    let table = expression(&config.naming.table, "{SOURCE_TABLE}", "/naming/table");
    let mut tables = Vec::new();
    for (key, own) in &config.tables {
        let at = child("/tables", key);
        let pattern = Pattern::parse(key).map_err(|error| noted(&at, error)).ok();
        let target = match own.target.as_deref().map(target_name) {
            Some(Err(error)) => {
                noted(&format!("{at}/target"), error);
                None
            }
            other => other.and_then(Result::ok),
        };
        if let Some(mode) = own.write_mode
            && let Some(fault) = unfit(mode)
        {
            noted(&format!("{at}/writeMode"), fault);
        }
        tables.extend(pattern.map(|pattern| Override { pattern, config: own.clone(), target }));
    }
    for (mode, pointer) in [(config.write.keyed, "/write/keyed"), (config.write.unkeyed, "/write/unkeyed")] {
        if let Some(fault) = unfit(mode) {
            noted(pointer, fault);
        }
    }
    if config.write.unkeyed == WriteMode::Upsert {
        noted("/write/unkeyed", "a table without a key cannot be upserted: use overwrite or append".into());
    }
    let appends = |mode: WriteMode| mode == WriteMode::Append;
    let modes = [config.write.keyed, config.write.unkeyed].into_iter();
    if config.publish == super::config::PublishConfig::All
        && modes.chain(config.tables.values().filter_map(|own| own.write_mode)).any(appends)
    {
        noted(
            "/publish",
            "rows that are appended are visible at once: publish `all` takes overwrite and upsert only".into(),
        );
    }
    if let Some(partition) = &config.partition
        && (partition.field.is_empty() || partition.value.is_empty())
    {
        noted("/partition", "a partition has a `field` and a `value`".into());
    }
    let views = objects.views;
    let patterns = Patterns { include, exclude, merges, views };
    if faults.0.len() > before {
        return None;
    }
    let (target, keys) = target?;
    Some(DatabaseJob {
        sources,
        target,
        on_type_loss: keys.on_type_loss,
        empty_as_null: keys.empty_as_null.unwrap_or(false),
        target_zone: keys.time_zone,
        patterns,
        schema: schema?,
        table: table?,
        into,
        tables,
        says_deleted: !root["rules"]["tableDeleted"].is_null(),
        config,
    })
}

fn unfit(mode: WriteMode) -> Option<String> {
    let fit = matches!(mode, WriteMode::Overwrite | WriteMode::Upsert | WriteMode::Append);
    (!fit).then(|| format!("a whole-database job writes with overwrite, upsert or append, not with `{}`", mode.name()))
}

fn sources(value: &Value, loader: &mut Loader<'_>) -> Vec<DatabaseSource> {
    let list: Vec<(String, &Value)> = match value {
        Value::Array(list) => list.iter().enumerate().map(|(i, one)| (format!("/source/{i}"), one)).collect(),
        one => vec![("/source".into(), one)],
    };
    if list.is_empty() {
        loader.notes.faults.add("/source", "expected a source, or a list of sources");
    }
    let mut sources: Vec<DatabaseSource> = Vec::with_capacity(list.len());
    for (pointer, value) in list {
        let datasource = value.pointer("/parameter/datasource").and_then(Value::as_str).map(str::to_owned);
        let Some((endpoint, keys)) = end(value, &pointer, Side::Reader, loader) else { continue };
        let name = datasource.unwrap_or_else(|| endpoint.plugin.clone());
        let same = sources.iter().filter(|other| other.name == name).count();
        let name = if same > 0 { format!("{name}{}", sources.len() + 1) } else { name };
        sources.push(DatabaseSource { name, endpoint, zone: keys.time_zone });
    }
    if let Some(other) = sources.iter().find(|source| source.endpoint.plugin != sources[0].endpoint.plugin) {
        let message = format!(
            "the sources are of different systems ({} and {}): make a job of each",
            sources[0].endpoint.plugin, other.endpoint.plugin
        );
        loader.notes.faults.add("/source", message);
    }
    sources
}

/// One end, whose connector can do whole databases.
fn end(
    value: &Value,
    pointer: &str,
    side: Side,
    loader: &mut Loader<'_>,
) -> Option<(Endpoint, writer_keys::WriterKeys)> {
    let what = if side == Side::Reader { "source" } else { "target" };
    if is_empty(value) {
        loader.notes.faults.add(pointer, format!("the {what} is missing: {{\"name\": …, \"parameter\": …}}"));
        return None;
    }
    if !value.is_object() {
        loader.notes.faults.add(pointer, format!("expected an object, found {}", show(value)));
        return None;
    }
    loader.notes.unknown_keys(value, pointer, what, &["name", "parameter"], &[]);
    let name_pointer = child(pointer, "name");
    let Some(name) = loader.notes.text(&value["name"], &name_pointer).map(str::to_owned) else {
        loader.notes.faults.add(pointer, "`name` is missing: which system is it?");
        return None;
    };
    let mut raw = RawEnd {
        name,
        name_pointer: name_pointer.clone(),
        parameter: value["parameter"].clone(),
        pointer: child(pointer, "parameter"),
        script: false,
    };
    for (key, better) in
        [("table", "`objects`"), ("querySql", "`objects`"), ("column", "`tables`"), ("writeMode", "`write`")]
    {
        if !is_empty(&raw.parameter[key]) {
            let message = format!("the tables of a whole-database job are not named here: use {better}");
            loader.notes.faults.add(child(&raw.pointer, key), message);
            raw.parameter.as_object_mut().map(|map| map.shift_remove(key));
        }
    }
    let keys = match side {
        Side::Writer => {
            let at = child(&raw.pointer, "mapping");
            let keys = writer_keys::take(&mut raw, loader.notes);
            if !keys.mapping.is_empty() {
                loader
                    .notes
                    .faults
                    .add(at, "a whole-database job has no `mapping`: columns go by their names, see `tables`");
            }
            keys
        }
        Side::Reader => {
            let time_zone = writer_keys::take_zone(&mut raw, loader.notes);
            writer_keys::WriterKeys { time_zone, ..Default::default() }
        }
    };
    let mut endpoint = loader.endpoint(raw, side)?;
    endpoint.form = Form::Native;
    let able = match side {
        Side::Reader => database_reader(&endpoint.plugin).is_some(),
        Side::Writer => database_writer(&endpoint.plugin).is_some(),
    };
    if !able {
        let message = format!("{} cannot be the {what} of a whole-database job", endpoint.plugin);
        loader.notes.faults.add(name_pointer, message);
        return None;
    }
    Some((endpoint, keys))
}
