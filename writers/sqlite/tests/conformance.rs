//! What every writer must do, done by this one.

use async_trait::async_trait;
use serde_json::{Value, json};
use tempfile::TempDir;
use weir_core::{Result, WriteMode};
use weir_plugins_test::conformance::{self, Cells, Dialect, Refused, Sample, Table, Target, WriteCase, samples};
use weir_plugins_test::harness::{WriteOptions, context, control, open_writer, write_all};
use weir_sqlite::{Access, Database, File, Value as Stored};
use weir_writer_sqlite as _;

struct Shop(TempDir);

impl Shop {
    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("shop.db")
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let file = File { path: self.path(), session: Vec::new() };
        control(async move { file.with(Access::Create, &context(), work).await }).await
    }
}

/// A stored value as text: its SQL literal where it is a number or bytes.
fn text(value: Stored<'_>) -> Option<String> {
    match value {
        Stored::Null => None,
        Stored::Integer(number) => Some(number.to_string()),
        Stored::Real(number) => Some(number.to_string()),
        Stored::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
        Stored::Blob(bytes) => Some(bytes.iter().map(|b| format!("{b:02x}")).collect()),
    }
}

#[async_trait]
impl Target for Shop {
    fn plugin(&self) -> &'static str {
        "sqlite"
    }

    async fn parameters(&self, table: &str, mode: WriteMode) -> Option<Value> {
        Some(json!({ "path": self.path(), "table": format!("\"{table}\""), "writeMode": mode.name() }))
    }

    async fn lay(&self, table: &Table) -> Result<(), &'static str> {
        let sql = table.sql(&Dialect::STANDARD);
        self.with(move |db| Ok(db.execute(&sql)?)).await.map_err(|_| "SQLite refuses the table")
    }

    async fn contents(&self, table: &str) -> Option<Cells> {
        let sql = format!("SELECT * FROM \"{table}\"");
        let read = self.with(move |db| {
            let columns = db.prepare(&sql)?.columns().len();
            let mut rows = Cells::new();
            db.query(&sql, &[], |row| rows.push((0..columns).map(|i| text(row.value(i))).collect()))?;
            Ok(rows)
        });
        read.await.ok()
    }

    async fn inventory(&self) -> Vec<String> {
        let tables = self.with(|db| Ok(db.texts("SELECT name FROM sqlite_schema WHERE type = 'table'", &[])?)).await;
        let files = std::fs::read_dir(self.0.path()).unwrap().map(|f| f.unwrap().file_name().display().to_string());
        files.chain(tables.unwrap()).collect()
    }

    async fn types(&self) -> Vec<WriteCase> {
        let case = |sample: Sample| match sample.name {
            "bool" => sample.case(["1", "0"]),
            "timestamp" => sample.case(["1969-12-31 23:59:59.999999", "9999-12-31 23:59:59.999999"]),
            "instant" => sample.case(["2024-02-29 06:30:00.500+00:00", "1970-01-01 00:00:01.000001+00:00"]),
            "duration" => sample.case(["-01:02:03.500", "25:00:00"]),
            "uuid" => sample.case(["a0a0a0a0-a0a0-a0a0-a0a0-a0a0a0a0a0a0", "00000000-0000-0000-0000-000000000000"]),
            "list" => sample.case(["[1,null,-3]", "[]"]),
            _ => sample.case(sample.texts()),
        };
        samples().into_iter().map(case).collect()
    }

    async fn refused(&self) -> Option<Refused> {
        let (rows, refused) = conformance::rows_with_null_keys();
        let sql = "CREATE TABLE refused (key text PRIMARY KEY NOT NULL, value text)";
        self.with(move |db| Ok(db.execute(sql)?)).await.unwrap();
        let parameters = json!({ "path": self.path(), "table": "refused" });
        Some(Refused { parameters, table: "refused".into(), rows, refused })
    }

    async fn missing(&self) -> Option<Value> {
        Some(json!({ "path": self.path(), "table": "no_such_table", "createTable": false }))
    }
}

#[tokio::test]
async fn integers_beyond_63_bits_are_refused_where_the_column_has_no_room() {
    let shop = Shop(TempDir::new().unwrap());
    // A name with INT stands for SQLite's own integers.
    shop.with(|db| Ok(db.execute("CREATE TABLE large (value UINT64)")?)).await.unwrap();
    let sample = samples().into_iter().find(|sample| sample.name == "uint64").unwrap();
    let writer = open_writer("sqlite", json!({ "path": shop.path(), "table": "large" })).unwrap();
    let written = write_all(&writer, vec![sample.rows], WriteOptions::default()).await.unwrap();
    assert_eq!((written.rows(), written.refused.len()), (2, 1));
    assert_eq!(shop.contents("large").await.unwrap(), [[Some("0".to_owned())], [None]]);
}

#[tokio::test]
async fn the_writer_conforms() {
    conformance::check_target(&Shop(TempDir::new().unwrap())).await;
}
