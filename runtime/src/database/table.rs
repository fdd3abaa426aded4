//! One table of a whole-database job.

use serde::{Deserialize, Serialize};
use weir_core::{ObjectName, TableDescription, TargetName};

use super::config::RulesConfig;

/// What an entry of a whole-database job knows beside its source and its target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableJob {
    /// The target table: its text names the table in reports, `--tables` and the run's handle.
    pub target: TargetName,
    /// The source tables: one, or those that are merged.
    pub sources: Vec<TableSource>,
    /// The columns by which rows are told apart, by their names at the target; empty for a keyless table.
    pub key: Vec<String>,
    /// The group it runs in, from 0.
    pub group: usize,
    /// Estimated rows of all source tables.
    pub rows: Option<u64>,
    /// Estimated bytes of them.
    pub bytes: Option<u64>,
    /// What happens when the source's columns have changed.
    pub rules: RulesConfig,
    /// The structure of the source (of a merge: of its first table), columns by their names at the target and without those
    /// that the job leaves out.
    pub described: TableDescription,
}

/// A source table.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TableSource {
    /// Which of the job's sources, from 0.
    pub source: usize,
    /// Its name there.
    pub name: ObjectName,
}
