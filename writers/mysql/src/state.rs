//! What a plan carries from the planner to tasks and commit.

use serde::{Deserialize, Serialize};
use weir_core::{DuplicateKeys, Error, OnEmpty, Result, WritePlan};
use weir_mysql::Kind;
use weir_sql::{Commits, TableName};

/// The writer's own words in a plan: [`WritePlan::state`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The target.
    pub(crate) table: TableName,
    /// The database to create before anything else.
    #[serde(default)]
    pub(crate) create_database: Option<String>,
    /// Creates the target.
    pub(crate) create: Option<String>,
    /// The name of the run's own under which it is created, to be renamed then; `None` where it is created as what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) created_as: Option<TableName>,
    /// The table that rows go to until the job commits.
    pub(crate) staging: Option<TableName>,
    /// Makes the staging table.
    pub(crate) stage: Vec<String>,
    /// The target's record of the run; `None` where the job does without.
    pub(crate) commits: Option<Commits>,
    /// How staged rows get into the target.
    pub(crate) publish: Publish,
    /// The target's keys of which staged rows of an append may have none that a row of the target has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) taken: Vec<Vec<String>>,
    /// The tables whose foreign keys refer to the target, as their plans name them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) referenced_by: Vec<String>,
    /// The columns that tie rows of the target to each other, where they are written without them and get them last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) ties: Vec<String>,
    /// Whether the job's own preSql may alter the target.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) alters: bool,
    /// The target's types, in the order of the batches.
    pub(crate) types: Vec<String>,
    /// Whether batches go as LOAD DATA LOCAL.
    pub(crate) load: bool,
    /// Whether each row goes by itself, for the table's engine cannot take a statement back.
    pub(crate) row_by_row: bool,
    /// The most bytes of a statement.
    pub(crate) max_packet: u64,
    /// A column that an `ON DUPLICATE KEY UPDATE` may set to itself.
    pub(crate) same: String,
    /// Whether the server may round fractions of seconds.
    pub(crate) cast: bool,
    /// What is done with rows of equal keys. Tables that are published together may differ in it.
    #[serde(default)]
    pub(crate) duplicate_keys: DuplicateKeys,
    /// What an overwrite does when nothing came.
    #[serde(default)]
    pub(crate) on_empty: OnEmpty,
}

/// How staged rows get into the target, always in one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Publish {
    /// Nothing is staged.
    None,
    /// `INSERT … SELECT`.
    Insert,
    /// `INSERT … SELECT` of rows that are tied to each other, then by this key `UPDATE … JOIN` of what ties them.
    InsertTied(Vec<String>),
    /// `INSERT … SELECT … ON DUPLICATE KEY UPDATE` that changes nothing: rows whose key exists are skipped and counted.
    InsertMissing,
    /// `REPLACE … SELECT`.
    ReplaceEqual,
    /// `DELETE`, then `INSERT … SELECT`.
    Replace,
    /// By this key: delete what is missing, update what is there, insert the rest. Rows that foreign keys refer to stay
    /// where they are.
    Diff(Vec<String>),
    /// `INSERT … SELECT … ON DUPLICATE KEY UPDATE`, for tables with no unique key but the plan's.
    OnDuplicate,
    /// `UPDATE … JOIN`, then `INSERT` of the rows without a partner. The key columns that may be NULL, which equals
    /// nothing.
    Join {
        /// Those of the plan's keys that may be NULL.
        nullable: Vec<String>,
    },
}

impl Publish {
    /// Whether rows can do without what ties them to each other until all are there.
    pub(crate) fn unties(&self) -> bool {
        matches!(self, Self::InsertTied(_) | Self::Diff(_) | Self::Join { .. })
    }
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
/// The row's number in its split, in staging tables that do not replace the target's rows.
pub(crate) const ROW: &str = "weir_row";
