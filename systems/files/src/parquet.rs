//! A Parquet file, read one row group after the other.

use std::collections::VecDeque;
use std::fs::File;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::{FutureExt, StreamExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder};
use parquet::errors::ParquetError;
use weir_core::{Error, Result};

use crate::column_windows::{SideBySide, Window, column_windows};
use crate::row_groups::{as_views, only, portions, rows_at_once, uncut};

/// Where the bytes of a Parquet file come from.
pub trait ParquetSource: AsyncFileReader + Unpin + Sized + 'static {
    /// The same file once more.
    ///
    /// # Errors
    /// It cannot be opened once more.
    fn another(&self) -> Result<Self>;

    /// The file, where it is one of this machine's: such a file is read page by page, never a row group at once.
    ///
    /// # Errors
    /// As `another`.
    fn local(&self) -> Result<Option<File>> {
        Ok(None)
    }

    /// Ranges of it in a temporary file, at the same offsets.
    ///
    /// # Errors
    /// Those of reading it; no room for them.
    fn spooled(&self, ranges: Vec<Range<u64>>) -> impl Future<Output = Result<File>> + Send;

    /// What a fault of the library means for this file.
    fn fault(&self, error: ParquetError) -> Error;
}

/// Some columns and row groups of a file.
pub struct RowGroups<S> {
    source: S,
    metadata: ArrowReaderMetadata,
    /// Indexes in the file's schema, in ascending order.
    columns: Vec<usize>,
    mask: ProjectionMask,
    views: bool,
    left: VecDeque<(usize, Option<Range<usize>>)>,
    open: Option<Open<S>>,
}

enum Open<S> {
    /// A local file, or what was put into a temporary one.
    Local(Box<ParquetRecordBatchReader>),
    Remote(Box<ParquetRecordBatchStream<S>>),
    /// What was read a few columns at a time.
    Windows(SideBySide),
}

impl<S: ParquetSource> RowGroups<S> {
    /// Begins to read `columns` (indexes in ascending order) of `groups`, all if `None`. With `views`, texts and bytes come
    /// as views where that can be. `metadata` has the index of pages, if the file has one; its schema is the one to read.
    ///
    /// # Errors
    /// A schema that does not fit the file.
    pub fn start(
        source: S,
        metadata: &ArrowReaderMetadata,
        groups: Option<Vec<usize>>,
        columns: &[usize],
        views: bool,
    ) -> Result<Self> {
        let schema = metadata.schema();
        let with = |schema| {
            let options = ArrowReaderOptions::new().with_schema(schema);
            ArrowReaderMetadata::try_new(metadata.metadata().clone(), options)
        };
        let viewed = if views { with(Arc::new(as_views(schema))).ok() } else { None };
        let views = viewed.is_some();
        let metadata = viewed.map_or_else(|| with(schema.clone()), Ok).map_err(|e| source.fault(e))?;
        let groups = groups.unwrap_or_else(|| (0..metadata.metadata().num_row_groups()).collect());
        Self::of(source, metadata, &groups, columns.to_vec(), views)
    }

    fn of(
        source: S,
        metadata: ArrowReaderMetadata,
        groups: &[usize],
        columns: Vec<usize>,
        views: bool,
    ) -> Result<Self> {
        let mask = ProjectionMask::roots(metadata.parquet_schema(), columns.iter().copied());
        let local = source.local()?.is_some();
        let fetched = |group| match local {
            true => vec![None],
            false => portions(metadata.metadata(), group, &mask),
        };
        let mut left = VecDeque::new();
        for group in groups {
            match column_windows(metadata.metadata(), *group, &columns).len() {
                0..=1 => left.extend(fetched(*group).into_iter().map(|rows| (*group, rows))),
                _ => left.push_back((*group, None)),
            }
        }
        Ok(Self { source, metadata, columns, mask, views, left, open: None })
    }

    /// The next batch.
    ///
    /// # Errors
    /// Those of reading the file, [`Data`](weir_core::ErrorKind::Data) for what is no Parquet.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let next = unwound(self.next_batch()).await;
        next.unwrap_or_else(|panic| Err(self.source.fault(panic)))
    }

    async fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let next = match &mut self.open {
                Some(Open::Local(reader)) => reader.next().transpose().map_err(|e| self.source.fault(e.into()))?,
                Some(Open::Remote(stream)) => stream.next().await.transpose().map_err(|e| self.source.fault(e))?,
                Some(Open::Windows(windows)) => windows.next()?,
                None => None,
            };
            if next.is_some() {
                return Ok(next);
            }
            // What the last one held is let go of first.
            self.open = None;
            let Some((group, rows)) = self.left.pop_front() else { return Ok(None) };
            let windows = column_windows(self.metadata.metadata(), group, &self.columns);
            self.open = Some(match windows.len() {
                0..=1 => self.open(group, rows).await?,
                _ => self.open_windows(group, windows).await?,
            });
        }
    }

    async fn open(&mut self, group: usize, portion: Option<Range<usize>>) -> Result<Open<S>> {
        let metadata = self.metadata.metadata();
        let rows = rows_at_once(metadata, group, &self.mask, self.views);
        let file = match (self.source.local()?, uncut(metadata, group, &self.mask)) {
            (Some(file), _) => Some(file),
            (None, Some(ranges)) => Some(self.source.spooled(ranges).await?),
            (None, None) => None,
        };
        Ok(match file {
            Some(file) => {
                let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
                    .with_projection(self.mask.clone())
                    .with_row_groups(vec![group])
                    .with_batch_size(rows);
                Open::Local(Box::new(builder.build().map_err(|e| self.source.fault(e))?))
            }
            None => {
                let source = self.source.another()?;
                let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(source, self.metadata.clone())
                    .with_projection(self.mask.clone())
                    .with_row_groups(vec![group])
                    .with_batch_size(rows);
                if let Some(rows) = portion {
                    builder = builder.with_row_selection(only(rows));
                }
                Open::Remote(Box::new(builder.build().map_err(|e| self.source.fault(e))?))
            }
        })
    }

    /// Reads the row group one window of columns after the other.
    async fn open_windows(&mut self, group: usize, windows: Vec<Vec<usize>>) -> Result<Open<S>> {
        // What a dictionary holds once stands in every row of a temporary file.
        let rows = rows_at_once(self.metadata.metadata(), group, &self.mask, false);
        let mut read = Vec::with_capacity(windows.len());
        for columns in windows {
            let mut narrow = Self::of(self.source.another()?, self.metadata.clone(), &[group], columns, self.views)?;
            let mut window = Window::new(rows);
            while let Some(batch) = Box::pin(narrow.next()).await? {
                window.add(batch)?;
                // A local file is read without a wait: others want to run too, and to stop this.
                tokio::task::yield_now().await;
            }
            read.push(window.finish()?);
        }
        Ok(Open::Windows(SideBySide::new(read)))
    }
}

/// Runs something of the library, which has an error for most damaged bytes, and a panic for some: that is an error too. Whether
/// it is printed is up to the program's own hook.
pub async fn unwound<T>(work: impl Future<Output = T>) -> parquet::errors::Result<T> {
    let done = AssertUnwindSafe(work).catch_unwind().await;
    done.map_err(|_| ParquetError::General("the Parquet library panicked over it".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::PIECE;
    use crate::testing::Watched;
    use crate::{ColumnarReader, Format};
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use arrow::compute::{cast, concat_batches};
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::{EnabledStatistics, WriterProperties};

    /// Two row groups of 30 MB each, and one of a few rows.
    fn batches() -> Vec<RecordBatch> {
        let texts = |from: usize, to: usize| -> RecordBatch {
            let text: ArrayRef =
                Arc::new(StringArray::from_iter_values((from..to).map(|n| format!("{n:>7} ").repeat(250))));
            let id: ArrayRef = Arc::new(Int64Array::from_iter_values(from as i64..to as i64));
            RecordBatch::try_from_iter([("id", id), ("text", text.clone()), ("unused", text)]).unwrap()
        };
        vec![texts(0, 15_000), texts(15_000, 30_000), texts(30_000, 30_010)]
    }

    #[tokio::test]
    async fn a_large_row_group_without_an_index_is_read_from_a_temporary_file() {
        let batches = batches();
        for dictionary in [false, true] {
            let properties = WriterProperties::builder()
                .set_offset_index_disabled(true)
                .set_statistics_enabled(EnabledStatistics::Chunk)
                .set_dictionary_enabled(dictionary)
                .set_max_row_group_row_count(Some(15_000))
                .build();
            let mut bytes = Vec::new();
            let mut writer = ArrowWriter::try_new(&mut bytes, batches[0].schema(), Some(properties)).unwrap();
            batches.iter().for_each(|batch| writer.write(batch).unwrap());
            assert_eq!(writer.close().unwrap().num_row_groups(), 3);
            let (store, size) = (Watched::default(), bytes.len() as u64);
            store.put("a.parquet", bytes).await;
            let cancel = Default::default();
            let reader = ColumnarReader::open(&store.store(), "a.parquet", Format::Parquet, &cancel).await.unwrap();
            let mut reader = reader.start(None, &[0, 1], true).await.unwrap();
            let mut read = Vec::new();
            while let Some(batch) = reader.next().await.unwrap() {
                assert!(weir_core::batch_bytes(&batch) <= weir_core::MAX_BATCH_BYTES);
                let text = cast(batch.column(1), &arrow::datatypes::DataType::Utf8).unwrap();
                read.push(RecordBatch::try_from_iter([("id", batch.column(0).clone()), ("text", text)]).unwrap());
            }
            let expected = concat_batches(batches[0].schema_ref(), &batches).unwrap().project(&[0, 1]).unwrap();
            let read = concat_batches(read[0].schema_ref(), &read).unwrap();
            assert_eq!(read.columns(), expected.columns());
            let asked = store.asked();
            assert!(asked.iter().all(|bytes| *bytes <= PIECE), "{asked:?}");
            let fetched: u64 = asked.iter().sum();
            assert!(fetched > 60_000_000 && fetched < size * 2 / 3, "{fetched} of {size}");
        }
    }
}
