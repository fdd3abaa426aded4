//! What every writer must do, done by this one on the server that `WEIR_TEST_SQLSERVER` names.

use std::net::SocketAddr;

use async_trait::async_trait;
use serde_json::{Value, json};
use weir_core::WriteMode;
use weir_plugins_test::conformance::{self, Cells, Dialect, Refused, Sample, Table, Target, WriteCase, samples};
use weir_plugins_test::servers::{self, Database};
use weir_writer_sqlserver as _;

struct Shop {
    database: Database,
    babelfish: bool,
}

#[async_trait]
impl Target for Shop {
    fn plugin(&self) -> &'static str {
        "sqlserver"
    }

    async fn parameters(&self, table: &str, mode: WriteMode) -> Option<Value> {
        Some(json!({ "url": self.database.url(), "table": self.database.quote(table), "writeMode": mode.name() }))
    }

    async fn lay(&self, table: &Table) -> Result<(), &'static str> {
        self.database.execute(&table.sql(&Dialect::SQLSERVER)).await;
        Ok(())
    }

    async fn contents(&self, table: &str) -> Option<Cells> {
        let there = format!("SELECT COUNT(*) FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_NAME = N'{table}'");
        if self.database.value(&there).await == "0" {
            return None;
        }
        // Times have no text form of their own.
        let value = match table.strip_prefix("weir_w_type_") {
            Some("date") => "CONVERT(varchar(10), value, 23)",
            // Cut, for relatives show seven digits of what has six.
            Some("time") => "LEFT(CONVERT(varchar(30), CAST(value AS time(6)), 121), 15)",
            Some("timestamp") => "CONVERT(varchar(30), CAST(value AS datetime2(6)), 121)",
            // What its clock shows is the instant in UTC only where its offset is that of UTC.
            // Filled up, for relatives leave out zeros at the end.
            Some("instant") => "LEFT(CONVERT(varchar(26), CAST(value AS datetime2(6)), 121) + '000000', 26)",
            _ => "*",
        };
        Some(self.database.query(&format!("SELECT {value} FROM {}", self.database.quote(table))).await)
    }

    async fn inventory(&self) -> Vec<String> {
        let sql = "SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES";
        self.database.query(sql).await.into_iter().flatten().flatten().collect()
    }

    fn takes_what_is_there(&self) -> Option<&'static str> {
        Some("what is made meanwhile is taken for the run's own")
    }

    async fn types(&self) -> Vec<WriteCase> {
        let case = |sample: Sample| match sample.name {
            "bool" => sample.case(["1", "0"]),
            "bytes" => sample.case(["00ff5c0a27", "61"]),
            "time" => sample.case(["23:59:59.999999", "00:00:00.000000"]),
            "timestamp" => sample.case(["1969-12-31 23:59:59.999999", "9999-12-31 23:59:59.999999"]),
            "instant" => sample.case(["2024-02-29 06:30:00.500000", "1970-01-01 00:00:01.000001"]),
            "any_decimal" => sample.case(["123456789012345678901234567890.50000000", "-0.00000100"]),
            "duration" => sample.case(["-01:02:03.5", "25:00:00"]),
            "uuid" => sample.case(["a0a0a0a0-a0a0-a0a0-a0a0-a0a0a0a0a0a0", "00000000-0000-0000-0000-000000000000"]),
            "list" => sample.case(["[1,null,-3]", "[]"]),
            _ => sample.case(sample.texts()),
        };
        samples().into_iter().map(case).collect()
    }

    async fn refused(&self) -> Option<Refused> {
        let (rows, refused) = conformance::rows_with_null_keys();
        self.database
            .execute("CREATE TABLE refused ([key] nvarchar(100) NOT NULL PRIMARY KEY, value nvarchar(max))")
            .await;
        let parameters = json!({ "url": self.database.url(), "table": "refused" });
        Some(Refused { parameters, table: "refused".into(), rows, refused })
    }

    fn keeps_not_null(&self) -> Option<&'static str> {
        self.babelfish.then_some("Babelfish does not know ALTER COLUMN … NULL")
    }

    async fn missing(&self) -> Option<Value> {
        Some(json!({ "url": self.database.url(), "table": "no_such_table", "createTable": false }))
    }

    async fn wrong_password(&self) -> Option<Value> {
        Some(json!({ "url": self.database.url_with(self.database.user(), "wrong"), "table": "t" }))
    }

    fn at(&self, address: SocketAddr) -> Option<Value> {
        Some(json!({ "url": format!("sqlserver://u:p@{address}/d?loginTimeout=2"), "table": "t" }))
    }
}

#[tokio::test]
async fn the_writer_conforms() {
    let Some(server) = servers::sqlserver() else { return };
    let database = server.fresh_database("conformance").await;
    let babelfish = database.is_babelfish().await;
    conformance::check_target(&Shop { database, babelfish }).await;
}
