//! Views of PostgreSQL as targets: what lies behind one is more than it shows.

use serde_json::json;
use weir_plugins_test::servers;

use crate::support::{job_of, run_failing};

#[tokio::test]
async fn a_view_is_neither_overwritten_nor_upserted() {
    let database = servers::postgresql().await.fresh_database("behind").await;
    database
        .execute(
            "CREATE TABLE src (id int PRIMARY KEY, v text); INSERT INTO src VALUES (1, 'new'); \
             CREATE TABLE base (id int, v text); INSERT INTO base VALUES (1, 'old'), (50, 'hidden'); \
             CREATE VIEW shown AS SELECT id, v FROM base WHERE id < 10",
        )
        .await;
    let job = |mode: &str| {
        let from = json!({"url": database.url(), "table": "src"});
        let to = json!({"url": database.url(), "table": "shown", "writeMode": mode, "key": if mode == "upsert" { vec!["id"] } else { vec![] }});
        job_of("postgresql", from, "postgresql", to)
    };
    for mode in ["overwrite", "upsert"] {
        let error = run_failing(&job(mode)).await;
        assert!(error.message.contains("is a view") && error.message.contains("append"), "{error:#?}");
        assert_eq!(database.value("SELECT count(*) FROM base").await, "2");
    }
}
