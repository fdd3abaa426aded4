//! The writer's parameters.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_sql::WriterConfig;
use weir_sqlserver::TlsConfig;

/// Parameters of the SQL Server writer.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct SqlServerWriterConfig {
    /// What all relational writers have.
    #[serde(flatten)]
    pub common: WriterConfig,
    /// Encryption.
    #[serde(flatten)]
    pub tls: TlsConfig,
}
