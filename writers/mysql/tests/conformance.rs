//! What every writer must do, done by this one on MariaDB (with LOAD DATA) and the real MySQL 9 (without).

use std::net::SocketAddr;

use async_trait::async_trait;
use serde_json::{Value, json};
use weir_core::WriteMode;
use weir_plugins_test::conformance::{self, Cells, Dialect, Refused, Sample, Table, Target, WriteCase, samples};
use weir_plugins_test::servers::{self, Database};
use weir_writer_mysql as _;

struct Shop(Database);

#[async_trait]
impl Target for Shop {
    fn plugin(&self) -> &'static str {
        "mysql"
    }

    async fn parameters(&self, table: &str, mode: WriteMode) -> Option<Value> {
        Some(json!({ "url": self.0.url(), "table": self.0.quote(table), "writeMode": mode.name() }))
    }

    async fn lay(&self, table: &Table) -> Result<(), &'static str> {
        self.0.execute(&table.sql(&Dialect::MYSQL)).await;
        Ok(())
    }

    async fn contents(&self, table: &str) -> Option<Cells> {
        let there = format!(
            "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = '{table}'"
        );
        if self.0.value(&there).await == "0" {
            return None;
        }
        // Bytes have no text form of their own.
        let value = if table == "weir_w_type_bytes" { "HEX(value)" } else { "*" };
        Some(self.0.query(&format!("SELECT {value} FROM {}", self.0.quote(table))).await)
    }

    async fn inventory(&self) -> Vec<String> {
        let sql = "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()";
        self.0.query(sql).await.into_iter().flatten().flatten().collect()
    }

    async fn types(&self) -> Vec<WriteCase> {
        let case = |sample: Sample| match sample.name {
            "bool" => sample.case(["1", "0"]),
            "bytes" => sample.case(["00FF5C0A27", "61"]),
            "any_decimal" => sample.case([
                "123456789012345678901234567890.500000000000000000000000000000",
                "-0.000001000000000000000000000000",
            ]),
            "time" => sample.case(["23:59:59.999999", "00:00:00.000000"]),
            "timestamp" => sample.case(["1969-12-31 23:59:59.999999", "9999-12-31 23:59:59.999999"]),
            "instant" => sample.case(["2024-02-29 06:30:00.500000", "1970-01-01 00:00:01.000001"]),
            "duration" => sample.case(["-01:02:03.500000", "25:00:00.000000"]),
            "uuid" => sample.case(["a0a0a0a0-a0a0-a0a0-a0a0-a0a0a0a0a0a0", "00000000-0000-0000-0000-000000000000"]),
            "list" => sample.case(["[1,null,-3]", "[]"]),
            _ => sample.case(sample.texts()),
        };
        samples().into_iter().map(case).collect()
    }

    async fn refused(&self) -> Option<Refused> {
        let (rows, refused) = conformance::rows_with_null_keys();
        self.0.execute("CREATE TABLE refused (`key` varchar(100) PRIMARY KEY, value text)").await;
        let parameters = json!({ "url": self.0.url(), "table": "refused" });
        Some(Refused { parameters, table: "refused".into(), rows, refused })
    }

    async fn missing(&self) -> Option<Value> {
        Some(json!({ "url": self.0.url(), "table": "no_such_table", "createTable": false }))
    }

    async fn wrong_password(&self) -> Option<Value> {
        Some(json!({ "url": self.0.url_with(self.0.user(), "wrong"), "table": "t" }))
    }

    fn at(&self, address: SocketAddr) -> Option<Value> {
        Some(json!({ "url": format!("mysql://u:p@{address}/d?connectTimeout=2000"), "table": "t" }))
    }
}

#[tokio::test]
async fn the_writer_conforms_on_mariadb() {
    conformance::check_target(&Shop(servers::mariadb().await.fresh_database("conformance").await)).await;
}

#[tokio::test]
async fn the_writer_conforms_on_mysql() {
    conformance::check_target(&Shop(servers::mysql().await.fresh_database("conformance").await)).await;
}
