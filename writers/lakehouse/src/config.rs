//! The parameters of the lakehouse writer.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_core::config::OneOrMany;
use weir_core::{Faults, OnEmpty, WriteMode};
use weir_lakehouse::{LocationConfig, unquoted};
use weir_sql::DuplicateKeys;

pub(crate) const NO_UPSERT: &str =
    "this build cannot upsert into a lakehouse table: build with the feature `datafusion`, or use append or overwrite";
const NO_COMPARING: &str =
    "this build cannot compare the keys of a lakehouse table's rows: build with the feature `datafusion`";

/// Parameters of the lakehouse writer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {
    /// Where the table is.
    #[serde(flatten)]
    pub location: LocationConfig,
    /// The columns to write, in order; `*` or none for all.
    pub column: OneOrMany<String>,
    /// append (the default), overwrite (the whole table, or the one partition that `partition` names) or upsert.
    pub write_mode: Option<WriteMode>,
    /// Constant values of partition columns, `{"pt": "${bizdate}"}`. The source need not have these columns; a row that
    /// has another value there is dirty. With overwrite, just this partition is replaced.
    pub partition: BTreeMap<String, String>,
    /// The columns by which a new table is partitioned, after those of `partition`.
    pub partition_by: OneOrMany<String>,
    /// The key columns of an upsert, or of a look for rows of equal keys; by default the key that the table's columns had at
    /// their source.
    pub key: OneOrMany<String>,
    /// What an upsert does when the input holds a key more than once: `last` keeps the row that comes last, in the order
    /// of splits and of rows within a split; `error` fails the job before anything is published. With overwrite and append
    /// `error` means the same of the rows that the job brings, and `last` that nobody looks.
    pub duplicate_keys: DuplicateKeys,
    /// How many bytes an upsert's merge may hold in memory before it goes on on disk, in the folder for temporary files.
    #[schemars(range(min = 16_777_216))]
    pub merge_memory: Option<u64>,
    /// Whether to create the table when it is missing. On by default.
    pub create_table: Option<bool>,
    /// What an overwrite does when the source is empty: overwrite, keep or error.
    pub on_empty: OnEmpty,
    /// About how many bytes a data file should have.
    #[schemars(range(min = 1))]
    pub target_file_size: Option<u64>,
}

impl Config {
    /// The mode.
    pub fn mode(&self) -> WriteMode {
        self.write_mode.unwrap_or(WriteMode::Append)
    }

    /// Whether rows are compared by their keys.
    pub(crate) fn compares_keys(&self) -> bool {
        self.mode() == WriteMode::Upsert || self.duplicate_keys == DuplicateKeys::Error
    }

    /// Rules across parameters.
    ///
    /// # Errors
    /// A mode that Delta does not have, a key that nobody compares.
    pub fn check(&self) -> Result<(), Faults> {
        let mut faults = Faults::default();
        let mode = self.mode();
        if matches!(mode, WriteMode::Replace | WriteMode::Ignore) {
            let message =
                format!("a lakehouse table cannot be written with `{}`: use append, overwrite or upsert", mode.name());
            faults.add("/writeMode", message);
        }
        if mode == WriteMode::Upsert && cfg!(not(feature = "datafusion")) {
            faults.add("/writeMode", NO_UPSERT);
        }
        if self.duplicate_keys == DuplicateKeys::Error && cfg!(not(feature = "datafusion")) {
            faults.add("/duplicateKeys", NO_COMPARING);
        }
        if !self.key.is_empty() && !self.compares_keys() {
            faults.add("/key", "`key` is for writeMode upsert, and for `duplicateKeys` error");
        }
        let constant = |name: &&String| self.partition.keys().any(|c| unquoted(c) == unquoted(name));
        if let Some(column) = self.partition_by.as_slice().iter().find(constant) {
            faults.add("/partitionBy", format!("`{column}` stands in `partition` already: name it once"));
        }
        faults.or(())
    }
}
