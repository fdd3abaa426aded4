//! What every reader must do, done by this one.

use std::net::SocketAddr;

use async_trait::async_trait;
use serde_json::{Value, json};
use weir_plugins_test::conformance::{self, Dialect, Laid, Source, Table};
use weir_plugins_test::servers::{self, Database};
use weir_reader_postgresql as _;

struct Shop(Database);

#[async_trait]
impl Source for Shop {
    fn plugin(&self) -> &'static str {
        "postgresql"
    }

    async fn lay(&self, table: &Table) -> Laid {
        self.0.execute(&table.sql(&Dialect::STANDARD)).await;
        Laid::At(json!({ "url": self.0.url(), "table": table.quoted('"') }))
    }

    async fn missing(&self) -> Option<Value> {
        Some(json!({ "url": self.0.url(), "table": "no_such_table" }))
    }

    async fn wrong_password(&self) -> Option<Value> {
        Some(json!({ "url": self.0.url_with(self.0.user(), "wrong"), "table": "t" }))
    }

    fn at(&self, address: SocketAddr) -> Option<Value> {
        Some(json!({ "url": format!("postgresql://u:p@{address}/d?connectTimeout=2"), "table": "t" }))
    }

    async fn slow(&self) -> Option<Value> {
        Some(json!({ "url": self.0.url(), "querySql": "SELECT i, pg_sleep(0.5)::text FROM generate_series(1, 100) i" }))
    }
}

#[tokio::test]
async fn the_reader_conforms() {
    conformance::check_source(&Shop(servers::postgresql().await.fresh_database("conformance").await)).await;
}
