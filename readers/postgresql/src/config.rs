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
    /// TLS.
    #[serde(flatten)]
    pub tls: TlsConfig,
}
