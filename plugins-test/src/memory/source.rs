//! What the in-memory reader reads.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use weir_core::field::{KEY, with_metadata};

use super::Trouble;

#[derive(Clone)]
pub(super) struct Source {
    pub schema: SchemaRef,
    /// One list of batches a split.
    pub splits: Vec<Vec<RecordBatch>>,
    pub trouble: Trouble,
}

static SOURCES: LazyLock<Mutex<HashMap<String, Source>>> = LazyLock::new(Mutex::default);

pub(super) fn find(key: &str) -> Option<Source> {
    SOURCES.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
}

/// Begins a source; [`SourceBuilder::put`] makes it known.
pub fn source(key: &str) -> SourceBuilder {
    SourceBuilder { key: key.into(), batches: Vec::new(), splits: 1, batch_rows: 1000, trouble: Trouble::none() }
}

/// A source that is being made.
pub struct SourceBuilder {
    key: String,
    batches: Vec<RecordBatch>,
    splits: usize,
    batch_rows: usize,
    trouble: Trouble,
}

impl SourceBuilder {
    /// How many splits there are; the batches are dealt out among them.
    pub fn splits(mut self, splits: usize) -> Self {
        self.splits = splits.max(1);
        self
    }

    /// How many rows the batches of [`numbers`](Self::numbers) have.
    pub fn batch_rows(mut self, rows: usize) -> Self {
        self.batch_rows = rows.max(1);
        self
    }

    /// Rows `0 .. rows` of `id` (int64, the key) and `name` (text, NULL in every tenth row).
    pub fn numbers(mut self, rows: usize) -> Self {
        let id = with_metadata(Field::new("id", DataType::Int64, false), KEY, "1");
        let schema = Arc::new(Schema::new(vec![id, Field::new("name", DataType::Utf8, true)]));
        self.batches = (0..rows.max(1))
            .step_by(self.batch_rows)
            .map(|start| {
                let range = start..rows.min(start + self.batch_rows);
                let names = range.clone().map(|i| (i % 10 != 9).then(|| format!("name {i}")));
                let columns: Vec<arrow::array::ArrayRef> = vec![
                    Arc::new(Int64Array::from_iter_values(range.clone().map(|i| i as i64))),
                    Arc::new(StringArray::from_iter(names)),
                ];
                RecordBatch::try_new(schema.clone(), columns).unwrap_or_else(|e| panic!("{e}"))
            })
            .collect();
        self
    }

    /// These rows; an empty batch gives the schema of an empty source.
    pub fn batches(mut self, batches: Vec<RecordBatch>) -> Self {
        self.batches = batches;
        self
    }

    /// What goes wrong.
    pub fn trouble(mut self, trouble: Trouble) -> Self {
        self.trouble = trouble;
        self
    }

    /// Makes the source known under its key.
    pub fn put(self) {
        let schema = self.batches.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
        let mut splits = vec![Vec::new(); self.splits];
        for (i, batch) in self.batches.into_iter().enumerate() {
            splits[i % self.splits].push(batch);
        }
        let source = Source { schema, splits, trouble: self.trouble };
        SOURCES.lock().unwrap_or_else(PoisonError::into_inner).insert(self.key, source);
    }
}
