//! Names that a target does not take, or that are Weir's own there.

use serde_json::json;
use weir::{ChangeKind, RunOptions, Status};
use weir_plugins_test::servers;

use super::{database_job, rows, run, run_ok, table};

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

/// Two tables, or two schemas, whose names differ in the case of their letters; the job meets the second one in its second run.
async fn namesakes(both: [&str; 2], mode: &str, made: bool) {
    let server = servers::postgresql().await;
    let (source, target) = (server.fresh_database("namesake").await, server.fresh_database("namesakes").await);
    let schemas = "CREATE SCHEMA s; CREATE SCHEMA \"S\"";
    let create = |table: &str, first: u32, count: u32| {
        let last = first + count - 1;
        format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, v text); \
             INSERT INTO {table} SELECT g, '{table}' FROM generate_series({first}, {last}) g"
        )
    };
    source.execute(&format!("{schemas}; {}", create(both[0], 100, 3))).await;
    if made {
        target.execute(&format!("{schemas}; CREATE TABLE {} (id int PRIMARY KEY, v text)", both[0])).await;
        source.execute(&create(both[1], 1, 2)).await;
    }
    let ends = (("postgresql", json!({"url": source.url()})), ("postgresql", json!({"url": target.url()})));
    let mut job = database_job(ends.0, ends.1, json!({"name": "namesakes", "objects": {"include": ["*.*"]}}));
    job["write"] = json!({"keyed": mode});
    job["rules"] = json!({"tableDeleted": "ignore"});
    if mode == "upsert" {
        job["incremental"] = json!({"column": "id"});
    }
    let state = tempfile::tempdir().unwrap();
    let options = || RunOptions { state_dir: Some(state.path().to_owned()), ..RunOptions::default() };
    let first = run(&job, options()).await;
    assert_eq!(first.status, Status::Succeeded, "{both:?} {mode}: {:#?}", first.tables);
    if !made {
        source.execute(&create(both[1], 1, 2)).await;
        if mode == "append" {
            target.execute(&format!("TRUNCATE {}", both[0])).await;
        }
        let second = run(&job, options()).await;
        assert_eq!(second.status, Status::Succeeded, "{both:?} {mode}: {:#?}", second.tables);
        let created: Vec<_> = second.tables.iter().map(|table| table.created).collect();
        assert_eq!((created.len(), created.iter().filter(|created| **created).count()), (2, 1), "{both:?} {mode}");
    }
    for name in both {
        assert_eq!(rows(&source, name).await, rows(&target, name).await, "{name} of {both:?}, {mode}");
    }
    if mode == "append" {
        return;
    }
    // One goes and the other one changes: the job knows which.
    source.execute(&format!("DROP TABLE {}; ALTER TABLE {} ADD w int DEFAULT 7", both[0], both[1])).await;
    let third = run(&job, options()).await;
    assert_eq!(third.status, Status::Succeeded, "{both:?} {mode}: {:#?}", third.tables);
    let plain = both.map(|name| name.replace('"', ""));
    let plain = plain.map(|name| if name.contains('.') { name } else { format!("public.{name}") });
    let gone: Vec<_> = third.changes.iter().map(|one| (one.target.as_str(), one.change.kind)).collect();
    assert_eq!(gone, [(plain[0].as_str(), ChangeKind::TableDeleted)], "{both:?} {mode}");
    let moved: Vec<_> = third.tables.iter().map(|table| (table.target.as_str(), table.changes.len())).collect();
    assert_eq!(moved, [(plain[1].as_str(), 1)], "{both:?} {mode}");
}

#[tokio::test]
async fn tables_whose_names_differ_in_case_stay_apart() {
    for mode in ["overwrite", "append", "upsert"] {
        for both in [["\"Foo\"", "foo"], ["foo", "\"Foo\""], ["\"S\".t", "s.t"], ["s.t", "\"S\".t"]] {
            namesakes(both, mode, false).await;
            namesakes(both, mode, true).await;
        }
    }
}
