//! What every writer must do, done by this one where it writes a file.

use async_trait::async_trait;
use serde_json::{Value, json};
use tempfile::TempDir;
use weir_core::WriteMode;
use weir_plugins_test::conformance::{self, Cells, Sample, Table, Target, WriteCase, samples};
use weir_writer_stream as _;

/// Between values, and for NULL: nothing that stands in the texts.
const DELIMITER: &str = "\u{1}";
const NULL: &str = "\u{2}";

struct Folder(TempDir);

#[async_trait]
impl Target for Folder {
    fn plugin(&self) -> &'static str {
        "stream"
    }

    async fn parameters(&self, table: &str, mode: WriteMode) -> Option<Value> {
        let parameters =
            json!({ "path": self.0.path(), "fileName": table, "fieldDelimiter": DELIMITER, "nullFormat": NULL });
        (mode == WriteMode::Overwrite).then_some(parameters)
    }

    async fn lay(&self, table: &Table) -> Result<(), &'static str> {
        let cells = |row: Vec<Option<String>>| row.into_iter().map(|cell| cell.unwrap_or_else(|| NULL.into()));
        let line = |row| cells(row).collect::<Vec<_>>().join(DELIMITER) + "\n";
        let text: String = table.cells().into_iter().map(line).collect();
        std::fs::write(self.0.path().join(&table.name), text).map_err(|_| "the disk refuses")
    }

    async fn contents(&self, table: &str) -> Option<Cells> {
        let text = std::fs::read_to_string(self.0.path().join(table)).ok()?;
        let cell = |text: &str| (text != NULL).then(|| text.to_owned());
        Some(text.split_terminator('\n').map(|line| line.split(DELIMITER).map(cell).collect()).collect())
    }

    async fn inventory(&self) -> Vec<String> {
        std::fs::read_dir(self.0.path()).unwrap().map(|file| file.unwrap().file_name().display().to_string()).collect()
    }

    fn keeps_every_text(&self) -> bool {
        false
    }

    async fn types(&self) -> Vec<WriteCase> {
        let case = |sample: Sample| match sample.name {
            "timestamp" => sample.case(["1969-12-31 23:59:59.999999", "9999-12-31 23:59:59.999999"]),
            "instant" => sample.case(["2024-02-29 06:30:00.500+00:00", "1970-01-01 00:00:01.000001+00:00"]),
            // Bytes that are a text are shown as one; a NULL in a list as everywhere.
            "bytes" => sample.case(["00ff5c0a27", "a"]),
            "list" => sample.case([format!("[1, {NULL}, -3]"), "[]".into()]),
            _ => sample.case(sample.texts()),
        };
        samples().into_iter().map(case).collect()
    }
}

#[tokio::test]
async fn the_writer_conforms() {
    conformance::check_target(&Folder(TempDir::new().unwrap())).await;
}
