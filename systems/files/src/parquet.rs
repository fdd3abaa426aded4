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
use crate::row_groups::{as_views, only, portions, rows_at_once};

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
    /// A local file is read page by page, never a row group at once.
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
            self.open = Some(self.open(group, portion)?);
        }
    }

    fn open(&self, group: usize, portion: Option<Range<usize>>) -> Result<Open> {
        let wrong = |error| parquet_error(error, &self.name);
        let rows = rows_at_once(self.metadata.metadata(), group, &self.columns, self.views);
        Ok(match &self.source.file {
            Some(file) => {
                let file = file.try_clone().context("file", &self.name)?;
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
