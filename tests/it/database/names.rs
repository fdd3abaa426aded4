//! Names that a target does not take, or that are Weir's own there.

use serde_json::json;
use weir::Status;
use weir_plugins_test::servers;

use super::{database_job, run, run_ok, table};

#[tokio::test]
async fn names_that_mysql_does_not_take_are_told_beforehand_and_mended() {
    let source = servers::postgresql().await.fresh_database("odd").await;
    source
        .execute(
            "CREATE TABLE \"blank \" (id int PRIMARY KEY); CREATE TABLE \"smile😀\" (id int PRIMARY KEY); \
             CREATE TABLE columns (id int PRIMARY KEY, \"c \" int, \"d😀\" int); CREATE TABLE \"größe 表\" (id int PRIMARY KEY); \
             INSERT INTO columns VALUES (1, 2, 3)",
        )
        .await;
    let target = servers::mariadb().await.fresh_database("odd").await;
    let ends = (("postgresql", json!({"url": source.url()})), ("mysql", json!({"url": target.url()})));
    let mut job = database_job(ends.0, ends.1, json!({"naming": {"schema": "{TARGET_SCHEMA}"}}));
    let report = run(&job, Default::default()).await;
    assert_eq!(report.status, Status::PartiallyFailed, "{:#?}", report.error);
    let failed: Vec<_> = report.tables.iter().filter_map(|table| table.error.as_ref()).collect();
    assert_eq!(failed.len(), 3, "{failed:#?}");
    assert!(failed.iter().all(|error| error.message.contains("takes no") && error.message.contains("naming.fix")));
    job["naming"]["fix"] = true.into();
    let report = run_ok(&job).await;
    assert_eq!((report.tables.len(), report.rows_written), (4, 1));
    let columns = target.query("SELECT * FROM columns").await;
    assert_eq!(columns, [["1", "2", "3"].map(|cell| Some(cell.to_owned()))]);
}
