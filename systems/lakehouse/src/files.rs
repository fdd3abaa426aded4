//! The data files of one version of a table.

use std::collections::{BTreeMap, HashSet};

use deltalake::DeltaTable;
use serde::{Deserialize, Serialize};
use weir_core::{Error, ErrorKind, Result};

use crate::error::delta_error;

/// One data file, as much of it as reading needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataFile {
    /// The path below the table's folder.
    pub path: String,
    /// Its length.
    pub size: u64,
    /// Its rows, where the log says so.
    pub rows: Option<u64>,
    /// The partition it belongs to, values as the log writes them.
    pub partition: BTreeMap<String, Option<String>>,
}

/// Refuses tables whose files hold other rows or columns than they seem to.
///
/// # Errors
/// [`Unsupported`](ErrorKind::Unsupported), naming the feature and a way out.
pub fn ensure_readable(table: &DeltaTable) -> Result<()> {
    let snapshot = table.snapshot().map_err(delta_error)?;
    let configuration = snapshot.metadata().configuration();
    let mapping = configuration.get("delta.columnMapping.mode").map(String::as_str).unwrap_or("none");
    if mapping != "none" {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "the table uses column mapping (mode {mapping}), which is not supported: copy it into a table without"
            ),
        ));
    }
    Ok(())
}

/// Refuses tables with rules that only a query engine can keep.
///
/// # Errors
/// [`Unsupported`](ErrorKind::Unsupported), naming the rule; also those of [`ensure_readable`].
pub fn ensure_writable(table: &DeltaTable) -> Result<()> {
    ensure_readable(table)?;
    let snapshot = table.snapshot().map_err(delta_error)?;
    let constraint = snapshot.metadata().configuration().keys().find(|k| k.starts_with("delta.constraints."));
    let rule = constraint.map(|key| format!("the constraint {key}")).or_else(|| {
        snapshot.schema().fields().find_map(|field| {
            let rules = ["delta.invariants", "delta.generationExpression", "delta.identity.start"];
            let rule = rules.iter().find(|rule| field.metadata.contains_key(**rule))?;
            Some(format!("the rule {rule} on column `{}`", field.name))
        })
    });
    match rule {
        None => Ok(()),
        Some(rule) => {
            let message = format!("the table has {rule}, which is not checked here: write to a table without it");
            Err(Error::new(ErrorKind::Unsupported, message))
        }
    }
}

/// The files of the loaded version.
///
/// # Errors
/// [`Unsupported`](ErrorKind::Unsupported) for a file with a deletion vector, as its rows are not all alive.
pub fn active_files(table: &DeltaTable) -> Result<Vec<DataFile>> {
    ensure_readable(table)?;
    let snapshot = table.snapshot().map_err(delta_error)?;
    let mut files = Vec::new();
    let mut seen = HashSet::new();
    for view in snapshot.log_data().iter() {
        let path = view.path().into_owned();
        if view.deletion_vector_descriptor().is_some() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the table uses deletion vectors, which are not supported: \
                 rewrite it first (REORG TABLE … APPLY (PURGE), or set delta.enableDeletionVectors to false and rewrite)",
            )
            .with("file", path));
        }
        if path.contains("://") || path.starts_with('/') {
            let message = "the table refers to files outside its folder (a shallow clone), which is not supported";
            return Err(Error::new(ErrorKind::Unsupported, message).with("file", path));
        }
        if seen.insert(path.clone()) {
            files.push(DataFile {
                path,
                size: u64::try_from(view.size()).unwrap_or(0),
                rows: view.num_records().map(|n| n as u64),
                partition: view.partition_values_map().into_iter().collect(),
            });
        }
    }
    // Log replay has no fixed order; a plan should.
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}
