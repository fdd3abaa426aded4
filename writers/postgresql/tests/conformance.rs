//! What every writer must do, done by this one.

use std::net::SocketAddr;

use async_trait::async_trait;
use serde_json::{Value, json};
use weir_core::WriteMode;
use weir_plugins_test::conformance::{self, Cells, Dialect, Table, Target};
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

    fn staged(&self, mode: WriteMode) -> bool {
        matches!(mode, WriteMode::Overwrite | WriteMode::Upsert)
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
