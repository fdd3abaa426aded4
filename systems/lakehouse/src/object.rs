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

/// One file of known length.
#[derive(Clone)]
pub(crate) struct StoredFile {
    store: Arc<dyn ObjectStore>,
    path: Path,
    size: u64,
}

impl StoredFile {
    /// `size` is the length by the log; when the log does not say, the store is asked.
    pub(crate) async fn new(store: Arc<dyn ObjectStore>, path: Path, size: u64) -> Result<Self> {
        let size = match size {
            0 => store.head(&path).await.map_err(external)?.size,
            size => size,
        };
        Ok(Self { store, path, size })
    }

    /// Ranges of it in a temporary file, at the same offsets.
    pub(crate) async fn spooled(
        &self,
        ranges: Vec<Range<u64>>,
        unreadable: impl Fn(ParquetError) -> weir_core::Error,
    ) -> weir_core::Result<File> {
        let read = |piece| {
            let (mut file, unreadable) = (self.clone(), &unreadable);
            async move { file.get_bytes(piece).await.map_err(unreadable) }
        };
        weir_files::spooled(read, ranges).await
    }
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
