//! Parquet and Arrow IPC files, read by ranges: the footer first, then one row group or batch after the other.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::ObjectStoreExt;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use tokio_util::sync::CancellationToken;
use weir_core::{Error, ErrorKind, Result, ResultExt};

use crate::ipc::{Blocks, Bounds, Messages};
use crate::parquet::{ParquetSource, RowGroups, unwound};
use crate::{ByteStream, Format, Found, Store, arrow_error, spool, store_error};

/// A file that is read by ranges.
pub struct RangeSource {
    store: Store,
    path: String,
    size: u64,
    pub(crate) file: Option<File>,
    cancel: CancellationToken,
}

impl RangeSource {
    /// Opens the file `path` of `store`.
    pub async fn open(store: &Store, path: &str, cancel: &CancellationToken) -> Result<Self> {
        let Found::File(size) = store.look(path).await? else {
            return Err(Error::new(ErrorKind::NotFound, "no such file").with("file", store.display(path)));
        };
        let file = match store {
            Store::Local => Some(File::open(path).context("file", path)?),
            Store::Remote { .. } => None,
        };
        Ok(Self { store: store.clone(), path: path.to_owned(), size, file, cancel: cancel.clone() })
    }

    /// Another source of the same file, which is a remote one.
    pub(crate) fn remote(&self) -> Self {
        let (store, path, cancel) = (self.store.clone(), self.path.clone(), self.cancel.clone());
        Self { store, path, size: self.size, file: None, cancel }
    }

    /// Its bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What stops its reading.
    pub(crate) fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// The bytes of a range, which must lie within the file.
    pub async fn read(&mut self, range: Range<u64>) -> Result<Bytes> {
        if self.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        let name = self.store.display(&self.path);
        if range.start > range.end || range.end > self.size {
            return Err(arrow_error("the file ends before what its footer promises", &name));
        }
        match (&mut self.file, &self.store) {
            (Some(file), _) => {
                let mut bytes = vec![0; (range.end - range.start) as usize];
                file.seek(SeekFrom::Start(range.start))
                    .and_then(|_| file.read_exact(&mut bytes))
                    .context("file", name)?;
                Ok(bytes.into())
            }
            (None, Store::Remote { store, .. }) => {
                let key = self.store.key(&self.path)?;
                tokio::select! {
                    biased;
                    () = self.cancel.cancelled() => Err(Error::cancelled()),
                    bytes = store.get_range(&key, range) => bytes.map_err(|e| store_error(e, &name)),
                }
            }
            (None, Store::Local) => Err(Error::internal("a local file is not open")),
        }
    }
}

impl RangeSource {
    async fn read_all(&mut self, ranges: Vec<Range<u64>>) -> Result<Vec<Bytes>> {
        let Store::Remote { store, .. } = &self.store else {
            let mut all = Vec::with_capacity(ranges.len());
            for range in ranges {
                all.push(self.read(range).await?);
            }
            return Ok(all);
        };
        let name = self.store.display(&self.path);
        if ranges.iter().any(|range| range.start > range.end || range.end > self.size) {
            return Err(arrow_error("the file ends before what its footer promises", &name));
        }
        let key = self.store.key(&self.path)?;
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Error::cancelled()),
            all = store.get_ranges(&key, &ranges) => all.map_err(|e| store_error(e, &name)),
        }
    }
}

impl AsyncFileReader for RangeSource {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        async move { self.read(range).await.map_err(|e| ParquetError::External(Box::new(e))) }.boxed()
    }

    // All column chunks of a row group in one call: the store joins neighbours and asks for the rest at once.
    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        async move { self.read_all(ranges).await.map_err(|e| ParquetError::External(Box::new(e))) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        async move {
            let size = self.size;
            Ok(Arc::new(ParquetMetaDataReader::new().load_and_finish(self, size).await?))
        }
        .boxed()
    }
}

impl ParquetSource for RangeSource {
    fn another(&self) -> Result<Self> {
        Ok(Self { file: self.local()?, ..self.remote() })
    }

    fn local(&self) -> Result<Option<File>> {
        self.file.as_ref().map(File::try_clone).transpose().context("file", &self.path)
    }

    fn spooled(&self, ranges: Vec<Range<u64>>) -> impl Future<Output = Result<File>> + Send {
        spool::fetch(self, ranges)
    }

    fn fault(&self, error: ParquetError) -> Error {
        parquet_error(error, &self.store.display(&self.path))
    }
}

/// A fault of the Parquet library; one of ours that passed through it comes out as it was.
pub fn parquet_error(error: ParquetError, path: &str) -> Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(other) => arrow_error(other, path),
        },
        other => arrow_error(other, path),
    }
}

/// A Parquet or Arrow IPC file, opened at its footer.
pub struct ColumnarReader {
    schema: SchemaRef,
    kind: Kind,
}

enum Kind {
    Parquet { source: Option<RangeSource>, metadata: ArrowReaderMetadata },
    RowGroups(Box<RowGroups<RangeSource>>),
    Blocks(Box<Blocks>),
    Messages(Box<Messages>),
}

impl ColumnarReader {
    /// Opens a file and reads its schema, nothing else.
    ///
    /// # Errors
    /// [`Data`](ErrorKind::Data) when it is not of this format.
    pub async fn open(store: &Store, path: &str, format: Format, cancel: &CancellationToken) -> Result<Self> {
        let name = store.display(path);
        let mut source = RangeSource::open(store, path, cancel).await?;
        if format == Format::Parquet {
            let metadata = unwound(ArrowReaderMetadata::load_async(&mut source, ArrowReaderOptions::new())).await;
            let metadata = metadata.flatten().map_err(|e| parquet_error(e, &name))?;
            let schema = metadata.schema().clone();
            return Ok(Self { schema, kind: Kind::Parquet { source: Some(source), metadata } });
        }
        let magic = source.read(0..source.size().min(8)).await?;
        if magic.starts_with(b"FEA1") {
            let message = "Feather version 1 is not supported: write the file again as Feather version 2 (Arrow IPC)";
            return Err(Error::new(ErrorKind::Unsupported, message).with("file", name));
        }
        if magic.starts_with(b"ARROW1") {
            let blocks = Blocks::open(source, &name, Bounds::default()).await?;
            Ok(Self { schema: blocks.schema().clone(), kind: Kind::Blocks(Box::new(blocks)) })
        } else {
            let bytes = ByteStream::open(store, path, cancel).await?;
            let messages = Messages::open(bytes, &name, cancel, Bounds::default()).await?;
            Ok(Self { schema: messages.schema().clone(), kind: Kind::Messages(Box::new(messages)) })
        }
    }

    /// The columns as the file has them.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows and uncompressed bytes of each row group of a Parquet file; `None` for Arrow IPC.
    pub fn groups(&self) -> Option<Vec<(u64, u64)>> {
        match &self.kind {
            Kind::Parquet { metadata, .. } => Some(
                metadata
                    .metadata()
                    .row_groups()
                    .iter()
                    .map(|g| (g.num_rows().max(0) as u64, g.total_byte_size().max(0) as u64))
                    .collect(),
            ),
            _ => None,
        }
    }

    /// Begins to read `columns` (indexes in ascending order, each once) of the row groups `groups` (all, if `None`),
    /// in batches of a few megabytes. With `views`, texts and bytes of a Parquet file come as views, so that what a
    /// dictionary holds once is once in memory.
    pub async fn start(mut self, groups: Option<Vec<usize>>, columns: &[usize], views: bool) -> Result<Self> {
        match &mut self.kind {
            Kind::Parquet { source, metadata } => {
                let mut source = source.take().ok_or_else(|| Error::internal("the file is read already"))?;
                let metadata = with_page_index(&mut source, metadata).await?;
                let started = RowGroups::start(source, &metadata, groups, columns, views)?;
                self.kind = Kind::RowGroups(Box::new(started));
            }
            Kind::Blocks(blocks) => blocks.choose(columns),
            Kind::Messages(messages) => messages.choose(columns),
            _ => {}
        }
        Ok(self)
    }

    /// The next batch, with the columns of `start`.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>> {
        match &mut self.kind {
            Kind::Parquet { .. } => Err(Error::internal("the file is not started")),
            Kind::RowGroups(groups) => groups.next().await,
            Kind::Blocks(blocks) => blocks.next().await,
            Kind::Messages(messages) => messages.next().await,
        }
    }
}

/// The metadata with the index of the file's pages, if it has one.
async fn with_page_index(source: &mut RangeSource, metadata: &ArrowReaderMetadata) -> Result<ArrowReaderMetadata> {
    let mut reader = ParquetMetaDataReader::new_with_metadata(metadata.metadata().as_ref().clone())
        .with_offset_index_policy(PageIndexPolicy::Optional);
    let loaded = reader.load_page_index(&mut *source).await;
    let loaded = loaded.and_then(|()| reader.finish()).map_err(|e| source.fault(e))?;
    let options = ArrowReaderOptions::new().with_schema(metadata.schema().clone());
    ArrowReaderMetadata::try_new(Arc::new(loaded), options).map_err(|e| source.fault(e))
}
