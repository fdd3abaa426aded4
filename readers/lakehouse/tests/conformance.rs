//! What every reader must do, done by this one on tables that the writer made.

use arrow::array::RecordBatch;
use async_trait::async_trait;
use serde_json::{Value, json};
use tempfile::TempDir;
use weir_plugins_test::conformance::{self, Laid, Source, Table, TypeCase, samples};
use weir_plugins_test::harness::{WriteOptions, open_writer, write_all};
use weir_reader_lakehouse as _;
use weir_writer_lakehouse as _;

struct Lake(TempDir);

impl Lake {
    /// Puts the rows into a table, a data file for every thousand.
    async fn put(&self, name: &str, rows: &RecordBatch) -> Value {
        let parameters = json!({ "path": self.0.path(), "table": name });
        let writer = open_writer("lakehouse", parameters.clone()).unwrap();
        for start in (0..rows.num_rows().max(1)).step_by(1000) {
            let part = rows.slice(start, 1000.min(rows.num_rows() - start));
            let written = write_all(&writer, vec![part], WriteOptions::default()).await.unwrap();
            assert_eq!(written.refused, []);
        }
        parameters
    }
}

#[async_trait]
impl Source for Lake {
    fn plugin(&self) -> &'static str {
        "lakehouse"
    }

    async fn lay(&self, table: &Table) -> Laid {
        Laid::At(self.put(&table.name, &table.rows).await)
    }

    async fn types(&self) -> Vec<TypeCase> {
        let mut cases = Vec::new();
        for sample in samples() {
            let parameters = self.put(sample.name, &sample.rows).await;
            let [first, second] = sample.texts();
            let values = [Some(first.as_str()), Some(second.as_str()), None];
            cases.push(TypeCase::new(sample.name, parameters, "value", values));
        }
        cases
    }

    async fn missing(&self) -> Option<Value> {
        Some(json!({ "path": self.0.path(), "table": "no_such_table" }))
    }
}

#[tokio::test]
async fn the_reader_conforms() {
    conformance::check_source(&Lake(TempDir::new().unwrap())).await;
}
