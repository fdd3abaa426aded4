//! What every reader must do, done by this one in each of its formats.

use std::fs::File;
use std::path::PathBuf;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};
use tempfile::TempDir;
use weir_plugins_test::conformance::{self, Laid, Source, Table, TypeCase, samples};
use weir_reader_files as _;

/// Files of one format in a folder.
struct Folder {
    folder: TempDir,
    format: &'static str,
}

impl Folder {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.{}", self.format))
    }

    fn parquet(&self, name: &str, rows: &RecordBatch) {
        // Small groups of rows, for each may be a split.
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(500)).build();
        let file = File::create(self.path(name)).unwrap();
        let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties)).unwrap();
        writer.write(rows).unwrap();
        writer.close().unwrap();
    }

    fn arrow(&self, name: &str, rows: &RecordBatch) {
        let file = File::create(self.path(name)).unwrap();
        let mut writer = arrow::ipc::writer::FileWriter::try_new(file, &rows.schema()).unwrap();
        writer.write(rows).unwrap();
        writer.finish().unwrap();
    }

    fn text(&self, name: &str, lines: impl IntoIterator<Item = String>) {
        std::fs::write(self.path(name), lines.into_iter().map(|line| line + "\n").collect::<String>()).unwrap();
    }
}

/// A CSV field: every text in quotes, NULL as nothing.
fn field(text: Option<&String>) -> String {
    text.map(|text| format!("\"{}\"", text.replace('"', "\"\""))).unwrap_or_default()
}

/// What the first rows or the job's own list say, two values as they stand in a file, and their canonical form.
const TEXT_TYPES: &[(&str, [&str; 2], [&str; 2])] = &[
    ("long", ["-9223372036854775808", "7"], ["-9223372036854775808", "7"]),
    ("double", ["0.1", "-1e300"], ["0.1", "-1e300"]),
    ("boolean", ["true", "false"], ["true", "false"]),
    (
        "decimal(38,10)",
        ["9999999999999999999999999999.9999999999", "-1"],
        ["9999999999999999999999999999.9999999999", "-1.0000000000"],
    ),
    ("decimal", ["123456789012345678901234567890.5", "-0.10"], ["123456789012345678901234567890.5", "-0.10"]),
    (
        "timestamp",
        ["2024-02-29 10:00:00.5", "1969-12-31 23:59:59.999999"],
        ["2024-02-29T10:00:00.500", "1969-12-31T23:59:59.999999"],
    ),
    (
        "instant",
        ["2024-02-29 10:00:00+01:00", "1970-01-01T00:00:00Z"],
        ["2024-02-29T09:00:00Z", "1970-01-01T00:00:00Z"],
    ),
    ("string", ["007", "wéir 🦀"], ["007", "wéir 🦀"]),
];

#[async_trait]
impl Source for Folder {
    fn plugin(&self) -> &'static str {
        "files"
    }

    async fn lay(&self, table: &Table) -> Laid {
        let mut parameters = json!({ "path": self.path(&table.name) });
        match self.format {
            "parquet" => self.parquet(&table.name, &table.rows),
            "arrow" => self.arrow(&table.name, &table.rows),
            "csv" => {
                let row = |row: &Vec<Option<String>>| format!("{},{}", field(row[0].as_ref()), field(row[1].as_ref()));
                let rows = table.cells();
                self.text(&table.name, ["key,value".to_owned()].into_iter().chain(rows.iter().map(row)));
            }
            _ => {
                let kind = if table.key_is_text() { "string" } else { "long" };
                let row = |row: Vec<Option<String>>| {
                    let number = row[0].as_ref().and_then(|key| key.parse::<i64>().ok());
                    let key = if table.key_is_text() { json!(row[0]) } else { json!(number) };
                    json!({ "key": key, "value": row[1] }).to_string()
                };
                self.text(&table.name, table.cells().into_iter().map(row));
                // A file without lines names no columns.
                parameters["column"] = json!([{ "name": "key", "type": kind }, { "name": "value", "type": "string" }]);
            }
        }
        Laid::At(parameters)
    }

    async fn types(&self) -> Vec<TypeCase> {
        let mut cases = Vec::new();
        if matches!(self.format, "parquet" | "arrow") {
            for sample in samples() {
                let path = self.path(sample.name);
                match self.format {
                    "parquet" => self.parquet(sample.name, &sample.rows),
                    _ => self.arrow(sample.name, &sample.rows),
                }
                let [first, second] = sample.texts();
                let values = [Some(first.as_str()), Some(second.as_str()), None];
                cases.push(TypeCase::new(sample.name, json!({ "path": path }), "value", values));
            }
            return cases;
        }
        for (kind, [one, two], [first, second]) in TEXT_TYPES {
            let name = format!("type {kind}");
            match self.format {
                "csv" => self.text(&name, ["n,v".into(), format!("1,{one}"), format!("2,{two}"), "3,".into()]),
                _ => {
                    let plain = matches!(*kind, "long" | "double" | "boolean" | "decimal" | "decimal(38,10)");
                    let line = |v: &str| if plain { format!("{{\"v\": {v}}}") } else { json!({ "v": v }).to_string() };
                    self.text(&name, [line(one), line(two), "{\"v\": null}".into()]);
                }
            }
            let values = [Some(*first), Some(*second), None];
            let listed = json!({ "path": self.path(&name), "column": [{ "name": "v", "type": kind }] });
            cases.push(TypeCase::new(kind, listed, "v", values));
        }
        cases
    }

    async fn missing(&self) -> Option<Value> {
        Some(json!({ "path": self.path("missing") }))
    }
}

async fn conforms(format: &'static str) {
    conformance::check_source(&Folder { folder: TempDir::new().unwrap(), format }).await;
}

#[tokio::test]
async fn csv_conforms() {
    conforms("csv").await;
}

#[tokio::test]
async fn json_lines_conform() {
    conforms("jsonl").await;
}

#[tokio::test]
async fn parquet_conforms() {
    conforms("parquet").await;
}

#[tokio::test]
async fn arrow_conforms() {
    conforms("arrow").await;
}
