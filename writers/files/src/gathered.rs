//! Row groups of many columns: the rows wait as they came, and the columns are written one after the other.
//!
//! A column that is being written has a compressor and buffers of its own, some hundred kilobytes, however few its values.
//! In a table of a thousand columns that is more than all its rows, and in one of a hundred more than the processor's caches
//! hold: written side by side they took half as much time again. For few columns it is the other way round, for rows that
//! wait take more memory than encoded ones, and so row groups are smaller.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, Schema};
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory};
use parquet::errors::Result;
use parquet::file::properties::WriterPropertiesPtr;
use parquet::file::writer::SerializedFileWriter;

/// With more columns than this the rows wait.
pub(crate) const MANY: usize = 48;

/// Rows that wait for their row group.
#[derive(Default)]
pub(crate) struct Gathered {
    pub(crate) batches: Vec<RecordBatch>,
    /// Their bytes.
    pub(crate) bytes: usize,
}

impl Gathered {
    pub(crate) fn add(&mut self, batch: &RecordBatch) {
        self.bytes += weir_core::batch_bytes(batch);
        self.batches.push(batch.clone());
    }
}

/// A file of one field alone, to which nothing is written so far, and the writers of its leaves: the library makes the column
/// writers of a file all at once or not at all.
///
/// # Errors
/// A type that Parquet does not have.
pub(crate) fn alone(
    field: &FieldRef,
    properties: &WriterPropertiesPtr,
) -> Result<(SerializedFileWriter<Vec<u8>>, Vec<ArrowColumnWriter>)> {
    let schema = Arc::new(Schema::new(vec![field.clone()]));
    let parquet = ArrowSchemaConverter::new().convert(&schema)?;
    let alone = SerializedFileWriter::new(Vec::new(), parquet.root_schema_ptr(), properties.clone())?;
    let writers = ArrowRowGroupWriterFactory::new(&alone, schema).create_column_writers(0)?;
    Ok((alone, writers))
}
