//! The parameters.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_sql::WriterConfig;

/// Parameters of the SQLite writer.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct SqliteWriterConfig {
    /// What every relational writer has.
    #[serde(flatten)]
    pub common: WriterConfig,
}
