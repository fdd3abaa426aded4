//! What every writer must do, done by this one in each of its formats that can be read back.

use std::path::PathBuf;

use arrow::compute::concat_batches;
use async_trait::async_trait;
use serde_json::{Value, json};
use tempfile::TempDir;
use weir_core::WriteMode;
use weir_plugins_test::conformance::{self, Cells, Refused, Sample, Table, Target, WriteCase, samples};
use weir_plugins_test::harness::{self, cells, open_reader};
use weir_reader_files as _;
use weir_writer_files as _;

/// Where a table is: one file of a format, or a folder of such files.
struct Folder {
    folder: TempDir,
    format: &'static str,
    many: bool,
}

impl Folder {
    fn path(&self, table: &str) -> PathBuf {
        self.folder.path().join(if self.many { table.to_owned() } else { format!("{table}.{}", self.format) })
    }

    /// What the test itself writes: a file of the format.
    fn put(&self, table: &Table) {
        let path = self.path(&table.name);
        let path = if self.many {
            std::fs::create_dir_all(&path).unwrap();
            path.join(format!("laid.{}", self.format))
        } else {
            path
        };
        let schema = table.rows.schema();
        let file = std::fs::File::create(path).unwrap();
        match self.format {
            "parquet" => {
                let mut writer = parquet::arrow::ArrowWriter::try_new(file, schema, None).unwrap();
                writer.write(&table.rows).unwrap();
                writer.close().unwrap();
            }
            "arrow" => {
                let mut writer = arrow::ipc::writer::FileWriter::try_new(file, &schema).unwrap();
                writer.write(&table.rows).unwrap();
                writer.finish().unwrap();
            }
            "csv" => arrow::csv::Writer::new(file).write(&table.rows).unwrap(),
            _ => arrow::json::LineDelimitedWriter::new(file).write(&table.rows).unwrap(),
        }
    }
}

#[async_trait]
impl Target for Folder {
    fn plugin(&self) -> &'static str {
        "files"
    }

    async fn parameters(&self, table: &str, mode: WriteMode) -> Option<Value> {
        // Parquet and Arrow files end with their directory: rows cannot be added to one.
        let adds = self.many || matches!(self.format, "csv" | "jsonl");
        let known = mode == WriteMode::Overwrite || (mode == WriteMode::Append && adds);
        known.then(|| json!({ "path": self.path(table), "format": self.format, "writeMode": mode.name() }))
    }

    async fn lay(&self, table: &Table) -> Result<(), &'static str> {
        self.put(table);
        Ok(())
    }

    async fn contents(&self, table: &str) -> Option<Cells> {
        let path = self.path(table);
        if !path.exists() || std::fs::metadata(&path).is_ok_and(|m| m.is_dir() && path.read_dir().unwrap().count() == 0)
        {
            return None;
        }
        let mut parameters = json!({ "path": path, "format": self.format });
        if self.format == "jsonl" && std::fs::metadata(&path).is_ok_and(|file| file.len() == 0) {
            return Some(Cells::new());
        }
        if self.format == "csv" && table.starts_with("weir_w_type_") {
            // As it stands in the file.
            parameters["column"] = json!([{ "name": "value", "type": "string" }]);
        }
        let read = harness::read_all(&open_reader("files", parameters).unwrap()).await.unwrap();
        Some(cells(&read.batches()))
    }

    async fn inventory(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in folder.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
                names.push(entry.strip_prefix(self.folder.path()).unwrap().display().to_string());
                if entry.is_dir() {
                    folders.push(entry);
                }
            }
        }
        names
    }

    fn takes_what_is_there(&self) -> Option<&'static str> {
        Some("a mode says what becomes of files, whoever made them and when")
    }

    async fn types(&self) -> Vec<WriteCase> {
        let text = matches!(self.format, "csv" | "jsonl");
        let case = |sample: Sample| match sample.name {
            "bytes" if text => sample.case(["\\x00ff5c0a27", "\\x61"]),
            "timestamp" if text => sample.case(["1969-12-31 23:59:59.999999", "9999-12-31 23:59:59.999999"]),
            "instant" if text => sample.case(["2024-02-29 06:30:00.500Z", "1970-01-01 00:00:01.000001Z"]),
            "uuid" if text => {
                sample.case(["a0a0a0a0-a0a0-a0a0-a0a0-a0a0a0a0a0a0", "00000000-0000-0000-0000-000000000000"])
            }
            "duration" if text => sample.case(["-01:02:03.5", "25:00:00"]),
            "list" if text => sample.case(["[1,null,-3]", "[]"]),
            _ => sample.case(sample.texts()),
        };
        // See `refused` for JSON in JSON lines.
        let written = |sample: &Sample| self.format != "jsonl" || sample.name != "json";
        samples().into_iter().filter(written).map(case).collect()
    }

    async fn refused(&self) -> Option<Refused> {
        let (encoding, (rows, refused)) = match self.format {
            // Latin-1 has no crab.
            "csv" if !self.many => ("ISO-8859-1", conformance::rows_with_keys(Some("🦀"))),
            // A JSON null would be read back as no value at all.
            "jsonl" => {
                let rows = samples().into_iter().find(|s| s.name == "json")?.rows;
                ("UTF-8", (concat_batches(rows.schema_ref(), [&rows, &rows]).unwrap(), vec![1, rows.num_rows() + 1]))
            }
            _ => return None,
        };
        let parameters = json!({ "path": self.path("refused"), "writeMode": "truncate", "encoding": encoding });
        Some(Refused { parameters, table: "refused".into(), rows, refused })
    }
}

async fn conforms(format: &'static str, many: bool) {
    conformance::check_target(&Folder { folder: TempDir::new().unwrap(), format, many }).await;
}

#[tokio::test]
async fn csv_conforms() {
    conforms("csv", false).await;
}

#[tokio::test]
async fn json_lines_conform() {
    conforms("jsonl", false).await;
}

#[tokio::test]
async fn parquet_conforms() {
    conforms("parquet", false).await;
}

#[tokio::test]
async fn arrow_conforms() {
    conforms("arrow", false).await;
}

#[tokio::test]
async fn folders_conform() {
    conforms("csv", true).await;
    conforms("parquet", true).await;
}
