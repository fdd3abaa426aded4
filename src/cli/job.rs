//! From the call to a job.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use weir::core::{Error, Faults};
use weir::job::{self, DataSources};
use weir::{Job, LoadOptions};

use super::arguments::{JobArguments, SourceArguments};

/// Reads the job file, or stdin for `-`, and shows which file is wrong.
pub(crate) fn load(path: &Path, arguments: &JobArguments) -> Result<Job, Error> {
    load_as_begun(path, arguments, None)
}

/// As [`load`], for a run that was begun before: its parameters and its time hold.
pub(crate) fn load_as_begun(
    path: &Path,
    arguments: &JobArguments,
    begun_with: Option<(Vec<(String, String)>, String)>,
) -> Result<Job, Error> {
    load_text(&read(path)?, path, arguments, begun_with)
}

/// The text of the job file, or of stdin for `-`.
pub(crate) fn read(path: &Path) -> Result<String, Error> {
    if path != Path::new("-") {
        return job::read_file(path);
    }
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Error::config(format!("the job on stdin cannot be read: {error}")))?;
    Ok(text)
}

/// As [`load_as_begun`], of what was [read](read) from `path`.
pub(crate) fn load_text(
    text: &str,
    path: &Path,
    arguments: &JobArguments,
    begun_with: Option<(Vec<(String, String)>, String)>,
) -> Result<Job, Error> {
    let given = parameters(&arguments.parameters)?;
    let (parameters, at) = match begun_with {
        None => (given, arguments.at.clone()),
        Some((begun_with, at)) => (as_begun(given, begun_with)?, Some(at)),
    };
    let mut options = LoadOptions { parameters, at, strict: arguments.strict, ..options(&arguments.sources) };
    if path != Path::new("-") {
        options.path = Some(path.to_owned());
    }
    let told = |faults| {
        let name = if path == Path::new("-") { "the job on stdin".into() } else { path.display().to_string() };
        told(&name, &faults)
    };
    let job = job::load(text, &options).map_err(told)?;
    if let Some(own) = arguments.at.as_ref().filter(|own| options.at.as_ref() != Some(own)) {
        let (own, begun) = (LoadOptions { at: Some(own.clone()), ..options }, job.at.to_rfc3339());
        let at = job::scheduled(text, &own).map_err(told)?.to_rfc3339();
        if at != begun {
            return Err(Error::config(format!(
                "--at {at} differs from what the run was begun with, {begun}: leave it out, or start another run"
            )));
        }
    }
    Ok(job)
}

/// The parameters that a run was begun with. Secrets among them are written down nowhere, so they come from this call.
fn as_begun(given: Vec<(String, String)>, begun_with: Vec<(String, String)>) -> Result<Vec<(String, String)>, Error> {
    let given: BTreeMap<String, String> = given.into_iter().collect();
    if let Some((name, shown)) = job::shown_parameters(&given).into_iter().find(|pair| !begun_with.contains(pair)) {
        return Err(Error::config(format!(
            "-p {name}={shown} differs from what the run was begun with: leave it out, or start another run"
        )));
    }
    let whole = |(name, value): (String, String)| match given.get(&name) {
        Some(own) => Ok((name, own.clone())),
        None if value.contains(job::HIDDEN) => Err(Error::config(format!(
            "parameter {name} of the run is a secret, which is written down nowhere: give it again, -p {name}=…"
        ))),
        None => Ok((name, value)),
    };
    begun_with.into_iter().map(whole).collect()
}

/// Faults under the name of what is wrong.
pub(crate) fn told(what: &str, faults: &Faults) -> Error {
    match faults.0.as_slice() {
        [one] if one.pointer.is_empty() => Error::config(format!("{what}: {}", one.message)),
        [one] => Error::config(format!("{what} has a fault:\n{}: {}", one.pointer, one.message)),
        all => Error::config(format!("{what} has {} faults:\n{faults}", all.len())),
    }
}

/// What surrounds every job.
pub(crate) fn options(sources: &SourceArguments) -> LoadOptions {
    LoadOptions {
        datasources: sources.datasources.clone(),
        environment: sources.environment.clone(),
        time_zone: std::env::var("WEIR_TZ").ok(),
        ..LoadOptions::default()
    }
}

/// Named data sources for commands without a job file.
pub(crate) fn data_sources(sources: &SourceArguments) -> DataSources {
    DataSources::new(sources.datasources.as_deref(), None, sources.environment.as_deref())
}

/// The pairs of `-p`.
pub(crate) fn parameters(texts: &[String]) -> Result<Vec<(String, String)>, Error> {
    let mut all = Vec::new();
    let mut faults = Faults::default();
    for text in texts {
        match job::parse_parameters(text) {
            Ok(pairs) => all.extend(pairs),
            Err(more) => faults.0.extend(more.0),
        }
    }
    faults
        .or(all)
        .map_err(|faults| Error::config(faults.0.iter().map(|f| f.message.as_str()).collect::<Vec<_>>().join("\n")))
}
