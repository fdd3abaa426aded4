//! `weir copy`: a job from two locations.

use std::io::Write;
use std::path::Path;

use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;
use weir::core::{ConnectorContext, Error, ErrorKind, Form};
use weir::job::{self, Side, find_plugin, plugins};

use super::arguments::{CopyArguments, SourceArguments};
use super::job::{data_sources, options, told};
use super::{Outcome, logging, output, run, runtime};

/// A location, understood: a connector and its parameters.
#[derive(Debug)]
pub(crate) struct Place {
    /// The connector's plain name.
    pub plugin: String,
    /// Its parameters.
    pub parameter: Value,
}

/// Makes the job and runs it.
pub(crate) fn copy(arguments: &CopyArguments) -> Outcome {
    logging::start(&arguments.running.logging);
    let source = place(&arguments.source, arguments.table.as_deref(), Side::Reader, &arguments.sources)?;
    let target = target(arguments)?;
    let text = output::json(&job_text(arguments, source, target)?)? + "\n";
    if let Some(path) = &arguments.save {
        save(&text, path)?;
    }
    let job = job::load(&text, &options(&arguments.sources)).map_err(|faults| told("this copy", &faults))?;
    run::run_job(&job, &arguments.running, weir::RunOptions::default())
}

/// The target with its mode. `lake/orders` is a whole target, `shop.db` wants a table: that of the source by default.
fn target(arguments: &CopyArguments) -> Result<Place, Error> {
    let with = |table: Option<&str>| -> Result<Place, Error> {
        let mut target = place(&arguments.target, table, Side::Writer, &arguments.sources)?;
        match &arguments.mode {
            Some(mode) => target.parameter["writeMode"] = mode.as_str().into(),
            None => {
                if let Some(mode) = find_plugin(&target.plugin, Side::Writer).ok().and_then(|(p, _)| p.careful_mode()) {
                    target.parameter["writeMode"] = mode.into();
                }
            }
        }
        Ok(target)
    };
    if let Some(table) = &arguments.to_table {
        return with(Some(table));
    }
    let bare = with(None)?;
    match &arguments.table {
        Some(table) if !is_whole(&bare, &arguments.sources)? => with(Some(table)),
        _ => Ok(bare),
    }
}

/// Whether a writer opens with these parameters; it connects to nothing then.
fn is_whole(target: &Place, sources: &SourceArguments) -> Result<bool, Error> {
    let Ok(endpoint) = job::endpoint(&target.plugin, target.parameter.clone(), Side::Writer, &options(sources)) else {
        return Ok(false);
    };
    let runtime = runtime()?;
    let context = ConnectorContext {
        cancel: CancellationToken::new(),
        io: runtime.handle().clone(),
        form: Form::Native,
        time_zone: Default::default(),
        shared: Default::default(),
    };
    let _inside = runtime.enter();
    Ok(endpoint.open_writer(&context).is_ok())
}

fn job_text(arguments: &CopyArguments, source: Place, target: Place) -> Result<Value, Error> {
    let (mut from, to) = (source.parameter, target.parameter);
    if let Some(condition) = &arguments.condition {
        from["where"] = condition.as_str().into();
    }
    let mut setting = Map::new();
    if let Some(channels) = arguments.channels {
        setting.insert("speed".into(), json!({ "channel": channels }));
    }
    let name = format!("copy {} to {}", job::redact_text(&arguments.source), job::redact_text(&arguments.target));
    Ok(json!({"job": {
        "name": name,
        "setting": setting,
        "content": [{
            "reader": {"name": source.plugin, "parameter": from},
            "writer": {"name": target.plugin, "parameter": to},
        }],
    }}))
}

/// Finds out what a location is: a named data source, else whatever a connector recognises.
pub(crate) fn place(
    location: &str,
    table: Option<&str>,
    side: Side,
    sources: &SourceArguments,
) -> Result<Place, Error> {
    let named = data_sources(sources);
    if named.has(location) {
        let source = named.get(location, side).map_err(|faults| told(location, &faults))?;
        let (plugin, _) = find_plugin(&source.plugin, side).map_err(Error::config)?;
        let mut parameter = json!({ "datasource": location });
        if let Some(table) = table.filter(|_| plugin.knows("table")) {
            parameter["table"] = table.into();
        }
        return Ok(Place { plugin: source.plugin, parameter });
    }
    // A file that is given and wrong must not pass for one without the name.
    if sources.datasources.is_some() {
        named.list().map_err(|faults| told("--datasources", &faults))?;
    }
    let recognised = match side {
        Side::Reader => weir::core::readers().iter().find_map(|p| Some((p.name, (p.recognise)(location, table)?))),
        Side::Writer => weir::core::writers().iter().find_map(|p| Some((p.name, (p.recognise)(location, table)?))),
    };
    let (plugin, parameter) = recognised.ok_or_else(|| {
        let known = plugins(side).iter().map(|p| p.name).collect::<Vec<_>>().join(", ");
        let shown = job::redact_text(location);
        Error::config(format!(
            "`{shown}` is neither a data source nor a place that a {} knows: give a URL such as \
             postgresql://user@host/database, a path such as data.csv, or a name from {} (connectors: {known})",
            side.name(),
            job::DATA_SOURCES_FILE,
        ))
    })?;
    Ok(Place { plugin: plugin.to_owned(), parameter })
}

/// Keeps the job for its owner only: a URL may hold a password.
fn save(text: &str, path: &Path) -> Result<(), Error> {
    let mut open = std::fs::OpenOptions::new();
    open.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut open, 0o600);
    let written = open.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::config(format!("--save: {} is there already: choose another name", path.display()))
        }
        _ => Error::new(ErrorKind::Io, format!("--save: {} cannot be written", path.display())).because(error),
    })
}
