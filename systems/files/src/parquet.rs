//! A Parquet file, read one row group after the other.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::StreamExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::async_reader::{ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
use weir_core::{Result, ResultExt};

use crate::columnar::{RangeSource, parquet_error};
use crate::row_groups::{as_views, only, portions, rows_at_once, uncut};
use crate::spool;

/// Some columns and row groups of a file.
pub(crate) struct RowGroups {
    source: RangeSource,
    name: String,
    metadata: ArrowReaderMetadata,
    columns: ProjectionMask,
    views: bool,
    left: VecDeque<(usize, Option<Range<usize>>)>,
    open: Option<Open>,
}

enum Open {
    /// A local file is read page by page, never a row group at once; so is what was put into a temporary one.
    Local(Box<ParquetRecordBatchReader>),
    Remote(Box<ParquetRecordBatchStream<RangeSource>>),
}

impl RowGroups {
    /// Begins to read `columns` (indexes in ascending order) of `groups`, texts and bytes as views if `views`.
    pub(crate) async fn start(
        mut source: RangeSource,
        name: &str,
        metadata: ArrowReaderMetadata,
        groups: Option<Vec<usize>>,
        columns: &[usize],
        views: bool,
    ) -> Result<Self> {
        let wrong = |error| parquet_error(error, name);
        let mut with_pages = ParquetMetaDataReader::new_with_metadata(metadata.metadata().as_ref().clone())
            .with_offset_index_policy(PageIndexPolicy::Optional);
        with_pages.load_page_index(&mut source).await.map_err(wrong)?;
        let with_pages = Arc::new(with_pages.finish().map_err(wrong)?);
        let schema = metadata.schema().clone();
        let own =
            || ArrowReaderMetadata::try_new(with_pages.clone(), ArrowReaderOptions::new().with_schema(schema.clone()));
        let viewed = || {
            let options = ArrowReaderOptions::new().with_schema(Arc::new(as_views(&schema)));
            ArrowReaderMetadata::try_new(with_pages.clone(), options).ok()
        };
        let viewed = if views { viewed() } else { None };
        let views = viewed.is_some();
        let metadata = viewed.map_or_else(own, Ok).map_err(wrong)?;
        let columns = ProjectionMask::roots(metadata.parquet_schema(), columns.iter().copied());
        let groups = groups.unwrap_or_else(|| (0..metadata.metadata().num_row_groups()).collect());
        let local = source.is_local();
        let fetched = |group| match local {
            true => vec![None],
            false => portions(metadata.metadata(), group, &columns),
        };
        let left = groups.into_iter().flat_map(|group| fetched(group).into_iter().map(move |p| (group, p))).collect();
        Ok(Self { source, name: name.to_owned(), metadata, columns, views, left, open: None })
    }

    /// The next batch.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let next = match &mut self.open {
                Some(Open::Local(reader)) => {
                    reader.next().transpose().map_err(|e| crate::arrow_error(e, &self.name))?
                }
                Some(Open::Remote(stream)) => {
                    stream.next().await.transpose().map_err(|e| parquet_error(e, &self.name))?
                }
                None => None,
            };
            if next.is_some() {
                return Ok(next);
            }
            // What the last one held is let go of first.
            self.open = None;
            let Some((group, portion)) = self.left.pop_front() else { return Ok(None) };
            self.open = Some(self.open(group, portion).await?);
        }
    }

    async fn open(&mut self, group: usize, portion: Option<Range<usize>>) -> Result<Open> {
        let wrong = |error| parquet_error(error, &self.name);
        let metadata = self.metadata.metadata();
        let rows = rows_at_once(metadata, group, &self.columns, self.views);
        let file = match &self.source.file {
            Some(file) => Some(file.try_clone().context("file", &self.name)?),
            None => match uncut(metadata, group, &self.columns) {
                Some(ranges) => Some(spool::fetch(&self.source, ranges).await?),
                None => None,
            },
        };
        Ok(match file {
            Some(file) => {
                let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
                    .with_projection(self.columns.clone())
                    .with_row_groups(vec![group])
                    .with_batch_size(rows);
                Open::Local(Box::new(builder.build().map_err(wrong)?))
            }
            None => {
                let source = self.source.remote();
                let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(source, self.metadata.clone())
                    .with_projection(self.columns.clone())
                    .with_row_groups(vec![group])
                    .with_batch_size(rows);
                if let Some(rows) = portion {
                    builder = builder.with_row_selection(only(rows));
                }
                Open::Remote(Box::new(builder.build().map_err(wrong)?))
            }
        })
    }
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
