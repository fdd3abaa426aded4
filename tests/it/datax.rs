//! Jobs written for DataX and for DataWorks, run as they are.

use serde_json::json;
use weir::{LoadOptions, Quarantine, RunOptions, Status, job};
use weir_plugins_test::servers;

use crate::orders;
use crate::support::{load, run_ok};

#[tokio::test]
async fn a_datax_job_with_split_pk_pre_sql_and_a_parameter_runs_unchanged() {
    let source = servers::mysql().await.fresh_database("src").await;
    orders::create(&source, "orders").await;
    orders::fill(&source, "orders", 1, 3_000, 0).await;
    let target = servers::postgresql().await.fresh_database("dst").await;
    orders::create(&target, "orders").await;
    orders::fill(&target, "orders", 1, 10, 9).await;
    let text = json!({
        "job": {
            "setting": {"speed": {"channel": "${ch}"}, "errorLimit": {"record": 0, "percentage": 0.02}},
            "content": [{
                "reader": {"name": "mysqlreader", "parameter": {
                    "username": source.user(), "password": source.password(),
                    "column": ["id", "customer", "amount", "paid", "note", "day", "placed", "seen", "ratio", "raw"],
                    "splitPk": "id",
                    "where": "day <= '${dt}';",
                    "connection": [{"table": ["orders"], "jdbcUrl": [source.jdbc_url()]}],
                    "fetchSize": 1000
                }},
                "writer": {"name": "postgresqlwriter", "parameter": {
                    "username": target.user(), "password": target.password(),
                    "column": ["id", "customer", "amount", "paid", "note", "day", "placed", "seen", "ratio", "raw"],
                    "preSql": ["delete from @table"],
                    "postSql": ["create table done as select count(*) from orders"],
                    "connection": [{"jdbcUrl": target.jdbc_url(), "table": ["orders"]}],
                    "batchSize": 500
                }}
            }]
        }
    });
    let options = LoadOptions {
        parameters: vec![("dt".into(), "2024-01-31".into()), ("ch".into(), "3".into())],
        ..LoadOptions::default()
    };
    let job = job::load(&text.to_string(), &options).unwrap();
    let report = weir::run(&job, RunOptions { quarantine: Quarantine::Off, ..RunOptions::default() }).await;
    assert_eq!(report.status, Status::Succeeded, "{report:#?}");
    let mut expected = orders::rows(&source, "orders").await;
    expected.retain(|row| row[5].as_deref() <= Some("2024-01-31"));
    assert_eq!(expected.len(), 1491);
    orders::assert_same(&expected, &orders::rows(&target, "orders").await);
    assert_eq!(target.value("SELECT count FROM done").await, "1491");
}

#[tokio::test]
async fn a_dataworks_script_runs_unchanged() {
    let source = servers::mariadb().await.fresh_database("src").await;
    orders::create(&source, "orders").await;
    orders::fill(&source, "orders", 1, 500, 0).await;
    let target = servers::postgresql().await.fresh_database("dst").await;
    orders::create(&target, "orders").await;
    let folder = tempfile::tempdir().unwrap();
    let sources = folder.path().join("weir.datasources.json");
    let named = json!({
        "shop": {"type": "mysql", "description": "the shop",
                 "dev": {"url": source.url()}, "prod": {"url": "mysql://nowhere/x"}},
        "dwh": {"type": "postgresql", "dev": {"url": target.url()}}
    });
    std::fs::write(&sources, named.to_string()).unwrap();
    let text = json!({
        "type": "job", "version": "2.0",
        "steps": [
            {"stepType": "mysql", "name": "Reader", "category": "reader", "parameter": {
                "datasource": "shop", "connection": [{"datasource": "shop", "table": ["orders"]}],
                "column": ["id", "customer", "amount"], "where": "", "splitPk": "id", "encoding": "UTF-8"}},
            {"stepType": "postgresql", "name": "Writer", "category": "writer", "parameter": {
                "datasource": "dwh", "table": "public.orders", "column": ["id", "customer", "amount"],
                "preSql": [], "postSql": [], "writeMode": "insert"}}
        ],
        "setting": {"errorLimit": {"record": "0"}, "speed": {"throttle": "true", "concurrent": "2", "mbps": "12"}},
        "order": {"hops": [{"from": "Reader", "to": "Writer"}]}
    });
    let options = LoadOptions { datasources: Some(sources), environment: Some("dev".into()), ..LoadOptions::default() };
    let job = job::load(&text.to_string(), &options).unwrap();
    assert_eq!(job.setting.bytes_per_second, Some(12 << 20));
    let report = weir::run(&job, RunOptions { quarantine: Quarantine::Off, ..RunOptions::default() }).await;
    assert_eq!(report.status, Status::Succeeded, "{report:#?}");
    let sum = "SELECT count(*) || ' ' || sum(amount) FROM orders WHERE note IS NULL";
    assert_eq!(target.value(sum).await, "500 156562.50");
}

#[tokio::test]
async fn several_contents_all_run() {
    let folder = tempfile::tempdir().unwrap();
    let content = |name: &str, rows: u64| {
        json!({
            "reader": {"name": "streamreader", "parameter": {
                "column": [{"value": name, "type": "string"}, {"random": "1,9", "type": "long"}],
                "sliceRecordCount": rows}},
            "writer": {"name": "txtfilewriter", "parameter": {
                "path": folder.path(), "fileName": name, "writeMode": "truncate", "fieldDelimiter": "|"}}
        })
    };
    let text = json!({"job": {
        "setting": {"speed": {"channel": 2}}, "content": [content("one", 10), content("two", 20)]}});
    let report = run_ok(&text).await;
    assert_eq!(report.rows_written, 60);
    assert_eq!(report.tables.len(), 2);
}

#[test]
fn a_byte_or_record_speed_sets_the_channels_as_datax_does() {
    let with = |speed: serde_json::Value| {
        let text = json!({
            "core": {"transport": {"channel": {"speed": {"byte": 1048576, "record": 1000}}}},
            "job": {"setting": {"speed": speed}, "content": [{
                "reader": {"name": "streamreader", "parameter": {"column": [{"value": "a"}], "sliceRecordCount": 1}},
                "writer": {"name": "streamwriter", "parameter": {"print": false}}}]}
        });
        let setting = load(&text).setting;
        (setting.channels, setting.rows_per_second, setting.bytes_per_second)
    };
    assert_eq!(with(json!({"byte": 4194304})), (Some(4), Some(4000), Some(4194304)));
    assert_eq!(with(json!({"byte": 4194304, "record": 2000})), (Some(2), Some(2000), Some(4194304)));
    // A rate for each channel is one for the job: five channels of it.
    assert_eq!(with(json!({"channel": 5})), (Some(5), Some(5000), Some(5 * 1048576)));
    assert_eq!(with(json!({"channel": 3, "byte": 4194304})).0, Some(3));
    assert_eq!(with(json!({"channel": 1, "record": 100})), (Some(1), Some(100), Some(1048576)));
}

#[tokio::test]
async fn several_tables_of_one_writer_are_filled_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from.db"), folder.path().join("to.db"));
    for (table, rows) in [("t_0", 3), ("t_1", 5)] {
        let rows = json!({"column": [{"value": table, "type": "string"}], "sliceRecordCount": rows});
        let text = json!({"job": {"setting": {"speed": {"channel": 1}}, "content": [{
            "reader": {"name": "stream", "parameter": rows},
            "writer": {"name": "sqlite", "parameter": {"path": from, "table": table, "column": ["name"]}}}]}});
        run_ok(&text).await;
    }
    let text = json!({"job": {"content": [{
        "reader": {"name": "sqlitereader", "parameter": {"connection": [{"jdbcUrl": [from], "table": ["t_[0-1]"]}]}},
        "writer": {"name": "sqlitewriter", "parameter": {"createTable": true,
            "preSql": ["delete from @table"],
            "connection": [{"jdbcUrl": to, "table": ["x", "y"]}]}}}]}});
    let report = run_ok(&text).await;
    let tables: Vec<_> = report.tables.iter().map(|t| (t.source.as_str(), t.rows_written)).collect();
    assert_eq!(tables, [("t_0", 3), ("t_1", 5)]);
    for (table, rows, name) in [("x", 3, "t_0"), ("y", 5, "t_1")] {
        let sql = format!("select * from {table} where name = '{name}'");
        let seen = run_ok(&json!({"job": {"content": [{
            "reader": {"name": "sqlite", "parameter": {"path": to, "querySql": sql}},
            "writer": {"name": "stream", "parameter": {}}}]}}))
        .await;
        assert_eq!(seen.rows_read, rows, "{table}");
    }
}
