//! `weir check`: connectivity, credentials and privileges of both ends, without moving a row.

use std::path::Path;

use serde::Serialize;
use serde_json::json;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use weir_core::{Check, CheckOutcome, ConnectorContext, ErrorKind, Faults, Form, Result};

use crate::database::source_checks;
use crate::entry::open_all;
use crate::job::{self, DataSources, Endpoint, Job, LoadOptions, Plugin, Side, find_plugin};
use crate::ledger::known_tables;

/// A table that no source has: what a writer says of it is what it may create.
const NEW_TABLE: &str = "weir_check";

/// What was found at one end of an entry.
#[derive(Debug, Clone, Serialize)]
pub struct EndCheck {
    /// `source` or `target`.
    pub end: &'static str,
    /// The connector's plain name.
    pub connector: String,
    /// Where it stands in the job.
    pub pointer: String,
    /// The findings.
    pub checks: Vec<Check>,
}

/// Looks at both ends of every entry. A fault is a line, not an error; only faults of the job file are errors. The ledger in
/// `state_dir` knows which tables a whole-database job has made itself, where it reads and writes in one place.
///
/// # Errors
/// A job that cannot be opened.
pub async fn check(job: &Job, state_dir: Option<&Path>, cancel: CancellationToken) -> Result<Vec<EndCheck>> {
    let context = |endpoint: &Endpoint| ConnectorContext {
        cancel: cancel.clone(),
        io: Handle::current(),
        form: endpoint.form,
        time_zone: job.data_zone,
        shared: Default::default(),
    };
    if let Some(entry) = job.entries.first() {
        open_all(job, &context(&entry.reader))?;
    }
    let mut found = Vec::new();
    if let Some(database) = &job.database {
        for source in &database.sources {
            let catalog = source.endpoint.open_catalog_in(&context(&source.endpoint))?;
            let listed = catalog.objects(&|name| database.looks_into(name)).await;
            let listed = listed.map(|objects| format!("{} tables and views", objects.list.len()));
            found.push(EndCheck {
                end: "source",
                connector: source.endpoint.plugin.clone(),
                pointer: source.endpoint.pointer.clone(),
                checks: vec![Check::of(format!("catalogue of {}", source.name), listed)],
            });
        }
        let known = known_tables(state_dir, &job.name).await.unwrap_or_else(|error| {
            let checks = vec![Check::fault("state folder", error.full())];
            let (connector, pointer) = (database.target.plugin.clone(), database.target.pointer.clone());
            found.push(EndCheck { end: "target", connector, pointer, checks });
            Vec::new()
        });
        // The target is looked at for the first table: rights and address are the same for all.
        let (job, expansion) = match crate::database::expanded(job, &known, &context(&database.target)).await {
            Ok(expanded) => expanded,
            Err(error) => {
                found.push(EndCheck {
                    end: "source",
                    connector: database.target.plugin.clone(),
                    pointer: "/objects".into(),
                    checks: vec![Check::of("selection", Err::<String, _>(error))],
                });
                return Ok(found);
            }
        };
        let selected = format!("{} ({} cannot be mapped)", expansion.selected, expansion.failed.len());
        found.push(EndCheck {
            end: "source",
            connector: database.sources.first().map(|source| source.endpoint.plugin.clone()).unwrap_or_default(),
            pointer: "/objects".into(),
            checks: vec![Check::of("selection", Ok(selected))],
        });
        if let Some(source) = database.sources.first() {
            found.push(EndCheck {
                end: "source",
                connector: source.endpoint.plugin.clone(),
                pointer: source.endpoint.pointer.clone(),
                checks: source_checks(&job, &job.entries, &context(&source.endpoint)).await?,
            });
        }
        if let Some(entry) = job.entries.first() {
            let writer = entry.writer.open_writer(&context(&entry.writer))?;
            found.push(EndCheck {
                end: "target",
                connector: entry.writer.plugin.clone(),
                pointer: entry.writer.pointer.clone(),
                checks: writer.check().await,
            });
        }
        return Ok(found);
    }
    for entry in &job.entries {
        let reader = entry.reader.open_reader(&context(&entry.reader))?;
        found.push(EndCheck {
            end: "source",
            connector: entry.reader.plugin.clone(),
            pointer: entry.reader.pointer.clone(),
            checks: reader.check().await,
        });
        let writer = entry.writer.open_writer(&context(&entry.writer))?;
        found.push(EndCheck {
            end: "target",
            connector: entry.writer.plugin.clone(),
            pointer: entry.writer.pointer.clone(),
            checks: writer.check().await,
        });
    }
    Ok(found)
}

/// Looks at a named data source, for which no job says what is read or written: at what its catalogue lists, as a reader at
/// one of those tables, and as a writer at that table and at one that would have to be created.
///
/// Most sources are only read, or only written. So what is missing for one of the two is a warning where the other is all
/// right.
///
/// # Errors
/// There is no such data source, or what is wrong in its configuration.
pub async fn check_data_source(
    name: &str,
    options: &LoadOptions,
    cancel: CancellationToken,
) -> Result<Vec<EndCheck>, Faults> {
    let sources =
        DataSources::new(options.datasources.as_deref(), options.path.as_deref(), options.environment.as_deref());
    let plugin = |side| {
        let source = sources.get(name, side)?;
        find_plugin(&source.plugin, side).map(|(plugin, _)| plugin).map_err(|message| Faults::one("", message))
    };
    let probe = Probe { name, options, cancel };
    let mut ends = Vec::new();
    let mut table = None;
    let writer = match (plugin(Side::Reader), plugin(Side::Writer)) {
        (Err(faults), Err(_)) => return Err(faults),
        (Ok(reader), writer) => {
            let (checks, first) = probe.reader(&reader).await?;
            let unreachable = checks.iter().any(|check| check.what == CONNECT && check.outcome == CheckOutcome::Fault);
            ends.push(probe.end("source", &reader, checks));
            if unreachable {
                return Ok(ends);
            }
            table = first;
            writer.ok()
        }
        (Err(_), writer) => writer.ok(),
    };
    if let Some(writer) = writer {
        let checks = probe.writer(&writer, table.as_deref()).await?;
        ends.push(probe.end("target", &writer, checks));
    }
    if ends.len() > 1 && ends.iter().any(|end| !end.checks.iter().any(is_fault)) {
        for check in ends.iter_mut().flat_map(|end| &mut end.checks).filter(|check| is_fault(check)) {
            check.outcome = CheckOutcome::Warning;
        }
    }
    Ok(ends)
}

/// The line that says whether a source can be reached at all.
const CONNECT: &str = "connect";

fn is_fault(check: &Check) -> bool {
    check.outcome == CheckOutcome::Fault
}

struct Probe<'a> {
    name: &'a str,
    options: &'a LoadOptions,
    cancel: CancellationToken,
}

impl Probe<'_> {
    fn end(&self, end: &'static str, plugin: &Plugin, checks: Vec<Check>) -> EndCheck {
        EndCheck { end, connector: plugin.name.to_owned(), pointer: self.name.to_owned(), checks }
    }

    fn context(&self) -> ConnectorContext {
        ConnectorContext {
            cancel: self.cancel.clone(),
            io: Handle::current(),
            form: Form::Native,
            time_zone: chrono_tz::Tz::UTC,
            shared: Default::default(),
        }
    }

    fn endpoint(&self, plugin: &Plugin, side: Side, more: &[(&str, serde_json::Value)]) -> Result<Endpoint, Faults> {
        let mut parameter = json!({ "datasource": self.name });
        for (key, value) in more.iter().filter(|(key, _)| plugin.knows(key)) {
            parameter[*key] = value.clone();
        }
        job::endpoint(plugin.name, parameter, side, self.options)
    }

    /// What a reader finds, and the first table of the catalogue.
    async fn reader(&self, plugin: &Plugin) -> Result<(Vec<Check>, Option<String>), Faults> {
        let mut checks = Vec::new();
        let mut table = None;
        let bare = self.endpoint(plugin, Side::Reader, &[])?;
        match bare.open_catalog(Handle::current(), self.cancel.clone()) {
            Ok(catalog) => match catalog.tables(None).await {
                Err(error) => return Ok((vec![Check::fault(CONNECT, error.full())], None)),
                Ok(tables) => {
                    checks.push(Check::ok(CONNECT, "the system answers, and the credentials are right"));
                    checks.push(match tables.len() {
                        0 => Check::warning(
                            "tables",
                            "none is visible: the login may lack privileges, or there are none",
                        ),
                        n => Check::ok("tables", format!("{n} can be seen")),
                    });
                    table = tables.iter().find(|t| t.kind == "table").or(tables.first()).map(|t| t.name.clone());
                }
            },
            Err(error) if error.kind() == ErrorKind::Unsupported => {}
            Err(error) => return Err(Faults::one("", error.message())),
        }
        if plugin.knows("table") && table.is_none() {
            return Ok((checks, None));
        }
        let more: Vec<_> = table.iter().map(|table| ("table", json!(table))).collect();
        match self.endpoint(plugin, Side::Reader, &more)?.open_reader(&self.context()) {
            Ok(reader) => checks.extend(reader.check().await),
            Err(error) => checks.push(of_a_job("read", error.message())),
        }
        Ok((checks, table))
    }

    /// What a writer finds at a table that is there and at one that is not.
    async fn writer(&self, plugin: &Plugin, table: Option<&str>) -> Result<Vec<Check>, Faults> {
        let mode = plugin.careful_mode().map(|mode| ("writeMode", json!(mode)));
        let tables: Vec<Option<&str>> = match plugin.knows("table") {
            true => table.map(Some).into_iter().chain([Some(NEW_TABLE)]).collect(),
            false => vec![None],
        };
        let mut checks: Vec<Check> = Vec::new();
        for table in tables {
            let mut more: Vec<_> = mode.iter().cloned().collect();
            more.extend(table.map(|table| ("table", json!(table))));
            more.extend((table == Some(NEW_TABLE)).then(|| ("createTable", json!(true))));
            let found = match self.endpoint(plugin, Side::Writer, &more)?.open_writer(&self.context()) {
                Ok(writer) => writer.check().await,
                Err(error) => vec![of_a_job("write", error.message())],
            };
            for check in found {
                if !checks.iter().any(|known| known.what == check.what && known.detail == check.detail) {
                    checks.push(check);
                }
            }
        }
        Ok(checks)
    }
}

/// A source need not say all that a job says.
fn of_a_job(what: &str, message: &str) -> Check {
    Check::warning(what, format!("a job has to say more than the data source does, so check that ({message})"))
}
