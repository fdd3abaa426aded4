//! A data file in an object store, as the Parquet reader wants it.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use deltalake::logstore::object_store::{ObjectStore, ObjectStoreExt as _, path::Path};
use deltalake::parquet::arrow::arrow_reader::ArrowReaderOptions;
use deltalake::parquet::arrow::async_reader::AsyncFileReader;
use deltalake::parquet::errors::{ParquetError, Result};
use deltalake::parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use futures::FutureExt;
use futures::future::BoxFuture;
use weir_core::{Error, ErrorKind};
use weir_files::ParquetSource;

use crate::parquet_error;

/// One file of known length.
#[derive(Clone)]
pub(crate) struct StoredFile {
    store: Arc<dyn ObjectStore>,
    path: Path,
    size: u64,
    /// The version of the table that it is of, for messages.
    version: u64,
}

impl StoredFile {
    /// `size` is the length by the log; when the log does not say, the store is asked.
    pub(crate) async fn new(
        store: Arc<dyn ObjectStore>,
        path: Path,
        size: u64,
        version: u64,
    ) -> weir_core::Result<Self> {
        let mut file = Self { store, path, size, version };
        if size == 0 {
            let head = file.store.head(&file.path).await;
            file.size = head.map_err(|error| file.fault(external(error)))?.size;
        }
        Ok(file)
    }
}

impl ParquetSource for StoredFile {
    fn another(&self) -> weir_core::Result<Self> {
        Ok(self.clone())
    }

    async fn spooled(&self, ranges: Vec<Range<u64>>) -> weir_core::Result<File> {
        let read = |piece| {
            let mut file = self.clone();
            async move { file.get_bytes(piece).await.map_err(|error| file.fault(error)) }
        };
        weir_files::spooled(read, ranges).await
    }

    fn fault(&self, error: ParquetError) -> Error {
        if !is_missing(&error) {
            return parquet_error(error);
        }
        let message = format!(
            "a data file of version {} is gone: a VACUUM removed it, or somebody did; run the job anew to read the newest \
             version",
            self.version
        );
        Error::new(ErrorKind::NotFound, message).because(error)
    }
}

/// Whether the file is not there, as the store says it.
fn is_missing(error: &ParquetError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = match error {
        ParquetError::External(inner) => Some(inner.as_ref()),
        other => Some(other),
    };
    while let Some(error) = cause {
        if matches!(error.downcast_ref(), Some(deltalake::ObjectStoreError::NotFound { .. })) {
            return true;
        }
        cause = error.source();
    }
    false
}

impl AsyncFileReader for StoredFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        async move { self.store.get_range(&self.path, range).await.map_err(external) }.boxed()
    }

    // All column chunks of a row group in one call: the store joins neighbours and asks for the rest at once.
    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        async move { self.store.get_ranges(&self.path, &ranges).await.map_err(external) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        async move {
            let size = self.size;
            let reader = ParquetMetaDataReader::new().with_arrow_reader_options(options);
            Ok(Arc::new(reader.load_and_finish(self, size).await?))
        }
        .boxed()
    }
}

fn external(error: deltalake::ObjectStoreError) -> ParquetError {
    ParquetError::External(Box::new(error))
}
