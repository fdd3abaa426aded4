//! The stand-in for `upsert` in a build without DataFusion; the configuration refuses the mode before this is reached.

use deltalake::DeltaTable;
use deltalake::kernel::Add;
use deltalake::logstore::LogStoreRef;
use weir_core::{Error, ErrorKind, Result, WritePlan};

/// What a merge did.
pub(crate) struct Merged {
    pub(crate) version: u64,
    pub(crate) updated: usize,
    pub(crate) inserted: usize,
}

/// Refuses.
pub(crate) async fn merge(_: DeltaTable, _: &WritePlan, _: &[Add]) -> Result<Merged> {
    Err(refused())
}

/// Refuses.
pub(crate) async fn first(_: &LogStoreRef, _: &WritePlan, _: &[Add]) -> Result<(Vec<Add>, u64)> {
    Err(refused())
}

fn refused() -> Error {
    Error::new(ErrorKind::Unsupported, crate::config::NO_UPSERT)
}
