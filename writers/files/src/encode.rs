//! Batches in, bytes of a file out.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{FileWriter, IpcWriteOptions};
use weir_core::{Error, ErrorKind, Refused, Result, WritePlan};
use weir_files::Format;

use crate::groups::Groups;
use crate::plan::Rules;
use crate::row_groups::Share;
use crate::text::TextEncoder;

/// Makes one file of a format.
pub(crate) enum Encoder {
    Text(Box<TextEncoder>),
    Parquet(Box<Groups>, Share),
    Arrow(Box<FileWriter<Vec<u8>>>),
}

impl Encoder {
    /// Begins a file; `header` says whether a CSV file has its own, `first` are the rows to come first, if any come.
    pub(crate) fn new(
        rules: &Rules,
        plan: &WritePlan,
        header: bool,
        first: Option<&RecordBatch>,
        out: &mut Vec<u8>,
    ) -> Result<Self> {
        if rules.format.is_text() {
            let mut text = TextEncoder::new(rules, plan)?;
            if header {
                text.header(out)?;
            }
            return Ok(Self::Text(Box::new(text)));
        }
        Self::columnar(rules, plan.input_schema(), first)
    }

    /// Begins a Parquet or Arrow file of any schema.
    pub(crate) fn columnar(rules: &Rules, schema: SchemaRef, first: Option<&RecordBatch>) -> Result<Self> {
        if rules.format == Format::Parquet {
            let writer = Groups::new(schema, rules.parquet_compression, first).map_err(misfit)?;
            return Ok(Self::Parquet(Box::new(writer), Share::new(&rules.row_groups)));
        }
        let kind = match rules.arrow_compression.as_deref() {
            Some("zstd") => Some(CompressionType::ZSTD),
            Some(_) => Some(CompressionType::LZ4_FRAME),
            None => None,
        };
        let options = IpcWriteOptions::default().try_with_compression(kind)?;
        Ok(Self::Arrow(Box::new(FileWriter::try_new_with_options(Vec::new(), &schema, options)?)))
    }

    /// Adds rows, and those that the format cannot hold to `refused`.
    pub(crate) fn write(&mut self, batch: &RecordBatch, out: &mut Vec<u8>, refused: &mut Refused) -> Result<()> {
        match self {
            Self::Text(text) => return text.write(batch, out, refused),
            Self::Parquet(writer, share) => {
                writer.write(batch).map_err(misfit)?;
                if writer.memory_size() > share.most() {
                    // Room for all of it at once: a buffer that grows is there twice.
                    let bytes = writer.in_progress_size();
                    writer.inner_mut().reserve_exact(bytes + bytes / 16);
                    writer.flush().map_err(misfit)?;
                }
                hand_over(writer.inner_mut(), out);
            }
            Self::Arrow(writer) => {
                writer.write(batch)?;
                out.append(writer.get_mut());
            }
        }
        Ok(())
    }

    /// Bytes that wait for their row group.
    pub(crate) fn waiting(&self) -> usize {
        match self {
            Self::Parquet(writer, _) => writer.in_progress_size(),
            _ => 0,
        }
    }

    /// Ends the file.
    pub(crate) fn finish(self, out: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::Text(text) => text.finish(out),
            Self::Parquet(writer, _) => {
                out.append(&mut writer.into_inner().map_err(misfit)?);
                Ok(())
            }
            Self::Arrow(writer) => {
                out.append(&mut writer.into_inner()?);
                Ok(())
            }
        }
    }
}

/// Moves bytes without copying them where nothing is before them.
fn hand_over(from: &mut Vec<u8>, to: &mut Vec<u8>) {
    match to.is_empty() && !from.is_empty() {
        true => *to = std::mem::take(from),
        false => to.append(from),
    }
}

fn misfit(error: parquet::errors::ParquetError) -> Error {
    Error::new(ErrorKind::Schema, "Parquet cannot hold these columns").because(error)
}
