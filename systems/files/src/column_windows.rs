//! How many columns of a row group may be open at once.
//!
//! A column that is being read has a decompressor, a page and a dictionary of its own. In a table of a thousand columns
//! that is a hundred times what its rows take. Such columns are read a window at a time, all rows of some columns, then all
//! rows of the next ones. What was read waits in a temporary file a window, until their rows are put side by side.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, BufWriter, Seek};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::BatchCoalescer;
use arrow::datatypes::{BinaryViewType, ByteViewType, DataType, FieldRef, Schema, StringViewType};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use parquet::basic::Compression;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use weir_core::{Error, ErrorKind, Result, within_bounds};

use crate::row_groups::pages;
use crate::spool::{create, spool_error};

/// The bytes of open columns that need no windows.
const OPEN: u64 = 64 << 20;

/// The bytes of a window's open columns. One column may have more.
const WINDOW: u64 = 32 << 20;

/// What a decompressor and the readers around it take: zstd's context alone is 96 KB.
const DECOMPRESSOR: u64 = 128 << 10;

/// What writers take for a page, and for a dictionary, unless told otherwise.
const PAGE: u64 = 1 << 20;

/// The columns, of those in `columns`, to have open at once in the row group `group`, one window after the other.
pub(crate) fn column_windows(metadata: &ParquetMetaData, group: usize, columns: &[usize]) -> Vec<Vec<usize>> {
    let schema = metadata.file_metadata().schema_descr();
    let mut costs = vec![0; schema.root_schema().get_fields().len()];
    for (leaf, column) in metadata.row_group(group).columns().iter().enumerate() {
        let cost = &mut costs[schema.get_column_root_idx(leaf)];
        *cost = u64::saturating_add(*cost, open_bytes(metadata, group, leaf, column));
    }
    let cost = |column: &usize| costs.get(*column).copied().unwrap_or(0);
    if columns.iter().map(cost).fold(0, u64::saturating_add) <= OPEN {
        return vec![columns.to_vec()];
    }
    let (mut windows, mut open) = (vec![Vec::new()], 0);
    for column in columns {
        open = u64::saturating_add(open, cost(column));
        if open > WINDOW && windows.last().is_some_and(|window| !window.is_empty()) {
            windows.push(Vec::new());
            open = cost(column);
        }
        windows.last_mut().expect("there is always one").push(*column);
    }
    windows
}

/// About what a column takes while it is open.
fn open_bytes(metadata: &ParquetMetaData, group: usize, leaf: usize, column: &ColumnChunkMetaData) -> u64 {
    let bytes = |n: i64| u64::try_from(n).unwrap_or(0);
    let (packed, chunk) = (bytes(column.compressed_size()).max(1), bytes(column.uncompressed_size()));
    let unpacked = |bytes: u64| bytes.saturating_mul(chunk) / packed;
    let (page, dictionary) = match pages(metadata, group, leaf) {
        Some(index) => {
            let sizes = || index.page_locations().iter().map(|page| bytes(page.compressed_page_size.into()));
            (
                unpacked(sizes().max().unwrap_or(0)),
                unpacked(packed.saturating_sub(sizes().fold(0, u64::saturating_add))),
            )
        }
        None if column.dictionary_page_offset().is_some() => (PAGE.min(chunk), PAGE.min(chunk)),
        None => (PAGE.min(chunk), 0),
    };
    let codec = if column.compression() == Compression::UNCOMPRESSED { 0 } else { DECOMPRESSOR };
    codec.saturating_add(page.min(chunk)).saturating_add(dictionary.min(chunk))
}

/// The columns of a window, on their way into a temporary file: batches of Arrow IPC of the same number of rows each, but for
/// the last one.
pub(crate) struct Window {
    rows: usize,
    /// From the first batch on.
    open: Option<(BatchCoalescer, StreamWriter<BufWriter<File>>)>,
}

impl Window {
    /// One whose batches have so many rows.
    pub(crate) fn new(rows: usize) -> Self {
        Self { rows, open: None }
    }

    /// Adds rows.
    ///
    /// # Errors
    /// [`Io`](ErrorKind::Io) when there is no room for them.
    pub(crate) fn add(&mut self, batch: RecordBatch) -> Result<()> {
        let (batches, file) = match &mut self.open {
            Some(open) => open,
            None => {
                let schema = batch.schema();
                let file = StreamWriter::try_new_buffered(create()?, &schema).map_err(not_kept)?;
                self.open.insert((BatchCoalescer::new(schema, self.rows), file))
            }
        };
        batches.push_batch(batch)?;
        while let Some(batch) = batches.next_completed_batch() {
            file.write(&settled(&batch)?).map_err(not_kept)?;
        }
        Ok(())
    }

    /// All of them, from the first one on; `None` when there are none.
    ///
    /// # Errors
    /// As `add`.
    pub(crate) fn finish(self) -> Result<Option<Kept>> {
        let Some((mut batches, mut file)) = self.open else { return Ok(None) };
        batches.finish_buffered_batch()?;
        while let Some(batch) = batches.next_completed_batch() {
            file.write(&settled(&batch)?).map_err(not_kept)?;
        }
        let mut file = file.into_inner().map_err(not_kept)?.into_inner().map_err(|e| spool_error(e.into_error()))?;
        file.rewind().map_err(spool_error)?;
        Ok(Some(StreamReader::try_new_buffered(file, None)?))
    }
}

/// The batch with views that refer to little more than its own values: the file takes the whole of what they refer to, which
/// may be a page or a dictionary for a few rows.
fn settled(batch: &RecordBatch) -> Result<RecordBatch> {
    let columns = batch.columns().iter().map(settled_column).collect();
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

fn settled_column(array: &ArrayRef) -> ArrayRef {
    fn of<T: ByteViewType>(array: &ArrayRef) -> ArrayRef {
        let views = array.as_byte_view::<T>();
        let used: usize = views.lengths().map(|length| length as usize).filter(|length| *length > 12).sum();
        let kept: usize = views.data_buffers().iter().map(|buffer| buffer.len()).sum();
        if kept > used.saturating_mul(2) { Arc::new(views.gc()) } else { array.clone() }
    }
    match array.data_type() {
        DataType::Utf8View => of::<StringViewType>(array),
        DataType::BinaryView => of::<BinaryViewType>(array),
        _ => array.clone(),
    }
}

/// A window's rows in their file.
type Kept = StreamReader<BufReader<File>>;

fn not_kept(error: ArrowError) -> Error {
    match error {
        ArrowError::IoError(_, error) => spool_error(error),
        error => error.into(),
    }
}

/// Windows of the same rows.
pub(crate) struct SideBySide {
    windows: Vec<Option<Kept>>,
    ready: VecDeque<RecordBatch>,
}

impl SideBySide {
    /// The windows, in the order of their columns.
    pub(crate) fn new(windows: Vec<Option<Kept>>) -> Self {
        Self { windows, ready: VecDeque::new() }
    }

    /// The next rows with all columns.
    ///
    /// # Errors
    /// [`Data`](ErrorKind::Data) for columns of unlike lengths: the file is damaged.
    pub(crate) fn next(&mut self) -> Result<Option<RecordBatch>> {
        if let Some(batch) = self.ready.pop_front() {
            return Ok(Some(batch));
        }
        let mut fields: Vec<FieldRef> = Vec::new();
        let mut arrays: Vec<ArrayRef> = Vec::new();
        let mut ended = 0;
        for window in &mut self.windows {
            let Some(batch) = window.as_mut().and_then(Iterator::next).transpose()? else {
                ended += 1;
                continue;
            };
            fields.extend(batch.schema_ref().fields().iter().cloned());
            arrays.extend(batch.columns().iter().cloned());
        }
        if ended == self.windows.len() {
            return Ok(None);
        }
        if ended > 0 || arrays.iter().any(|array| array.len() != arrays[0].len()) {
            let message = "columns of the file end before others: it is damaged";
            return Err(Error::new(ErrorKind::Data, message));
        }
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?;
        self.ready.extend(within_bounds(batch));
        Ok(self.ready.pop_front())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Watched;
    use crate::{ColumnarReader, Format};
    use arrow::array::{Int32Array, ListArray, StringArray};
    use arrow::compute::{cast, concat_batches};
    use arrow::datatypes::Int32Type;
    use parquet::arrow::ArrowWriter;
    use parquet::basic::ZstdLevel;
    use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
    use parquet::file::properties::WriterProperties;

    const COLUMNS: usize = 600;
    const ROWS: usize = 3_000;

    /// Numbers, texts that repeat and texts that do not, lists, each with NULLs.
    fn rows() -> RecordBatch {
        let some = |n: usize, nth: usize| !(n + nth).is_multiple_of(7);
        let column = |nth: usize| -> ArrayRef {
            let all = 0..ROWS;
            match nth % 4 {
                0 => Arc::new(all.map(|n| some(n, nth).then_some((n * nth) as i32)).collect::<Int32Array>()),
                1 => Arc::new(
                    all.map(|n| some(n, nth).then(|| format!("{} of a few that come again", n % 50)))
                        .collect::<StringArray>(),
                ),
                2 => Arc::new(
                    all.map(|n| some(n, nth).then(|| format!("a text that is long enough: {n} {nth}")))
                        .collect::<StringArray>(),
                ),
                _ => Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(
                    all.map(|n| some(n, nth).then(|| vec![Some(n as i32); n % 3])),
                )),
            }
        };
        RecordBatch::try_from_iter_with_nullable((0..COLUMNS).map(|nth| (format!("c{nth}"), column(nth), true)))
            .unwrap()
    }

    /// A file of two row groups.
    fn file(rows: &RecordBatch, indexed: bool) -> Vec<u8> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(ROWS - 100))
            .set_data_page_row_count_limit(1_000)
            .set_write_batch_size(500)
            .set_offset_index_disabled(!indexed);
        let properties = match indexed {
            true => properties.build(),
            false => properties.set_statistics_enabled(parquet::file::properties::EnabledStatistics::Chunk).build(),
        };
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, rows.schema(), Some(properties)).unwrap();
        writer.write(rows).unwrap();
        writer.close().unwrap();
        bytes
    }

    #[test]
    fn windows_hold_every_column_once_and_few_columns_need_none() {
        let bytes = bytes::Bytes::from(file(&rows(), true));
        let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional);
        let metadata = reader.parse_and_finish(&bytes).unwrap();
        let all: Vec<usize> = (0..COLUMNS).collect();
        let windows = column_windows(&metadata, 0, &all);
        assert!(windows.len() > 2 && windows.iter().all(|window| window.len() > 50), "{}", windows.len());
        assert_eq!(windows.concat(), all);
        let few = [0, 5, 690];
        assert_eq!(column_windows(&metadata, 0, &few), [few]);
        assert_eq!(column_windows(&metadata, 0, &[]), [[0; 0]]);
    }

    #[tokio::test]
    async fn rows_read_in_windows_are_those_of_the_file() {
        let rows = rows();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let wanted: Vec<usize> = (0..COLUMNS).filter(|nth| nth % 10 != 3).collect();
        let expected = rows.project(&wanted).unwrap();
        for indexed in [true, false] {
            let bytes = file(&rows, indexed);
            std::fs::write(&path, &bytes).unwrap();
            let watched = Watched::default();
            watched.put("a.parquet", bytes).await;
            for (store, path) in [(crate::Store::Local, path.to_str().unwrap()), (watched.store(), "a.parquet")] {
                let reader = ColumnarReader::open(&store, path, Format::Parquet, &Default::default()).await.unwrap();
                let mut reader = reader.start(None, &wanted, indexed).await.unwrap();
                let mut read = Vec::new();
                while let Some(batch) = reader.next().await.unwrap() {
                    assert!(weir_core::batch_bytes(&batch) <= weir_core::MAX_BATCH_BYTES);
                    let own = |(i, array): (usize, &ArrayRef)| cast(array, expected.column(i).data_type()).unwrap();
                    let columns = batch.columns().iter().enumerate().map(own).collect();
                    read.push(RecordBatch::try_new(expected.schema(), columns).unwrap());
                }
                assert!(read.len() > 2, "{}", read.len());
                let read = concat_batches(&expected.schema(), &read).unwrap();
                assert!(read == expected, "{indexed} {store:?}");
            }
        }
    }
}
