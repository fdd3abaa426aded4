//! Parameters.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_postgresql::TlsConfig;
use weir_sql::ReaderConfig;

/// Parameters of the PostgreSQL reader.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct PostgresqlReaderConfig {
    /// What every relational reader has.
    #[serde(flatten)]
    pub common: ReaderConfig,
    /// Reads tables without the rows of those that inherit from them, as SQL's `ONLY` does. On in whole-database jobs, which
    /// read these tables too; off by default. Partitions always belong to their table.
    pub only: Option<bool>,
    /// TLS.
    #[serde(flatten)]
    pub tls: TlsConfig,
}
