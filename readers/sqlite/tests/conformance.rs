//! What every reader must do, done by this one.

use async_trait::async_trait;
use serde_json::{Value, json};
use tempfile::TempDir;
use weir_plugins_test::conformance::{self, Dialect, Laid, Source, Table, TypeCase};
use weir_plugins_test::harness::{context, control};
use weir_reader_sqlite as _;
use weir_sqlite::{Access, File};

struct Shop(TempDir);

impl Shop {
    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("shop.db")
    }

    async fn execute(&self, sql: String) {
        let file = File { path: self.path(), session: Vec::new() };
        let done = async move { file.with(Access::Create, &context(), move |db| Ok(db.execute(&sql)?)).await };
        control(done).await.unwrap();
    }
}

/// Declared type, two literals, and what they are in the canonical form.
const TYPES: &[(&str, [&str; 2], [&str; 2])] = &[
    ("INTEGER", ["-9223372036854775808", "9223372036854775807"], ["-9223372036854775808", "9223372036854775807"]),
    ("INT", ["1", "-1"], ["1", "-1"]),
    ("BYTEINT", ["-128", "127"], ["-128", "127"]),
    ("UINT64", ["0", "9223372036854775807"], ["0", "9223372036854775807"]),
    ("REAL", ["0.1", "-1e300"], ["0.1", "-1e300"]),
    ("DECIMAL(10,2)", ["19.90", "-3"], ["19.90", "-3.00"]),
    (
        "DECIMAL_TEXT(38,10)",
        ["'9999999999999999999999999999.9999999999'", "'1'"],
        ["9999999999999999999999999999.9999999999", "1.0000000000"],
    ),
    ("NUMERIC", ["1", "2.5"], ["1", "2.5"]),
    ("TEXT", ["'wéir 🦀'", "''"], ["wéir 🦀", ""]),
    ("VARCHAR(20)", ["'it''s'", "'a '"], ["it's", "a "]),
    ("BLOB", ["x'00ff'", "x''"], ["00ff", ""]),
    ("BOOLEAN", ["1", "0"], ["true", "false"]),
    ("DATE", ["'0001-01-01'", "'9999-12-31'"], ["0001-01-01", "9999-12-31"]),
    ("TIME", ["'23:59:59.999999'", "'00:00'"], ["23:59:59.999999", "00:00:00"]),
    (
        "DATETIME",
        ["'1969-12-31 23:59:59.999999'", "'2024-02-29T00:00:00'"],
        ["1969-12-31T23:59:59.999999", "2024-02-29T00:00:00"],
    ),
    (
        "TIMESTAMPTZ",
        ["'2024-03-01T00:00:00+01:00'", "'1970-01-01 00:00:00.5Z'"],
        ["2024-02-29T23:00:00Z", "1970-01-01T00:00:00.500Z"],
    ),
    ("JSON", ["'{\"b\":1, \"a\":2.50}'", "'null'"], ["{\"b\":1, \"a\":2.50}", "null"]),
    (
        "UUID",
        ["'6f9619ff-8b86-d011-b42d-00c04fc964ff'", "'00000000-0000-0000-0000-000000000000'"],
        ["6f9619ff8b86d011b42d00c04fc964ff", "00000000000000000000000000000000"],
    ),
    ("INTERVAL", ["'P1Y2M'", "'PT-1S'"], ["P1Y2M", "PT-1S"]),
    ("", ["1", "2"], ["1", "2"]),
    ("", ["1", "'two'"], ["1", "two"]),
];

#[async_trait]
impl Source for Shop {
    fn plugin(&self) -> &'static str {
        "sqlite"
    }

    async fn lay(&self, table: &Table) -> Laid {
        self.execute(table.sql(&Dialect::STANDARD)).await;
        Laid::At(json!({ "path": self.path(), "table": table.quoted('"') }))
    }

    async fn types(&self) -> Vec<TypeCase> {
        let mut cases = Vec::new();
        for (i, (name, [one, two], [first, second])) in TYPES.iter().enumerate() {
            let rows = format!("INSERT INTO type_{i} VALUES ({one}), ({two}), (NULL)");
            self.execute(format!("CREATE TABLE type_{i} (v {name}); {rows}")).await;
            let parameters = json!({ "path": self.path(), "table": format!("type_{i}") });
            cases.push(TypeCase::new(name, parameters, "v", [Some(*first), Some(*second), None]));
        }
        cases
    }

    async fn missing(&self) -> Option<Value> {
        Some(json!({ "path": self.path(), "table": "no_such_table" }))
    }

    async fn slow(&self) -> Option<Value> {
        let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000)";
        Some(json!({ "path": self.path(), "querySql": format!("{numbers} SELECT max(i) AS i FROM n") }))
    }
}

#[tokio::test]
async fn the_reader_conforms() {
    conformance::check_source(&Shop(TempDir::new().unwrap())).await;
}
