//! What every writer must do, done by this one.

use std::net::SocketAddr;

use async_trait::async_trait;
use serde_json::{Value, json};
use weir_core::WriteMode;
use weir_plugins_test::conformance::{self, Cells, Dialect, Refused, Table, Target, WriteCase, samples};
use weir_plugins_test::servers::{self, Database};
use weir_writer_postgresql as _;

struct Shop(Database);

#[async_trait]
impl Target for Shop {
    fn plugin(&self) -> &'static str {
        "postgresql"
    }

    async fn parameters(&self, table: &str, mode: WriteMode) -> Option<Value> {
        let table = self.0.quote(table);
        (mode != WriteMode::Replace).then(|| json!({ "url": self.0.url(), "table": table, "writeMode": mode.name() }))
    }

    async fn lay(&self, table: &Table) -> Result<(), &'static str> {
        self.0.execute(&table.sql(&Dialect::STANDARD)).await;
        Ok(())
    }

    async fn contents(&self, table: &str) -> Option<Cells> {
        let quoted = self.0.quote(table);
        let there = self.0.query(&format!("SELECT to_regclass('{}')", quoted.replace('\'', "''"))).await;
        there[0][0].as_ref()?;
        Some(self.0.query(&format!("SELECT * FROM {quoted}")).await)
    }

    async fn inventory(&self) -> Vec<String> {
        let sql = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'";
        self.0.query(sql).await.into_iter().flatten().flatten().collect()
    }

    async fn types(&self) -> Vec<WriteCase> {
        let case = |sample: conformance::Sample| match sample.name {
            "bool" => sample.case(["t", "f"]),
            "timestamp" => sample.case(["1969-12-31 23:59:59.999999", "9999-12-31 23:59:59.999999"]),
            "instant" => sample.case(["2024-02-29 06:30:00.5+00", "1970-01-01 00:00:01.000001+00"]),
            "duration" => sample.case(["-01:02:03.5", "25:00:00"]),
            "interval" => sample.case(["1 year 2 mons 3 days 04:05:06.5", "-1 days"]),
            "uuid" => sample.case(["a0a0a0a0-a0a0-a0a0-a0a0-a0a0a0a0a0a0", "00000000-0000-0000-0000-000000000000"]),
            "list" => sample.case(["{1,NULL,-3}", "{}"]),
            "bytes" => sample.case(["\\x00ff5c0a27", "\\x61"]),
            _ => sample.case(sample.texts()),
        };
        samples().into_iter().map(case).collect()
    }

    async fn refused(&self) -> Option<Refused> {
        let (rows, refused) = conformance::rows_with_null_keys();
        self.0.execute("CREATE TABLE refused (key text PRIMARY KEY, value text)").await;
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
        Some(json!({ "url": format!("postgresql://u:p@{address}/d?connectTimeout=2"), "table": "t" }))
    }
}

#[tokio::test]
async fn the_writer_conforms() {
    conformance::check_target(&Shop(servers::postgresql().await.fresh_database("conformance").await)).await;
}
