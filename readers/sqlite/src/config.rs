//! The parameters.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_sql::ReaderConfig;

/// Parameters of the SQLite reader.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct SqliteReaderConfig {
    /// What every relational reader has.
    #[serde(flatten)]
    pub common: ReaderConfig,
    /// What whole numbers mean in columns declared as DATE, DATETIME or TIMESTAMP: `seconds` since 1970 as in SQLite's
    /// own functions, `milliseconds` as the JDBC driver stores them, or `reject`.
    pub integer_times: IntegerTimes,
    /// Whether all splits see the file at one moment: `auto` wherever it can be had, `snapshot` or else the run is refused,
    /// `none`, where each split sees the file as it is when it is read. A file that is not in WAL mode cannot be written
    /// by other programs while its moment is held.
    pub consistency: Consistency,
}

/// Whether all splits see one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Consistency {
    /// Where it can be had.
    #[default]
    Auto,
    /// They must.
    Snapshot,
    /// They need not.
    None,
}

/// The unit of times that are stored as whole numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum IntegerTimes {
    /// Seconds since 1970.
    #[default]
    Seconds,
    /// Milliseconds since 1970.
    Milliseconds,
    /// Such a row is dirty.
    Reject,
}
