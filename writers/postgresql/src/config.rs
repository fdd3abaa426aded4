//! Parameters.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_postgresql::TlsConfig;
use weir_sql::WriterConfig;

/// Parameters of the PostgreSQL writer.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct PostgresqlWriterConfig {
    /// What every relational writer has.
    #[serde(flatten)]
    pub common: WriterConfig,
    /// TLS.
    #[serde(flatten)]
    pub tls: TlsConfig,
}
