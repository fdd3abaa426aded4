//! The record of a run at the table: for each finished split one small file with its receipt, in `_weir/RUN` below the
//! table's folder, which Delta does not look at.

use bytes::Bytes;
use deltalake::ObjectStoreError;
use deltalake::logstore::ObjectStoreRef;
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutMode, PutOptions};
use weir_core::{Error, ErrorKind, Receipt, Result, WritePlan};
use weir_lakehouse::delta_error;

use crate::plan::staging;

/// Keeps the receipt, for good when this returns. Its data files are complete and durable before.
///
/// # Errors
/// [`Conflict`](ErrorKind::Conflict) when another attempt was first: its record stands.
pub(crate) async fn keep(store: &ObjectStoreRef, plan: &WritePlan, receipt: &Receipt) -> Result<()> {
    let path = Path::from(format!("{}/split-{}.json", staging(plan), receipt.split));
    let bytes =
        serde_json::to_vec(receipt).map_err(|e| Error::internal("a receipt cannot be written down").because(e))?;
    let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    let bytes = Bytes::from(bytes);
    match store.put_opts(&path, bytes.clone().into(), create).await {
        Ok(_) => Ok(()),
        // This very record, where its answer was lost and the request was sent again: no other has its files' names.
        Err(ObjectStoreError::AlreadyExists { .. } | ObjectStoreError::Precondition { .. })
            if content(store, &path).await?.is_some_and(|there| there == bytes) =>
        {
            Ok(())
        }
        Err(ObjectStoreError::AlreadyExists { .. } | ObjectStoreError::Precondition { .. }) => {
            Err(Error::new(ErrorKind::Conflict, "another attempt finished the split first"))
        }
        Err(error) => Err(delta_error(error.into())),
    }
}

/// What a file of the run's folder holds; `None` when it is not there.
async fn content(store: &ObjectStoreRef, path: &Path) -> Result<Option<Bytes>> {
    let failed = |e: ObjectStoreError| delta_error(e.into()).with("file", path);
    match store.get(path).await {
        Ok(found) => found.bytes().await.map(Some).map_err(failed),
        Err(ObjectStoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// The receipts that were kept.
pub(crate) async fn kept(store: &ObjectStoreRef, plan: &WritePlan) -> Result<Vec<Receipt>> {
    let mut receipts = Vec::new();
    for path in list(store, plan).await?.into_iter().filter(is_record) {
        // Forgotten meanwhile, where there is nothing.
        let Some(bytes) = content(store, &path).await? else { continue };
        receipts.push(serde_json::from_slice(&bytes).map_err(|e| {
            let message = "the record of a split is damaged: start the job anew with --fresh";
            Error::new(ErrorKind::Data, message).with("file", &path).because(e)
        })?);
    }
    Ok(receipts)
}

/// All that lies in the run's folder: records, and the staged files of an upsert.
pub(crate) async fn list(store: &ObjectStoreRef, plan: &WritePlan) -> Result<Vec<Path>> {
    match store.list_with_delimiter(Some(&Path::from(staging(plan)))).await {
        Ok(listed) => Ok(listed.objects.into_iter().map(|object| object.location).collect()),
        Err(ObjectStoreError::NotFound { .. }) => Ok(Vec::new()),
        Err(error) => Err(delta_error(error.into())),
    }
}

/// Whether a split of the run is recorded.
pub(crate) async fn is_any(store: &ObjectStoreRef, plan: &WritePlan) -> Result<bool> {
    Ok(list(store, plan).await?.iter().any(is_record))
}

/// Whether a file of the run's folder is a record.
pub(crate) fn is_record(path: &Path) -> bool {
    path.filename().is_some_and(|name| name.starts_with("split-") && name.ends_with(".json"))
}
