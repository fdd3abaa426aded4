//! How to reach an object store.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_core::Secret;

/// Options of an object store. What is missing is taken from the usual `AWS_*` environment variables.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(inline)]
pub struct StoreOptions {
    /// The URL of an S3-compatible server, `http://127.0.0.1:9000`; by default Amazon's.
    pub endpoint: Option<String>,
    /// The region; `us-east-1` by default.
    pub region: Option<String>,
    /// The access key's id.
    pub access_key_id: Option<String>,
    /// The access key's secret. Write it as `${env:NAME}` or `${file:PATH}`.
    pub secret_access_key: Option<Secret>,
    /// A token for temporary credentials.
    pub session_token: Option<Secret>,
    /// Whether `http://` endpoints may be used. By default when `endpoint` says `http://`.
    pub allow_http: Option<bool>,
    /// Whether the bucket stands in the path and not in the host name. On by default, as most servers want it.
    pub path_style: Option<bool>,
    /// Whether requests go unsigned, for public buckets.
    pub anonymous: Option<bool>,
}
