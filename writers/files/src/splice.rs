//! Finished Parquet files, put together without decoding them.
//!
//! Column chunks are copied as they are, by the kernel where it can, so that their bytes never come into this process. The
//! library writes everything else, and believes that it writes the chunks too: what it writes there is dropped.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parquet::column::writer::ColumnCloseResult;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::writer::SerializedFileWriter;
use tokio_util::sync::CancellationToken;
use weir_core::{Error, ErrorKind, Result, ResultExt};
use weir_files::parquet_error;

/// What a file begins with.
const MAGIC: &[u8] = b"PAR1";

/// Puts the row groups of `inputs` into the new file `whole`, their bytes as they are; `false`, and no file, when one of
/// them is not made like the first.
pub(crate) fn splice(inputs: &[String], whole: &Path, cancel: &CancellationToken) -> Result<bool> {
    // A job may have more splits than a process may open files: one is open at a time.
    let mut opened: Vec<(&String, ParquetMetaData)> = Vec::with_capacity(inputs.len());
    for input in inputs {
        let file = File::open(input).context("file", input)?;
        let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional);
        let metadata = reader.parse_and_finish(&file).map_err(|e| parquet_error(e, input))?;
        opened.push((input, metadata));
    }
    let Some((_, first)) = opened.first() else { return Ok(false) };
    let (root, pairs) =
        (first.file_metadata().schema_descr().root_schema_ptr(), first.file_metadata().key_value_metadata());
    let alike = |m: &ParquetMetaData| {
        m.file_metadata().schema_descr().root_schema() == &*root && m.file_metadata().key_value_metadata() == pairs
    };
    if !opened.iter().all(|(_, metadata)| alike(metadata)) {
        return Ok(false);
    }
    let name = whole.display().to_string();
    let mut file = File::create(whole).context("file", &name)?;
    file.write_all(MAGIC).context("file", &name)?;
    let mut end = MAGIC.len() as u64;
    for (input, metadata) in &opened {
        end += copy(input, metadata, &mut file, cancel)?;
    }

    let wrong = |e| parquet_error(e, &name);
    let properties = WriterProperties::builder().set_key_value_metadata(pairs.cloned()).build();
    let rest = After { file, left: end };
    let mut writer = SerializedFileWriter::new(rest, root.clone(), Arc::new(properties)).map_err(wrong)?;
    for (_, metadata) in &opened {
        for (number, group) in metadata.row_groups().iter().enumerate() {
            let mut out = writer.next_row_group().map_err(wrong)?;
            for (index, column) in group.columns().iter().enumerate() {
                let close = ColumnCloseResult {
                    bytes_written: column.compressed_size().max(0) as u64,
                    rows_written: group.num_rows().max(0) as u64,
                    metadata: column.clone(),
                    bloom_filter: None,
                    column_index: metadata.column_index().and_then(|i| i.get(number)?.get(index)).cloned(),
                    offset_index: metadata.offset_index().and_then(|i| i.get(number)?.get(index)).cloned(),
                };
                out.append_column(&Copied, close).map_err(wrong)?;
            }
            out.close().map_err(wrong)?;
        }
    }
    let file = writer.into_inner().map_err(wrong)?.file;
    file.sync_all().context("file", &name)?;
    Ok(true)
}

/// Copies the column chunks of a file in the order of its footer; gives their bytes.
fn copy(input: &str, metadata: &ParquetMetaData, file: &mut File, cancel: &CancellationToken) -> Result<u64> {
    let source = File::open(input).context("file", input)?;
    let mut all = 0;
    for group in metadata.row_groups() {
        if cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        // Chunks mostly lie end to end.
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for (start, length) in group.columns().iter().map(|column| column.byte_range()) {
            match ranges.last_mut() {
                Some(last) if last.end == start => last.end += length,
                _ => ranges.push(start..start + length),
            }
        }
        for range in ranges {
            let length = range.end - range.start;
            (&source).seek(SeekFrom::Start(range.start)).context("file", input)?;
            let copied = io::copy(&mut (&source).take(length), file).context("file", input)?;
            if copied != length {
                let message = "the file is shorter than its own footer says: write it anew";
                return Err(Error::new(ErrorKind::Data, message).with("file", input));
            }
            all += length;
        }
    }
    Ok(all)
}

/// The file, whose first bytes are there already: so many of what is written are dropped.
struct After {
    file: File,
    left: u64,
}

impl Write for After {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.left == 0 {
            return self.file.write(buffer);
        }
        let dropped = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= dropped as u64;
        Ok(dropped)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// In the place of chunks that have been copied: as many bytes as anybody asks for.
struct Copied;

impl Length for Copied {
    fn len(&self) -> u64 {
        u64::MAX
    }
}

impl ChunkReader for Copied {
    type T = io::Repeat;

    fn get_read(&self, _: u64) -> parquet::errors::Result<Self::T> {
        Ok(io::repeat(0))
    }

    fn get_bytes(&self, _: u64, length: usize) -> parquet::errors::Result<Bytes> {
        Ok(vec![0; length].into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parquet::tests::{rows, write};
    use arrow::array::RecordBatch;
    use parquet::arrow::arrow_reader::{
        ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
    };

    #[test]
    fn files_are_spliced_to_one_with_all_rows_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let batches = [rows(0), rows(3000), rows(6000)];
        let inputs: Vec<String> = batches.iter().enumerate().map(|(i, b)| write(&path(&i.to_string()), b)).collect();
        let cancel = CancellationToken::new();
        assert!(splice(&inputs, &path("whole"), &cancel).unwrap());
        let read = ParquetRecordBatchReader::try_new(File::open(path("whole")).unwrap(), 10_000).unwrap();
        let read: Vec<RecordBatch> = read.map(Result::unwrap).collect();
        let schema = batches[0].schema();
        let all = arrow::compute::concat_batches(&schema, &batches).unwrap();
        assert_eq!(arrow::compute::concat_batches(&schema, &read).unwrap(), all);
        // The page index leads to the pages' new places.
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
        let whole = File::open(path("whole")).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(whole, options).unwrap();
        let some = RowSelection::from(vec![RowSelector::skip(4000), RowSelector::select(10)]);
        let read = reader.with_row_selection(some).build().unwrap().next().unwrap().unwrap();
        assert_eq!(read, all.slice(4000, 10));

        let other = write(&path("other"), &batches[0].project(&[0, 2]).unwrap());
        assert!(!splice(&[inputs[0].clone(), other], &path("none"), &cancel).unwrap());
        assert!(!path("none").exists());
        cancel.cancel();
        assert!(splice(&inputs, &path("stopped"), &cancel).is_err());
    }
}
