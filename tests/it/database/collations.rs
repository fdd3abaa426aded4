//! Keys that the source tells apart and the target does not.

use serde_json::json;
use weir::Status;
use weir_plugins_test::servers;

use super::{database_job, run, run_ok, table};

#[tokio::test]
async fn keys_that_are_equal_by_the_targets_collation_fail_the_table() {
    let source = servers::postgresql().await.fresh_database("collated").await;
    source
        .execute(
            "CREATE TABLE letters (k varchar(9) PRIMARY KEY, v int); INSERT INTO letters VALUES ('A', 1), ('a', 2); \
             CREATE TABLE blanks (k varchar(9) PRIMARY KEY, v int); INSERT INTO blanks VALUES ('a', 1), ('a ', 2); \
             CREATE TABLE fine (k varchar(9) PRIMARY KEY, v int); INSERT INTO fine VALUES ('a', 1), ('A', 2)",
        )
        .await;
    let target = servers::mariadb().await.fresh_database("collated").await;
    target
        .execute("CREATE TABLE letters (k varchar(9) COLLATE utf8mb4_general_ci PRIMARY KEY, v int) CHARSET utf8mb4")
        .await;
    let ends = (("postgresql", json!({"url": source.url()})), ("mysql", json!({"url": target.url()})));
    let more = json!({"write": {"keyed": "upsert"}, "naming": {"schema": "{TARGET_SCHEMA}"}});
    let mut job = database_job(ends.0, ends.1, more);
    let report = run(&job, Default::default()).await;
    assert_eq!(report.status, Status::PartiallyFailed, "{:#?}", report.tables);
    for (name, key) in [("letters", "'A'"), ("blanks", "'a")] {
        let error = table(&report, name).error.as_ref().unwrap();
        let text = &error.message;
        let said = text.contains(name) && text.to_lowercase().contains(&key.to_lowercase());
        assert!(said && text.contains("(k)") && text.contains("collation"), "{error:#?}");
    }
    assert_eq!(target.value("SELECT count(*) FROM letters").await, "0");
    assert_eq!(target.value("SELECT count(*) FROM fine").await, "2");
    // Who wants one of two rows says so.
    job["target"]["parameter"]["duplicateKeys"] = "last".into();
    run_ok(&job).await;
    assert_eq!(target.value("SELECT count(*) FROM letters").await, "1");
}
