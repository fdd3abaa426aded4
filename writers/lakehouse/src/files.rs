//! Data files: how they are encoded, and that nothing of them stays when they are not finished.

use std::num::NonZeroU64;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use deltalake::datafile::writer::{DeltaWriter, WriterConfig};
use deltalake::kernel::Add;
use deltalake::logstore::ObjectStoreRef;
use deltalake::parquet::basic::Compression;
use weir_core::Result;
use weir_files::column_encodings;
use weir_lakehouse::delta_error;

use crate::commit::delete;
use crate::created::{Begun, Created, begun_files, renamed};

const TARGET_FILE_SIZE: NonZeroU64 = NonZeroU64::new(128 * 1024 * 1024).unwrap();
/// A row group is held in memory until it is complete.
const ROW_GROUP_BYTES: usize = 16 * 1024 * 1024;
/// With more columns than this none has a dictionary: the hash table of one takes 73 KB as long as its row group is being
/// written, and the row group has no more than that of values for it.
const MOST_DICTIONARIES: usize = 128;

/// Writes batches into data files of about equal size, partition by partition.
pub(crate) struct DataFiles {
    /// Where they go.
    store: ObjectStoreRef,
    prefix: String,
    schema: SchemaRef,
    partition_columns: Vec<String>,
    target_size: NonZeroU64,
    /// From the first batch on, which decides about encodings.
    open: Option<(DeltaWriter, Begun)>,
}

impl DataFiles {
    /// Files of `schema`, whose names begin with `prefix`.
    pub(crate) fn new(
        store: ObjectStoreRef,
        prefix: String,
        schema: SchemaRef,
        partition_columns: Vec<String>,
        target_size: Option<u64>,
    ) -> Self {
        let target_size = target_size.and_then(NonZeroU64::new).unwrap_or(TARGET_FILE_SIZE);
        Self { store, prefix, schema, partition_columns, target_size, open: None }
    }

    /// The columns of a batch.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Adds rows.
    ///
    /// # Errors
    /// A store that does not take them, values that Parquet does not have.
    pub(crate) async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let (writer, _) = match &mut self.open {
            Some(open) => open,
            None => {
                let plain = self.schema.fields().len() > MOST_DICTIONARIES;
                let first = if plain { &[] } else { std::slice::from_ref(batch) };
                // Whatever engine reads the table may be older than delta-packed numbers.
                let (properties, _) = column_encodings(Compression::SNAPPY, &self.schema, first, false);
                let mut properties = properties.set_max_row_group_bytes(Some(ROW_GROUP_BYTES));
                if plain {
                    properties = properties.set_dictionary_enabled(false);
                }
                let properties = properties.build();
                let (named, begun) = Created::named(self.store.clone(), self.prefix.clone());
                let config = WriterConfig::new(
                    self.schema.clone(),
                    self.partition_columns.clone(),
                    Some(properties),
                    Some(self.target_size),
                    None,
                    Default::default(),
                    None,
                );
                self.open.insert((DeltaWriter::new(named, config), begun))
            }
        };
        writer.write(batch).await.map_err(delta_error)
    }

    /// Ends the files; of those that failed nothing stays.
    ///
    /// # Errors
    /// As `write`.
    pub(crate) async fn close(self) -> Result<Vec<Add>> {
        let Some((writer, begun)) = self.open else { return Ok(Vec::new()) };
        match writer.close().await {
            Ok(mut adds) => {
                adds.iter_mut().for_each(|add| add.path = renamed(&add.path, &self.prefix));
                Ok(adds)
            }
            Err(error) => {
                delete(&self.store, begun_files(&begun).iter().map(String::as_str)).await;
                Err(delta_error(error))
            }
        }
    }

    /// Takes back what was begun.
    pub(crate) async fn discard(self) {
        let Some((writer, begun)) = self.open else { return };
        // Dropped before its files are deleted, for it may hold some of them open.
        drop(writer);
        delete(&self.store, begun_files(&begun).iter().map(String::as_str)).await;
    }
}
