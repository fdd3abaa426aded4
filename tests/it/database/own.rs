//! A job whose target is a table that it reads itself.

use serde_json::{Value, json};
use weir::{RunOptions, Status};
use weir_plugins_test::servers::{self, Database};

use super::{database_job, rows, run, run_ok, table};
use crate::support::{job_of, load, run_failing};

const SQL: &str =
    "CREATE TABLE orders (id int PRIMARY KEY, v varchar(20)); INSERT INTO orders VALUES (1, 'a'), (2, 'b');
                   CREATE TABLE items (id int PRIMARY KEY); INSERT INTO items VALUES (7)";

fn both(plugin: &str, source: &Database, target: &Database, more: Value) -> Value {
    database_job((plugin, json!({"url": source.url()})), (plugin, json!({"url": target.url()})), more)
}

/// Where a MySQL server is both ends, the other database in the target's URL does not say where tables go.
#[tokio::test]
async fn another_database_of_one_server_is_not_overwritten_with_itself() {
    let server = servers::mariadb().await;
    let (shop, backup) = (server.fresh_database("own").await, server.fresh_database("ownbackup").await);
    shop.execute(SQL).await;
    let before = rows(&shop, "orders").await;
    let mirror = |more: Value| both("mysql", &shop, &backup, more);
    let filtered =
        json!({"tables": {"orders": {"where": "id = 1"}, "items": {"target": format!("{}.items", backup.name())}}});
    // Whatever its machine is called.
    let mut job = mirror(filtered);
    job["target"]["parameter"]["url"] = backup.url().replace("127.0.0.1", "localhost").into();
    let plan = weir::plan(&load(&job), &RunOptions::default()).await.unwrap().to_string();
    assert!(plan.contains("a table that the job reads") && plan.contains("mapped     1; failed: 1"), "{plan}");
    let report = run(&job, RunOptions::default()).await;
    assert_eq!(report.status, Status::PartiallyFailed, "{:#?}", report.error);
    let refused = table(&report, &format!("{}.orders", shop.name()));
    assert!(refused.error.as_ref().unwrap().message.contains("`naming`"), "{refused:#?}");
    assert_eq!(rows(&shop, "orders").await, before);
    assert_eq!(rows(&backup, "items").await, rows(&shop, "items").await);
    run_ok(&mirror(json!({"naming": {"schema": "{TARGET_SCHEMA}"}}))).await;
    assert_eq!(rows(&backup, "orders").await, before);
    assert_eq!(rows(&shop, "orders").await, before);
}

#[tokio::test]
async fn one_database_as_both_ends_needs_other_names() {
    let server = servers::postgresql().await;
    let (one, other) = (server.fresh_database("ownone").await, server.fresh_database("ownother").await);
    one.execute(SQL).await;
    for naming in [json!({}), json!({"schema": "{TARGET_SCHEMA}"})] {
        let report = run(&both("postgresql", &one, &one, json!({"naming": naming})), RunOptions::default()).await;
        assert_eq!((report.status, report.rows_written), (Status::Failed, 0), "{:#?}", report.tables);
        let error = report.error.unwrap().message;
        assert!(error.contains("a table that the job reads"), "{error}");
    }
    // A table of this job's own that goes where another one comes from.
    let swapped = json!({"tables": {"items": {"target": "public.orders"}, "orders": {"target": "kept.orders"}}});
    let report = run(&both("postgresql", &one, &one, swapped), RunOptions::default()).await;
    assert_eq!(report.status, Status::PartiallyFailed, "{:#?}", report.tables);
    assert_eq!(rows(&one, "orders").await.len(), 2);
    assert_eq!(rows(&one, "kept.orders").await, rows(&one, "orders").await);
    // Another database of the server has namesakes, and they are others.
    run_ok(&both("postgresql", &one, &other, json!({"objects": {"include": ["public.*"]}}))).await;
    assert_eq!(rows(&other, "orders").await, rows(&one, "orders").await);
    let folder = tempfile::tempdir().unwrap();
    let file = json!({"path": folder.path().join("own.db")});
    run_ok(&database_job(
        ("postgresql", json!({"url": one.url()})),
        ("sqlite", file.clone()),
        json!({"objects": {"include": ["public.*"]}}),
    ))
    .await;
    let report =
        run(&database_job(("sqlite", file.clone()), ("sqlite", file.clone()), json!({})), RunOptions::default()).await;
    assert_eq!(report.status, Status::Failed, "{:#?}", report.tables);
    run_ok(&database_job(("sqlite", file.clone()), ("sqlite", file), json!({"naming": {"table": "{SOURCE_TABLE}_2"}})))
        .await;
}

#[tokio::test]
async fn a_table_is_not_replaced_by_rows_of_its_own_and_may_get_them_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (postgresql, mariadb) = (
        servers::postgresql().await.fresh_database("self").await,
        servers::mariadb().await.fresh_database("self").await,
    );
    for (plugin, database) in [("postgresql", &postgresql), ("mysql", &mariadb)] {
        database.execute("CREATE TABLE t (id int); INSERT INTO t VALUES (1), (2)").await;
        let end = |more: Value| {
            let mut end = json!({"url": database.url(), "table": "t"});
            end.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            end
        };
        let job = |mode: &str| job_of(plugin, end(json!({"where": "id = 1"})), plugin, end(json!({"writeMode": mode})));
        let error = run_failing(&job("overwrite")).await;
        assert!(error.message.contains("the job reads this table"), "{error:?}");
        assert_eq!(database.value("SELECT count(*) FROM t").await, "2");
        crate::support::run_ok(&job("append")).await;
        assert_eq!(database.value("SELECT count(*) FROM t").await, "3");
    }
    // A file of its own is told by its path, however that is written.
    let file = folder.path().join("t.db");
    let end = |path: Value, more: Value| {
        let mut end = json!({"path": path, "table": "t"});
        end.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        end
    };
    let from = json!({"url": postgresql.url(), "table": "t"});
    crate::support::run_ok(&job_of("postgresql", from, "sqlite", end(json!(file), json!({})))).await;
    let written = folder.path().join(".").join("t.db");
    let job =
        job_of("sqlite", end(json!(file), json!({})), "sqlite", end(json!(written), json!({"writeMode": "overwrite"})));
    assert!(run_failing(&job).await.message.contains("the job reads this table"));
}
