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

#[tokio::test]
async fn columns_named_like_those_of_staging_are_refused_by_name() {
    let server = servers::postgresql().await;
    let source = server.fresh_database("own").await;
    source
        .execute(
            "CREATE TABLE t (id int PRIMARY KEY, weir_split int); INSERT INTO t VALUES (1, 2); CREATE TABLE u (id int)",
        )
        .await;
    let (there, home) = (servers::mariadb().await.fresh_database("own").await, server.fresh_database("own").await);
    for (name, target) in [("mysql", &there), ("postgresql", &home)] {
        let ends = (("postgresql", json!({"url": source.url()})), (name, json!({"url": target.url()})));
        for mode in ["overwrite", "upsert"] {
            let more = json!({"naming": {"schema": "{TARGET_SCHEMA}"}, "write": {"keyed": mode}});
            let mut job = database_job((ends.0.0, ends.0.1.clone()), (ends.1.0, ends.1.1.clone()), more);
            let report = run(&job, Default::default()).await;
            assert_eq!(report.status, Status::PartiallyFailed, "{:#?}", report.error);
            let error = table(&report, "t").error.as_ref().unwrap();
            assert!(error.message.contains("called `weir_split`"), "{name} {mode}: {error:#?}");
            job["tables"] = json!({"t": {"columns": {"weir_split": "split_no"}}});
            run_ok(&job).await;
            assert_eq!(target.value("SELECT split_no FROM t").await, "2");
            target.execute("DROP TABLE t").await;
        }
    }
}
