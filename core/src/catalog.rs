//! Looking around in a system: optional for sources and targets.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::Result;

/// Lists what a system holds, for `weir tables` and whole-database jobs.
#[async_trait]
pub trait Catalog: Send + Sync {
    /// Tables and views that the user may see, in name order, system schemas and Weir's own `weir_*` tables left out.
    /// `pattern` is a glob over the name as [`TableInfo::name`] shows it (`*` any text, `?` one character).
    async fn tables(&self, pattern: Option<&str>) -> Result<Vec<TableInfo>>;
}

/// A table as a catalogue lists it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableInfo {
    /// The name as a job may write it: `orders`, `public.orders`.
    pub name: String,
    /// `table`, `view`, `materialized view`, `file` …
    pub kind: String,
    /// Estimated rows.
    pub rows: Option<u64>,
    /// Estimated bytes on disk.
    pub bytes: Option<u64>,
}
