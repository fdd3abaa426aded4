//! What a plan carries from the planner to tasks and commit.

use serde::{Deserialize, Serialize};
use weir_core::{DuplicateKeys, Error, OnEmpty, Result, WritePlan};
use weir_sql::{Commits, TableName};
use weir_sqlserver::Kind;

/// The writer's own words in a plan: [`WritePlan::state`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The target.
    pub(crate) table: TableName,
    /// The schema to make before it, where that is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) create_schema: Option<String>,
    /// Creates the target.
    pub(crate) create: Option<String>,
    /// What a target that was just created gets besides: comments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) details: Vec<String>,
    /// The table that rows go to until the job commits.
    pub(crate) staging: Option<TableName>,
    /// Makes the staging table.
    pub(crate) stage: Option<String>,
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
    /// The written columns, in the order of the batches.
    pub(crate) columns: Vec<Written>,
    /// Whether one of them is numbered by the server.
    pub(crate) identity: bool,
    /// Whether an overwrite by key makes a row anew that has another number.
    #[serde(default)]
    pub(crate) renumbers: bool,
    /// Whether the server is Babelfish.
    pub(crate) babelfish: bool,
    /// Whether bulk loads go straight into the table.
    pub(crate) straight: bool,
    /// Whether values may be rounded to what their column holds.
    pub(crate) cast: bool,
    /// What is done with rows of equal keys. Tables that are published together may differ in it.
    #[serde(default)]
    pub(crate) duplicate_keys: DuplicateKeys,
    /// What an overwrite does when nothing came.
    #[serde(default)]
    pub(crate) on_empty: OnEmpty,
}

/// A written column of the target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Written {
    /// The type.
    #[serde(rename = "type")]
    pub(crate) type_text: String,
    /// The collation of a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) collation: Option<String>,
    /// Whether it takes NULL.
    pub(crate) nullable: bool,
    /// Whether the server numbers it.
    #[serde(default)]
    pub(crate) identity: bool,
}

impl Written {
    pub(crate) fn kind(&self) -> Kind {
        Kind::parse(&self.type_text)
    }

    /// The column's type in a staging table: `nvarchar(5) COLLATE x NOT NULL`.
    pub(crate) fn ddl(&self) -> String {
        let mut text = self.type_text.clone();
        if let (true, Some(collation)) = (self.kind().is_text(), &self.collation) {
            text.push_str(&format!(" COLLATE {collation}"));
        }
        text.push_str(if self.nullable { " NULL" } else { " NOT NULL" });
        text
    }
}

/// How staged rows get into the target, always in one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Publish {
    /// Nothing is staged.
    None,
    /// `INSERT … SELECT`.
    Insert,
    /// `DELETE`, then `INSERT … SELECT`.
    Replace,
    /// By this key: delete what is missing, update what is there, insert the rest. Rows that foreign keys refer to stay
    /// where they are.
    Diff(Vec<String>),
    /// `UPDATE … FROM`, then `INSERT … WHERE NOT EXISTS`.
    Upsert {
        /// Those of the plan's keys that may be NULL.
        nullable: Vec<String>,
    },
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
}

/// The split's number in a staging table.
pub(crate) const SPLIT: &str = "weir_split";
/// The row's number in its split, in staging tables that do not replace the target's rows.
pub(crate) const ROW: &str = "weir_row";
