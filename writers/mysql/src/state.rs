//! What a plan carries from the planner to tasks and commit.

use serde::{Deserialize, Serialize};
use weir_core::{Error, Result, WritePlan};
use weir_mysql::Kind;
use weir_sql::TableName;

/// The writer's own words in a plan: [`WritePlan::state`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The target.
    pub(crate) table: TableName,
    /// Creates the target.
    pub(crate) create: Option<String>,
    /// The table that rows go to until the job commits.
    pub(crate) staging: Option<TableName>,
    /// Makes the staging table.
    pub(crate) stage: Vec<String>,
    /// A table that tells a second call what the first one did: it exists from preSql until all is done, and holds a
    /// row once rows are published.
    pub(crate) marker: Option<TableName>,
    /// The target's types, in the order of the batches.
    pub(crate) types: Vec<String>,
    /// Whether batches go as LOAD DATA LOCAL.
    pub(crate) load: bool,
    /// The most bytes of a statement.
    pub(crate) max_packet: u64,
    /// A column that an `ON DUPLICATE KEY UPDATE` may set to itself.
    pub(crate) same: String,
    /// Whether the server may round fractions of seconds.
    pub(crate) cast: bool,
}

impl State {
    /// Reads it back.
    pub(crate) fn of(plan: &WritePlan) -> Result<Self> {
        Self::deserialize(&plan.state).map_err(|e| Error::internal("the plan is none of this writer's").because(e))
    }

    /// Where tasks write.
    pub(crate) fn written_table(&self) -> &TableName {
        self.staging.as_ref().unwrap_or(&self.table)
    }

    pub(crate) fn kinds(&self) -> Vec<Kind> {
        self.types.iter().map(|t| Kind::parse(t)).collect()
    }
}

/// The split's number in a staging table.
pub(crate) const SPLIT: &str = "weir_split";
/// The row's number in its split, in an upsert's staging table.
pub(crate) const ROW: &str = "weir_row";

/// A name for one of Weir's own tables, at most 64 characters, the same for every call of a run.
pub(crate) fn own_name(run_id: &str, table: &TableName, suffix: char) -> String {
    let run: String = run_id.chars().filter(char::is_ascii_alphanumeric).collect();
    let run = if run.len() <= 32 && !run.is_empty() { run } else { format!("{:016x}", fnv(run_id)) };
    // A job of several tables has one run.
    format!("weir_{}_{:016x}_{suffix}", run.to_lowercase(), fnv(&table.to_string()))
}

fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_names_are_short_and_differ_by_table() {
        let name = |run: &str, table: &str| own_name(run, &TableName::bare(table), 's');
        assert_eq!(name("0197f2c0-aaaa-7bbb-8ccc-ddddeeeeffff", "a").len(), 5 + 32 + 1 + 16 + 2);
        assert_ne!(name("r", "a"), name("r", "b"));
        assert!(name(&"x".repeat(500), "a").len() <= 64);
    }
}
