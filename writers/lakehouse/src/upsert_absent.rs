//! The stand-in for `upsert` in a build without DataFusion; the configuration refuses the mode before this is reached.

use deltalake::kernel::Add;
use weir_core::{Error, ErrorKind, Result};

use crate::commit::Fault;
use crate::publish::Publication;

/// What a merge did.
pub(crate) struct Merged {
    pub(crate) version: u64,
    pub(crate) updated: usize,
    pub(crate) inserted: usize,
}

/// Refuses.
pub(crate) async fn merge(_: &Publication, _: &[Add], _: Option<i64>) -> Result<Merged, Fault> {
    Err(refused().into())
}

/// Refuses.
pub(crate) async fn first(_: &Publication, _: &[Add]) -> Result<(Vec<Add>, u64)> {
    Err(refused())
}

/// Refuses.
pub(crate) async fn ensure_distinct(_: &Publication, _: &[Add]) -> Result<()> {
    Err(refused())
}

fn refused() -> Error {
    Error::new(ErrorKind::Unsupported, crate::config::NO_UPSERT)
}
