//! The job file of a whole database: `{"type": "database", …}`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use weir_core::WriteMode;
use weir_core::config::OneOrMany;
use weir_core::incremental::IncrementalConfig;

use super::incremental::TableIncremental;

/// A whole-database job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct DatabaseConfig {
    /// `database`: what kind of job this is.
    #[serde(rename = "type")]
    pub kind: String,
    /// The job's name; by default its file's path.
    pub name: Option<String>,
    /// What it is for, for people.
    pub description: Option<String>,
    /// Where the tables are: a database, or a list of them (shards on several servers).
    pub source: OneOrMany<EndConfig>,
    /// Where the tables go.
    pub target: EndConfig,
    /// Which tables.
    pub objects: ObjectsConfig,
    /// What they are called at the target.
    pub naming: NamingConfig,
    /// A column with one value for the whole run, by which the target tables are partitioned.
    pub partition: Option<PartitionConfig>,
    /// What happens when the source's tables have changed since the last run.
    pub rules: RulesConfig,
    /// How rows meet what the target holds.
    pub write: WriteConfig,
    /// Reads of each table that has one of these columns only what is new since the last run; tables without them are read
    /// as a whole.
    pub incremental: Option<IncrementalConfig>,
    /// Which tables run at the same time, and how hard they press on the source.
    pub group: GroupConfig,
    /// When tables become visible: `table` each as soon as it is moved, `all` of them together at the end of a run in which
    /// no table failed.
    pub publish: PublishConfig,
    /// What is different for single tables, by the names (patterns) of the source tables, or by the name of a merge as it
    /// stands in `into`. A name comes before a pattern, which holds for what the name does not say. Tables that are merged have no
    /// words of their own.
    pub tables: BTreeMap<String, TableConfig>,
    /// Limits and tolerances, as in other jobs. The error limit is each table's own.
    #[schemars(with = "Map<String, Value>")]
    pub setting: Value,
}

/// One end: a connector and its parameters, without tables.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct EndConfig {
    /// The connector.
    pub name: String,
    /// Its parameters; `datasource` may name a data source.
    #[schemars(with = "Map<String, Value>")]
    pub parameter: Value,
}

/// Which tables. A pattern has up to three parts, `database.schema.table` (MySQL: `database.table`); a part is a glob
/// (`*` any text, `?` one character), or a regular expression between slashes, `/orders_[0-9]+/`. Parts that are missing on
/// the left are the connection's own; a single dot between two expressions may have blanks or none around it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ObjectsConfig {
    /// The tables to take; by default all of the connection's database. A name without `*`, `?` or slashes that is not there
    /// is a fault of its own (see `rules.tableDeleted`).
    pub include: OneOrMany<String>,
    /// Tables to leave out again.
    pub exclude: OneOrMany<String>,
    /// Tables that become one.
    pub merge: OneOrMany<MergeConfig>,
    /// Whether views, foreign and virtual tables that the patterns select are taken too. Off by default: only what is named
    /// without `*`, `?` or slashes is taken whatever it is.
    pub views: bool,
}

/// Several tables of one structure that become one table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct MergeConfig {
    /// The target table: `table` or `schema.table`. It is not renamed by `naming.table`.
    pub into: String,
    /// Patterns of the source tables.
    pub from: OneOrMany<String>,
    /// Whether columns are added that say where a row comes from: `source_datasource` (with several sources),
    /// `source_database`, `source_schema` (where there are schemas) and `source_table`. They become part of the key, so that
    /// equal keys of two shards stay two rows.
    pub origin: bool,
}

/// Names at the target. An expression is text with `{SOURCE_DATASOURCE}`, `{SOURCE_DATABASE}`, `{SOURCE_SCHEMA}` (the database
/// where there are no schemas) and `{SOURCE_TABLE}`, besides the job's own parameters `${name}`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct NamingConfig {
    /// The namespace (a schema, a MySQL database, a folder): a fixed name or an expression; `{SOURCE_SCHEMA}` by default.
    /// `{TARGET_SCHEMA}` is the connection's own.
    pub schema: Option<String>,
    /// The table: an expression; `{SOURCE_TABLE}` by default.
    pub table: Option<String>,
    /// Whether names that the target does not take (too long, wrong characters) are altered until it does. Off by default:
    /// they are reported.
    pub fix: bool,
}

/// A column with one value for all rows of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PartitionConfig {
    /// The column.
    pub field: String,
    /// Its value, `${bizdate}` say.
    pub value: String,
}

/// What happens when tables have changed since the last run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RulesConfig {
    /// A column that the target does not have: `add` it (the default), `ignore` it, or an `error` of that table.
    pub column_added: ColumnAdded,
    /// A column of the target that the source has no more: `null` goes on with NULLs (the default), or an `error`.
    pub column_deleted: ColumnDeleted,
    /// A type that became wider inside its family: `widen` the target (the default), or an `error`.
    pub type_widened: TypeWidened,
    /// A table that is named in the job and gone at the source: `ignore` it (the default), or an `error`.
    pub table_deleted: TableDeleted,
    /// A table that the source has more than in the job's earlier runs: `add` it (the default), or `ignore` it.
    pub table_added: TableAdded,
}

/// See [`RulesConfig::column_added`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ColumnAdded {
    /// Add it to the target.
    #[default]
    Add,
    /// Leave it out.
    Ignore,
    /// The table fails.
    Error,
}

/// See [`RulesConfig::column_deleted`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ColumnDeleted {
    /// Write NULL; a column that takes none fails the table.
    #[default]
    Null,
    /// The table fails.
    Error,
}

/// See [`RulesConfig::type_widened`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TypeWidened {
    /// Widen the target's column.
    #[default]
    Widen,
    /// The table fails.
    Error,
}

/// See [`RulesConfig::table_deleted`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TableDeleted {
    /// Go on without it; the target's table stays as it is.
    #[default]
    Ignore,
    /// It counts as failed.
    Error,
}

/// See [`RulesConfig::table_added`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TableAdded {
    /// Create it.
    #[default]
    Add,
    /// Leave it out.
    Ignore,
}

/// Write modes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct WriteConfig {
    /// Tables with a key: `overwrite` (the default), `upsert` (which never deletes) or `append`.
    pub keyed: WriteMode,
    /// Tables without one: `overwrite` (the default) or `append`.
    pub unkeyed: WriteMode,
    /// Whether a table without a primary key goes by a unique key none of whose columns takes NULL. Off by default.
    pub unique_key: bool,
}

impl Default for WriteConfig {
    fn default() -> Self {
        Self { keyed: WriteMode::Overwrite, unkeyed: WriteMode::Overwrite, unique_key: false }
    }
}

/// How tables are grouped. Groups take turns; the tables of a group run together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct GroupConfig {
    /// `smart`: as many groups as run at once, with about equal bytes, largest tables first. `static`: `tablesPerGroup` tables
    /// a group, in the order of their names.
    pub strategy: GroupStrategy,
    /// How many tables make a static group: 4 by default.
    #[schemars(range(min = 1, max = 10_000))]
    pub tables_per_group: usize,
    /// The most connections that a group reads with: 4 by default.
    #[schemars(range(min = 1, max = 1_000))]
    pub max_source_connections: usize,
    /// How many groups run at once: 2 by default.
    #[schemars(range(min = 1, max = 1_000))]
    pub concurrent_groups: usize,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self { strategy: GroupStrategy::Smart, tables_per_group: 4, max_source_connections: 4, concurrent_groups: 2 }
    }
}

/// See [`GroupConfig::strategy`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum GroupStrategy {
    /// By size.
    #[default]
    Smart,
    /// By number.
    Static,
}

/// See [`DatabaseConfig::publish`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PublishConfig {
    /// Each table by itself.
    #[default]
    Table,
    /// All together.
    All,
}

/// What is different for one table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TableConfig {
    /// A condition in the source's words: only rows that meet it are read.
    #[serde(rename = "where")]
    pub filter: Option<String>,
    /// Columns that go by another name (`"nm": "name"`) or are left out (`"secret": false`); all others go as they are.
    pub columns: BTreeMap<String, ColumnConfig>,
    /// The write mode.
    pub write_mode: Option<WriteMode>,
    /// The key columns, by their source names: for an upsert, and for the table to be created.
    pub key: OneOrMany<String>,
    /// The column by which large tables are cut.
    pub split_pk: Option<String>,
    /// What is new of it: as for the job, or `false` to read it as a whole.
    pub incremental: Option<TableIncremental>,
    /// The target table, `table` or `schema.table`, whatever `naming` says.
    pub target: Option<String>,
}

/// What becomes of a column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum ColumnConfig {
    /// Whether it goes along.
    Taken(bool),
    /// Its name at the target.
    Name(String),
}
