//! From the text of a job file to a [`Job`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Timelike, Utc};
use serde_json::{Map, Value};
use weir_core::{Error, Faults};

use super::loader::{Loader, RawEnd};
use super::model::{Endpoint, Job};
use super::notes::Notes;
use super::plugins::Side;
use super::validate::is_empty;
use super::{parameters, secrets, text, zone};

/// What a job is called that has neither a name nor a file.
pub const UNNAMED: &str = "job";

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

/// Reads a job file.
///
/// # Errors
/// [`Config`](weir_core::ErrorKind::Config): the file cannot be read, or everything that is wrong in it.
pub fn load_file(path: &Path, options: &LoadOptions) -> weir_core::Result<Job> {
    let text = read_file(path)?;
    let options = LoadOptions { path: options.path.clone().or_else(|| Some(path.to_owned())), ..options.clone() };
    Ok(load(&text, &options)?)
}

/// The text of a job file.
///
/// # Errors
/// [`Config`](weir_core::ErrorKind::Config): the file cannot be read, or is no UTF-8.
pub fn read_file(path: &Path) -> weir_core::Result<String> {
    let bytes = std::fs::read(path)
        .map_err(|error| Error::config(format!("the job file {} cannot be read: {error}", path.display())))?;
    String::from_utf8(bytes).map_err(|_| {
        Error::config(format!("the job file {} is no UTF-8 text: save it in that encoding", path.display()))
    })
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

    let own_zone = own_zone(text, &given, options, &mut faults);
    let data_zone = if own_zone.from == "machine" { chrono_tz::Tz::UTC } else { own_zone.tz };
    let (at, zone) = at(own_zone, options, &mut faults);
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
    let mut loader = Loader::new(options, folder, &mut notes);
    let (setting, entries, name) = loader.job(&document);
    let database = loader.database.take().map(Box::new);
    let strict = options.strict || loader.is_native();
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
        name: name.or_else(|| path.as_ref().map(|p| p.display().to_string())).unwrap_or_else(|| UNNAMED.into()),
        path,
        entries,
        database,
        places: Vec::new(),
        setting,
        at,
        time_zone_from: zone.from,
        data_zone,
        parameters: shown_parameters(&given),
        warnings: notes.warnings,
    })
}

/// The scheduled time of a job, as a call gives it.
///
/// # Errors
/// What is wrong with it, or with the job's time zone.
pub fn scheduled(text: &str, options: &LoadOptions) -> Result<DateTime<chrono_tz::Tz>, Faults> {
    let mut faults = Faults::default();
    let given = options.parameters.iter().cloned().collect();
    let zone = own_zone(text, &given, options, &mut faults);
    let (at, _) = at(zone, options, &mut faults);
    faults.or(at)
}

/// The name that the text of a job gives it, for whoever has to know it before the parameters that hold. What stands for a
/// parameter that is not `given` stays as it is.
pub fn name(text: &str, given: &[(String, String)]) -> Option<String> {
    let given = given.iter().cloned().collect();
    text_at(text, &given, &["/job/name", "/name"]).map(|(name, _)| name)
}

/// A connector with parameters of its own, outside any job: for catalogues and checks. Validated as in a job;
/// `datasource` may name a data source. Pointers of faults begin at the parameters.
///
/// # Errors
/// Everything that is wrong.
pub fn endpoint(name: &str, parameter: Value, side: Side, options: &LoadOptions) -> Result<Endpoint, Faults> {
    let mut notes = Notes::default();
    let folder = std::path::absolute(".").unwrap_or_default();
    let mut loader = Loader::new(options, &folder, &mut notes);
    let raw =
        RawEnd { name: name.to_owned(), name_pointer: String::new(), parameter, pointer: String::new(), script: false };
    match loader.endpoint(raw, side) {
        Some(endpoint) if notes.faults.0.is_empty() => Ok(endpoint),
        _ => Err(notes.faults),
    }
}

/// The job's own time zone, or what stands in for it.
fn own_zone(text: &str, given: &BTreeMap<String, String>, options: &LoadOptions, faults: &mut Faults) -> zone::Zone {
    let named = time_zone(text, given);
    let named = named.as_ref().map(|(name, pointer)| (name.as_str(), *pointer));
    zone::choose(named, options.time_zone.as_deref()).unwrap_or_else(|more| {
        faults.0.extend(more.0);
        zone::Zone { tz: chrono_tz::Tz::UTC, from: "machine" }
    })
}

/// The scheduled time, and the zone in which that is.
fn at(zone: zone::Zone, options: &LoadOptions, faults: &mut Faults) -> (DateTime<chrono_tz::Tz>, zone::Zone) {
    // Schedules know no fractions of a second.
    let now = options.now.unwrap_or_else(Utc::now);
    let now = now.with_nanosecond(0).unwrap_or(now);
    zone::scheduled(options.at.as_deref(), now, zone).unwrap_or_else(|more| {
        faults.0.extend(more.0);
        (now.with_timezone(&zone.tz), zone)
    })
}

/// `setting.timeZone`, which has to be known before the variables that depend on it.
fn time_zone(text: &str, given: &BTreeMap<String, String>) -> Option<(String, &'static str)> {
    text_at(text, given, &["/job/setting/timeZone", "/setting/timeZone", "/configuration/setting/timeZone"])
}

/// What stands at the first of these pointers, before variables that depend on other things are replaced.
fn text_at(text: &str, given: &BTreeMap<String, String>, pointers: &[&'static str]) -> Option<(String, &'static str)> {
    let preview = parameters::preview(text.strip_prefix('\u{feff}').unwrap_or(text), given);
    let document = text::parse(&preview, &preview, |byte| byte).ok()?;
    pointers.iter().find_map(|pointer| {
        let value = document.value.pointer(pointer).filter(|value| !is_empty(value))?;
        Some((value.as_str().map_or_else(|| value.to_string(), str::to_owned), *pointer))
    })
}

/// Parameters as a report may show them, and the ledger write them down: secrets stand as [`HIDDEN`](secrets::HIDDEN).
pub fn shown_parameters(given: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let map: Map<String, Value> = given.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
    match secrets::redact(&Value::Object(map), None) {
        Value::Object(map) => {
            map.into_iter().map(|(k, v)| (k, v.as_str().unwrap_or(secrets::HIDDEN).to_owned())).collect()
        }
        _ => BTreeMap::new(),
    }
}
