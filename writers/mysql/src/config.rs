//! The writer's parameters.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_sql::WriterConfig;

/// Parameters of the MySQL writer.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct MySqlWriterConfig {
    /// What all relational writers have.
    #[serde(flatten)]
    pub common: WriterConfig,
    /// How the connection is encrypted: disabled, preferred (default), required, verify-ca or verify-identity.
    pub ssl_mode: Option<String>,
    /// A PEM file with the certificates that verify-ca and verify-identity trust.
    pub ssl_ca: Option<String>,
    /// Whether to send batches as LOAD DATA LOCAL; by default where the server allows it.
    pub load_data: Option<bool>,
}
