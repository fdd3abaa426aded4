//! The connector passes the conformance library.

use async_trait::async_trait;
use connector_kv as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use weir_core::WriteMode;
use weir_plugins_test::conformance::{self, Cells, Laid, Source, Table, Target};

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, table: &str) -> String {
        self.0.path().join(table).display().to_string()
    }

    /// Lays the table as a file, if it can be one.
    fn put(&self, table: &Table) -> Result<(), &'static str> {
        let cells = table.cells();
        if cells.iter().any(|row| row[0].is_none()) {
            return Err("a key cannot be NULL");
        }
        let part = |row: &Vec<Option<String>>| [row[0].clone(), row[1].as_ref().map(|v| format!("={v}"))].into_iter();
        let lines: Vec<String> = cells.iter().map(|row| part(row).flatten().collect::<String>() + "\n").collect();
        std::fs::write(self.path(&table.name), lines.concat()).map_err(|_| "the disk refuses")
    }
}

#[async_trait]
impl Source for Folder {
    fn plugin(&self) -> &'static str {
        "kv"
    }
    async fn lay(&self, table: &Table) -> Laid {
        self.put(table).map_or_else(Laid::Cannot, |()| Laid::At(json!({ "path": self.path(&table.name) })))
    }
    fn keeps_every_text(&self) -> bool {
        false
    }
    async fn missing(&self) -> Option<Value> {
        Some(json!({ "path": self.path("missing") }))
    }
}

#[async_trait]
impl Target for Folder {
    fn plugin(&self) -> &'static str {
        "kv"
    }
    async fn parameters(&self, table: &str, mode: WriteMode) -> Option<Value> {
        (mode == WriteMode::Overwrite).then(|| json!({ "path": self.path(table) }))
    }
    async fn lay(&self, table: &Table) -> Result<(), &'static str> {
        self.put(table)
    }
    async fn contents(&self, table: &str) -> Option<Cells> {
        let text = std::fs::read_to_string(self.path(table)).ok()?;
        let entry = |line: &str| match line.split_once('=') {
            Some((key, value)) => vec![Some(key.to_owned()), Some(value.to_owned())],
            None => vec![Some(line.to_owned()), None],
        };
        Some(text.split_terminator('\n').map(entry).collect())
    }
    async fn inventory(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.0.path()).unwrap();
        files.map(|file| file.unwrap().file_name().display().to_string()).collect()
    }
    fn keeps_every_text(&self) -> bool {
        false
    }
    fn takes_what_is_there(&self) -> Option<&'static str> {
        Some("a file is replaced, whoever made it and when")
    }
    async fn refused(&self) -> Option<conformance::Refused> {
        let (rows, refused) = conformance::rows_with_null_keys();
        let table = "refused".to_owned();
        Some(conformance::Refused { parameters: json!({ "path": self.path(&table) }), table, rows, refused })
    }
}

#[test]
fn the_registration_is_in_order() {
    conformance::check_registry();
}

#[tokio::test]
async fn the_reader_conforms() {
    conformance::check_source(&Folder::new()).await;
}

#[tokio::test]
async fn the_writer_conforms() {
    conformance::check_target(&Folder::new()).await;
}
