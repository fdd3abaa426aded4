//! The reader's whole test as docs/connectors.md shows it, word for word.

use async_trait::async_trait;
use connector_kv as _;
use serde_json::{Value, json};
use weir_plugins_test::conformance::{self, Laid, Source, Table};

struct Folder(tempfile::TempDir);

#[async_trait]
impl Source for Folder {
    fn plugin(&self) -> &'static str {
        "kv"
    }
    async fn lay(&self, table: &Table) -> Laid {
        let path = self.0.path().join(&table.name);
        let line = |row: Vec<Option<String>>| match &row[..] {
            [Some(key), Some(value)] => Some(format!("{key}={value}\n")),
            [Some(key), None] => Some(format!("{key}\n")),
            _ => None,
        };
        match table.cells().into_iter().map(line).collect::<Option<String>>() {
            Some(text) => std::fs::write(&path, text).unwrap(),
            None => return Laid::Cannot("a key cannot be NULL"),
        }
        Laid::At(json!({ "path": path }))
    }
    fn keeps_every_text(&self) -> bool {
        false // a value ends with its line
    }
    async fn missing(&self) -> Option<Value> {
        Some(json!({ "path": self.0.path().join("missing") }))
    }
}

#[tokio::test]
async fn the_reader_conforms() {
    conformance::check_source(&Folder(tempfile::tempdir().unwrap())).await;
}
