//! Many rows that a server refuses, all over a large table: they are found by halving batches, and that has to be quick.

use std::time::Instant;

use serde_json::{Value, json};
use weir_plugins_test::servers::{self, Database};

use crate::support::{job_of, load};

const ROWS: u64 = 300_000;
const BAD: u64 = 1_000;

/// Runs a job that tolerates dirty rows; the seconds it took.
async fn seconds(job: &Value, dirty: u64) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let quarantine = weir::Quarantine::Path(folder.path().join("dirty.jsonl"));
    let begun = Instant::now();
    let report = weir::run(&load(job), weir::RunOptions { quarantine, ..weir::RunOptions::default() }).await;
    let seconds = begun.elapsed().as_secs_f64();
    assert_eq!(report.status, weir::Status::Succeeded, "{:#?}", report.error);
    assert_eq!((report.rows_written, report.rows_dirty), (ROWS - dirty, dirty));
    seconds
}

/// A row in three hundred is refused, which are more for each batch than a thousand in a million.
async fn are_found_quickly(name: &str, plugin: &str, database: &Database, check: &str) {
    let column = json!([{"incr": "1,1", "type": "long"}, {"random": "10,40", "type": "string"}]);
    let from = json!({"column": column, "sliceRecordCount": ROWS / 2});
    let job = |table: &str| {
        let mut job = job_of(
            "stream",
            from.clone(),
            plugin,
            json!({"url": database.url(), "table": table, "writeMode": "append"}),
        );
        job["job"]["setting"] = json!({"speed": {"channel": 2}, "errorLimit": {"record": BAD}});
        job
    };
    for (table, check) in [("clean", ""), ("strict", check)] {
        database.execute(&format!("CREATE TABLE {table} (id bigint NOT NULL, word varchar(40){check})")).await;
    }
    let clean = seconds(&job("clean"), 0).await;
    let strict = seconds(&job("strict"), BAD).await;
    println!("{name}: {ROWS} rows in {clean:.1} s, with {BAD} bad ones in {strict:.1} s");
    // Other tests share the machine: what is told apart here is a minute and an hour.
    assert!(strict < clean * 10.0 + 120.0, "{name}: {strict} s with bad rows, {clean} s without");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_bad_rows_cost_seconds() {
    let check = |modulo: &str| format!(", CHECK ({modulo} <> 7)");
    let every = ROWS / BAD;
    let postgresql = servers::postgresql().await.fresh_database("dirty").await;
    are_found_quickly("PostgreSQL", "postgresql", &postgresql, &check(&format!("id % {every}"))).await;
    let mariadb = servers::mariadb().await.fresh_database("dirty").await;
    are_found_quickly("MariaDB", "mysql", &mariadb, &check(&format!("id % {every}"))).await;
    let mysql = servers::mysql().await.fresh_database("dirty").await;
    are_found_quickly("MySQL 9", "mysql", &mysql, &check(&format!("id % {every}"))).await;
}
