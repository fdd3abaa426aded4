//! Several tables of a run become visible in one transaction, on the server that `WEIR_TEST_SQLSERVER` names.

use std::sync::Arc;

use arrow::array::{Int32Array, RecordBatch, StringArray};
use serde_json::{Value, json};
use weir_core::{Committed, ErrorKind, Receipt, Result, WritePlan};
use weir_plugins_test::harness::{Staged, WriteOptions, control, open_writer, stage};
use weir_plugins_test::servers::{self, Database};
use weir_writer_sqlserver as _;

fn parameters(database: &Database, table: &str, more: &Value) -> Value {
    let mut parameters = json!({ "url": database.url(), "table": table, "writeMode": "overwrite" });
    if let (Some(all), Some(more)) = (parameters.as_object_mut(), more.as_object()) {
        all.extend(more.clone());
    }
    parameters
}

/// Stages rows of a key and a text.
async fn staged(database: &Database, table: &str, more: &Value, ids: &[i32], text: &str) -> Staged {
    let rows = RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(Int32Array::from(ids.to_vec())) as _, true),
        ("t", Arc::new(StringArray::from(vec![text; ids.len()])) as _, true),
    ])
    .unwrap();
    let writer = open_writer("sqlserver", parameters(database, table, more)).unwrap();
    stage(&writer, vec![rows], WriteOptions::default()).await.unwrap()
}

/// Publishes them by the writer of the first one, as a run does.
async fn together(database: &Database, more: &Value, tables: &[&Staged]) -> Result<Vec<Committed>> {
    let writer = open_writer("sqlserver", parameters(database, &tables[0].plan.table, more)).unwrap();
    let tables: Vec<(WritePlan, Vec<Receipt>)> =
        tables.iter().map(|one| (one.plan.clone(), one.receipts.clone())).collect();
    control(async move {
        let tables: Vec<_> = tables.iter().map(|(plan, receipts)| (plan, receipts.as_slice())).collect();
        writer.publishes_together().unwrap().publish_together(&tables).await
    })
    .await
}

async fn sorted(database: &Database, sql: &str) -> Vec<String> {
    let text = |row: Vec<Option<String>>| row.into_iter().map(|c| c.unwrap_or_default()).collect::<Vec<_>>().join("|");
    let mut rows: Vec<String> = database.query(sql).await.into_iter().map(text).collect();
    rows.sort();
    rows
}

async fn own_tables(database: &Database) -> usize {
    let sql = "SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_NAME LIKE 'weir[_]%' \
               AND TABLE_NAME <> 'weir_commits'";
    sorted(database, sql).await.len()
}

/// Rows go and come in tables that refer to each other, whatever the order in which they are given, and with numbers of
/// their own.
#[tokio::test]
async fn tables_that_refer_to_each_other_come_at_once_and_only_once() {
    let Some(server) = servers::sqlserver() else { return };
    let database = server.fresh_database("chain").await;
    database
        .execute(
            "CREATE TABLE [top] (id int PRIMARY KEY, t nvarchar(20));
             CREATE TABLE middle (id int IDENTITY PRIMARY KEY REFERENCES [top] (id), t nvarchar(20));
             CREATE TABLE bottom (id int IDENTITY PRIMARY KEY REFERENCES middle (id), t nvarchar(20));
             INSERT INTO [top] VALUES (1, 'old'), (2, 'old');
             INSERT INTO middle (t) VALUES ('old'), ('old'); INSERT INTO bottom (t) VALUES ('old'), ('old')",
        )
        .await;
    let more = json!({ "postSql": "UPDATE @table SET t = CONCAT(t, '!')" });
    let mut tables = Vec::new();
    for table in ["bottom", "top", "middle"] {
        tables.push(staged(&database, table, &more, &[2, 3], "new").await);
    }
    let all: Vec<&Staged> = tables.iter().collect();
    let done = together(&database, &more, &all).await.unwrap();
    assert!(done.iter().all(|one| one.description.contains("published 2 rows")), "{done:?}");
    let rows = "SELECT id, t FROM [top] UNION ALL SELECT id, t FROM middle UNION ALL SELECT id, t FROM bottom";
    assert_eq!(sorted(&database, rows).await, ["2|new", "2|new", "2|new", "3|new", "3|new", "3|new"]);
    database.execute("UPDATE bottom SET t = 'ours'").await;
    let again = together(&database, &more, &all).await.unwrap();
    assert!(again.iter().all(|one| one.description == "published before"), "{again:?}");
    for one in tables {
        assert_eq!(one.commit().await.unwrap().description, "published before");
    }
    assert_eq!(sorted(&database, rows).await, ["2|new!", "2|new!", "2|ours!", "3|new!", "3|new!", "3|ours!"]);
    assert_eq!(own_tables(&database).await, 0);
}

#[tokio::test]
async fn one_that_is_refused_keeps_all_from_coming_but_those_that_are_there() {
    let Some(server) = servers::sqlserver() else { return };
    let database = server.fresh_database("refused").await;
    database
        .execute(
            "CREATE TABLE others (id int PRIMARY KEY);
             CREATE TABLE a (id int PRIMARY KEY, t nvarchar(20)); CREATE TABLE b (id int PRIMARY KEY, t nvarchar(20));
             CREATE TABLE there (id int PRIMARY KEY, t nvarchar(20));
             CREATE TABLE c (id int PRIMARY KEY REFERENCES others (id), t nvarchar(20));
             INSERT INTO a VALUES (9, 'old'); INSERT INTO b VALUES (9, 'old')",
        )
        .await;
    let none = Value::Null;
    let mut tables = Vec::new();
    for table in ["a", "there", "c", "b"] {
        tables.push(staged(&database, table, &none, &[1], "new").await);
    }
    tables[1].commit().await.unwrap();
    database.execute("UPDATE there SET t = 'ours'").await;
    let all: Vec<&Staged> = tables.iter().collect();
    let error = together(&database, &none, &all).await.unwrap_err();
    let named = error.context().iter().find(|(key, _)| *key == "target").map(|(_, name)| name.as_str());
    assert_eq!(named, Some(tables[2].plan.table.as_str()), "{error:?}");
    let rows = "SELECT 'a', id, t FROM a UNION ALL SELECT 'b', id, t FROM b UNION ALL SELECT 'c', id, t FROM c \
                UNION ALL SELECT 'there', id, t FROM there";
    assert_eq!(sorted(&database, rows).await, ["a|9|old", "b|9|old", "there|1|ours"]);
    database.execute("INSERT INTO others VALUES (1)").await;
    let done = together(&database, &none, &all).await.unwrap();
    assert_eq!(done[1].description, "published before");
    assert_eq!(sorted(&database, rows).await, ["a|1|new", "b|1|new", "c|1|new", "there|1|ours"]);
    let more = json!({ "onEmpty": "error" });
    let tables = [staged(&database, "a", &more, &[2], "x").await, staged(&database, "b", &more, &[], "x").await];
    let error = together(&database, &more, &[&tables[0], &tables[1]]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    assert!(error.full().contains(&tables[1].plan.table), "{error:?}");
    assert_eq!(sorted(&database, "SELECT id, t FROM a").await, ["1|new"]);
}

#[tokio::test]
async fn without_a_record_too_they_come_once() {
    let Some(server) = servers::sqlserver() else { return };
    let database = server.fresh_database("unrecorded").await;
    let create = |table: &str| format!("CREATE TABLE {table} (id int PRIMARY KEY, t nvarchar(20));");
    database.execute(&(create("a") + &create("b"))).await;
    let more = json!({ "exactlyOnce": false });
    let tables = [staged(&database, "a", &more, &[1], "new").await, staged(&database, "b", &more, &[1], "new").await];
    let all: Vec<&Staged> = tables.iter().collect();
    together(&database, &more, &all).await.unwrap();
    assert_eq!(own_tables(&database).await, 0);
    database.execute("UPDATE a SET t = 'ours'").await;
    together(&database, &more, &all).await.unwrap();
    for one in tables {
        one.commit().await.unwrap();
    }
    assert_eq!(sorted(&database, "SELECT id, t FROM a UNION ALL SELECT id, t FROM b").await, ["1|new", "1|ours"]);
}
