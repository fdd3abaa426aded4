//! The parameters of the lakehouse reader.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_core::config::OneOrMany;
use weir_lakehouse::LocationConfig;

/// Parameters of the lakehouse reader.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {
    /// Where the table is.
    #[serde(flatten)]
    pub location: LocationConfig,
    /// The version to read; by default the newest one when the run begins.
    pub version: Option<u64>,
    /// The columns in order; `*` or none for all. What is no column is an SQL expression over the columns, or a constant:
    /// `now()`, `1`, `upper(name)`.
    pub column: OneOrMany<String>,
    /// A SQL condition for the rows to read, without the word WHERE.
    #[serde(rename = "where")]
    pub condition: Option<String>,
}
