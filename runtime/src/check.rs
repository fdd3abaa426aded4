//! `weir check`: connectivity, credentials and privileges of both ends, without moving a row.

use serde::Serialize;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use weir_core::{Check, ConnectorContext, Result};

use crate::entry::open_all;
use crate::job::{Endpoint, Job};

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

/// Looks at both ends of every entry. A fault is a line, not an error; only faults of the job file are errors.
pub async fn check(job: &Job, cancel: CancellationToken) -> Result<Vec<EndCheck>> {
    let context = |endpoint: &Endpoint| ConnectorContext {
        cancel: cancel.clone(),
        io: Handle::current(),
        form: endpoint.form,
        time_zone: job.at.timezone(),
        shared: Default::default(),
    };
    if let Some(entry) = job.entries.first() {
        open_all(job, &context(&entry.reader))?;
    }
    let mut found = Vec::new();
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
