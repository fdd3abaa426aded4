//! What every writer must do, done by this one.

use async_trait::async_trait;
use serde_json::{Value, json};
use tempfile::TempDir;
use weir_core::WriteMode;
use weir_plugins_test::conformance::{self, Cells, Refused, Table, Target, WriteCase, samples};
use weir_plugins_test::harness::{self, WriteOptions, cells, open_reader, open_writer, write_all};
use weir_reader_lakehouse as _;
use weir_writer_lakehouse as _;

struct Lake(TempDir);

impl Lake {
    fn at(&self, table: &str) -> Value {
        json!({ "path": self.0.path(), "table": table })
    }
}

#[async_trait]
impl Target for Lake {
    fn plugin(&self) -> &'static str {
        "lakehouse"
    }

    async fn parameters(&self, table: &str, mode: WriteMode) -> Option<Value> {
        let mut parameters = self.at(table);
        parameters["writeMode"] = json!(mode.name());
        matches!(mode, WriteMode::Append | WriteMode::Overwrite | WriteMode::Upsert).then_some(parameters)
    }

    async fn lay(&self, table: &Table) -> Result<(), &'static str> {
        let writer = open_writer("lakehouse", self.at(&table.name)).unwrap();
        let written = write_all(&writer, vec![table.rows.clone()], WriteOptions::default()).await;
        written.map(|_| ()).map_err(|_| "the table cannot be made")
    }

    async fn contents(&self, table: &str) -> Option<Cells> {
        self.0.path().join(table).join("_delta_log").exists().then_some(())?;
        let read = harness::read_all(&open_reader("lakehouse", self.at(table)).unwrap()).await.unwrap();
        Some(cells(&read.batches()))
    }

    async fn inventory(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut folders = vec![self.0.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in folder.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
                names.push(entry.strip_prefix(self.0.path()).unwrap().display().to_string());
                if entry.is_dir() {
                    folders.push(entry);
                }
            }
        }
        names
    }

    async fn types(&self) -> Vec<WriteCase> {
        samples().into_iter().map(|sample| sample.case(sample.texts())).collect()
    }

    async fn refused(&self) -> Option<Refused> {
        let (rows, refused) = conformance::rows_with_null_keys();
        let mut parameters = self.at("refused");
        parameters["writeMode"] = json!("upsert");
        parameters["key"] = json!("key");
        Some(Refused { parameters, table: "refused".into(), rows, refused })
    }
}

#[tokio::test]
async fn the_writer_conforms() {
    conformance::check_target(&Lake(TempDir::new().unwrap())).await;
}
