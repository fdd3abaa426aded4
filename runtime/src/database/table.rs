//! One table of a whole-database job.

use serde::{Deserialize, Serialize};
use weir_core::incremental::IncrementalConfig;
use weir_core::{Error, ErrorKind, ObjectName, Reference, TableDescription, TargetName, UniqueKey, WriteMode};

use super::config::RulesConfig;
use super::merge::OriginColumn;
use super::references::Referrer;
use super::select::Found;

/// The most tables that a warning names.
const NAMED: usize = 6;

/// What to do about the rows of a merge that have one key.
const SAME_KEYS: &str = "the tables of a merge may have keys in common: with `\"origin\": true` where a row comes from is part \
                         of its key";

/// What an entry of a whole-database job knows beside its source and its target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableJob {
    /// The target table: its text names the table in reports, `--tables` and the run's handle.
    pub target: TargetName,
    /// The source tables: one, or those that are merged, in the order of the reader's tables.
    pub sources: Vec<TableSource>,
    /// Whether it is a merge of the job, of however many tables today.
    #[serde(default)]
    pub merged: bool,
    /// How rows meet what the target holds.
    pub mode: WriteMode,
    /// The columns by which rows are told apart, by their names at the target; empty for a keyless table.
    pub key: Vec<String>,
    /// The columns that are read, as (name at the source, name at the target).
    pub columns: Vec<(String, String)>,
    /// Whether these are all columns of the source, under their own names.
    pub all_columns: bool,
    /// In a merge with `origin`: the columns that say where a row comes from.
    #[serde(default)]
    pub origin: Vec<OriginColumn>,
    /// A condition for the rows to read.
    #[serde(default)]
    pub condition: Option<String>,
    /// The column by which it is cut.
    #[serde(default)]
    pub split_key: Option<String>,
    /// How only what is new is read, where it is.
    #[serde(default)]
    pub incremental: Option<IncrementalConfig>,
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
    /// Its foreign keys onto tables of the job, in the target's names.
    #[serde(default)]
    pub references: Vec<Reference>,
    /// Foreign keys onto it of tables of the job that the run leaves out.
    #[serde(default)]
    pub referrers: Vec<Referrer>,
}

/// A source table.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableSource {
    /// Which of the job's sources, from 0.
    pub source: usize,
    /// Its name there.
    pub name: ObjectName,
}

impl From<&Found> for TableSource {
    fn from(found: &Found) -> Self {
        Self { source: found.source, name: found.object.name.clone() }
    }
}

/// A table that cannot be moved, known before anything is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FailedTable {
    /// The source table, or the merge.
    pub source: String,
    /// The target, as far as it is known.
    pub target: String,
    /// What kind of fault it is.
    pub kind: ErrorKind,
    /// Why.
    pub reason: String,
    /// The source tables, where there are any.
    #[serde(skip)]
    pub sources: Vec<TableSource>,
}

impl FailedTable {
    /// A table that was decided about, and cannot be moved all the same.
    pub fn of(table: &TableJob, (kind, reason): (ErrorKind, String)) -> Self {
        let (source, target, sources) = (table.source(), table.target.to_string(), table.sources.clone());
        Self { source, target, kind, reason, sources }
    }
}

impl TableJob {
    /// Whether the table is made of several, or was and may be again: it has no keys, numbers and references of its own, for
    /// each of its tables has others.
    pub fn is_merge(&self) -> bool {
        self.merged || self.sources.len() > 1
    }

    /// Whether the key is one by which the source itself tells its rows apart.
    pub fn has_own_key(&self) -> bool {
        let covered = |own: &[String]| !own.is_empty() && own.iter().all(|name| self.key.contains(name));
        let certain = |name: &String| self.described.column(name).is_some_and(|column| !column.nullable);
        let unique = |own: &UniqueKey| covered(&own.columns) && own.columns.iter().all(certain);
        !self.is_merge() && (covered(&self.described.primary_key) || self.described.unique.iter().any(unique))
    }

    /// An error of the table with the way out, where rows of several tables that it is made of may have one key.
    pub(crate) fn advised(&self, error: Error) -> Error {
        if self.sources.len() < 2
            || !self.origin.is_empty()
            || !matches!(error.kind(), ErrorKind::Data | ErrorKind::DirtyLimit)
        {
            return error;
        }
        // A dirty row has its reason in the target's own words, and these are what they have in common.
        let said = error.full().to_lowercase();
        let of_keys = ["key", "unique"].iter().any(|word| said.contains(word)) && !said.contains("foreign");
        if of_keys { error.and(SAME_KEYS) } else { error }
    }

    /// The source tables as people read them: `shop.orders`, `shop_0.orders_00 and 63 more`.
    pub fn source(&self) -> String {
        let first = self.sources.first().map(|source| source.name.to_string()).unwrap_or_default();
        match self.sources.len() {
            0 | 1 => first,
            n => format!("{first} and {} more", n - 1),
        }
    }
}

/// Names of tables for a warning: not all of very many.
pub(super) fn some_of(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_rows_of_a_merge_that_may_share_a_key_are_told_of_origin() {
        let source = |name| json!({"source": 0, "name": {"database": "d", "table": name}});
        let described =
            json!({"name": {"database": "d", "table": "a"}, "kind": "table", "columns": [], "primary_key": []});
        let table = json!({
            "target": {"schema": null, "table": "t"}, "sources": [source("a"), source("b")], "merged": true,
            "mode": "overwrite", "key": ["id"], "columns": [], "all_columns": true, "group": 0, "rows": null,
            "bytes": null, "rules": RulesConfig::default(), "described": described,
        });
        let merge: TableJob = serde_json::from_value(table).unwrap();
        let told =
            |table: &TableJob, kind, text: &str| table.advised(Error::new(kind, text)).message().contains("origin");
        let twice = "Duplicate entry '1' for key 'PRIMARY'";
        assert!(told(&merge, ErrorKind::DirtyLimit, twice));
        assert!(told(&merge, ErrorKind::Data, "the input holds a key more than once"));
        assert!(!told(&merge, ErrorKind::DirtyLimit, "the value is too long"));
        assert!(!told(&merge, ErrorKind::DirtyLimit, "a foreign key constraint fails"));
        assert!(!told(&merge, ErrorKind::Denied, twice));
        let single = TableJob { sources: merge.sources[..1].to_vec(), ..merge };
        assert!(!told(&single, ErrorKind::DirtyLimit, twice));
    }
}
