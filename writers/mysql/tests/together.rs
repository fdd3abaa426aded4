//! Several tables of a run become visible in one transaction.

use std::sync::Arc;

use arrow::array::{Int32Array, RecordBatch, StringArray};
use serde_json::{Value, json};
use weir_core::{Committed, ErrorKind, Receipt, Result, WritePlan};
use weir_plugins_test::harness::{Staged, WriteOptions, control, open_writer, stage};
use weir_plugins_test::servers::{self, Database};
use weir_writer_mysql as _;

async fn databases(name: &str) -> [Database; 2] {
    [servers::mariadb().await.fresh_database(name).await, servers::mysql().await.fresh_database(name).await]
}

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
    let writer = open_writer("mysql", parameters(database, table, more)).unwrap();
    stage(&writer, vec![rows], WriteOptions::default()).await.unwrap()
}

/// Publishes them by the writer of the first one, as a run does.
async fn together(database: &Database, more: &Value, tables: &[&Staged]) -> Result<Vec<Committed>> {
    let writer = open_writer("mysql", parameters(database, &tables[0].plan.table, more)).unwrap();
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
    let sql = "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() \
               AND TABLE_NAME LIKE 'weir\\_%' AND TABLE_NAME <> 'weir_commits'";
    sorted(database, sql).await.len()
}

/// Rows go and come in tables that refer to each other, whatever the order in which they are given.
#[tokio::test]
async fn tables_that_refer_to_each_other_come_at_once_and_only_once() {
    for database in databases("chain").await {
        database
            .execute(
                "CREATE TABLE top (id INT PRIMARY KEY, t VARCHAR(20));
                 CREATE TABLE middle (id INT PRIMARY KEY, t VARCHAR(20), FOREIGN KEY (id) REFERENCES top (id));
                 CREATE TABLE bottom (id INT PRIMARY KEY, t VARCHAR(20), FOREIGN KEY (id) REFERENCES middle (id));
                 INSERT INTO top VALUES (1, 'old'), (2, 'old');
                 INSERT INTO middle SELECT * FROM top; INSERT INTO bottom SELECT * FROM top",
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
        let rows = "SELECT * FROM top UNION ALL SELECT * FROM middle UNION ALL SELECT * FROM bottom";
        assert_eq!(sorted(&database, rows).await, ["2|new", "2|new", "2|new", "3|new", "3|new", "3|new"]);
        database.execute("UPDATE bottom SET t = 'ours'").await;
        let again = together(&database, &more, &all).await.unwrap();
        assert!(again.iter().all(|one| one.description == "published before"), "{again:?}");
        for one in tables {
            assert_eq!(one.commit().await.unwrap().description, "published before");
        }
        let expected = ["2|new!", "2|new!", "2|ours!", "3|new!", "3|new!", "3|ours!"];
        assert_eq!(sorted(&database, rows).await, expected);
        assert_eq!(own_tables(&database).await, 0);
    }
}

#[tokio::test]
async fn one_that_is_refused_keeps_all_from_coming_but_those_that_are_there() {
    for database in databases("refused").await {
        database
            .execute(
                "CREATE TABLE others (id INT PRIMARY KEY);
                 CREATE TABLE a (id INT PRIMARY KEY, t VARCHAR(20)); CREATE TABLE b LIKE a; CREATE TABLE there LIKE a;
                 CREATE TABLE c (id INT PRIMARY KEY, t VARCHAR(20), FOREIGN KEY (id) REFERENCES others (id));
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
        let rows = "SELECT 'a', a.* FROM a UNION ALL SELECT 'b', b.* FROM b UNION ALL SELECT 'c', c.* FROM c \
                    UNION ALL SELECT 'there', there.* FROM there";
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
        assert_eq!(sorted(&database, "SELECT * FROM a").await, ["1|new"]);
    }
}

#[tokio::test]
async fn without_a_record_too_they_come_once() {
    for database in databases("unrecorded").await {
        database.execute("CREATE TABLE a (id INT PRIMARY KEY, t VARCHAR(20)); CREATE TABLE b LIKE a").await;
        let more = json!({ "exactlyOnce": false });
        let tables =
            [staged(&database, "a", &more, &[1], "new").await, staged(&database, "b", &more, &[1], "new").await];
        let all: Vec<&Staged> = tables.iter().collect();
        together(&database, &more, &all).await.unwrap();
        assert_eq!(own_tables(&database).await, 0);
        database.execute("UPDATE a SET t = 'ours'").await;
        together(&database, &more, &all).await.unwrap();
        for one in tables {
            one.commit().await.unwrap();
        }
        assert_eq!(sorted(&database, "SELECT * FROM a UNION ALL SELECT * FROM b").await, ["1|new", "1|ours"]);
    }
}

/// A staging table that cannot be dropped after its rows are published is not published a second time.
#[tokio::test]
async fn without_a_record_a_staging_table_that_stays_is_no_second_load() {
    for database in databases("staying").await {
        database.execute("CREATE TABLE a (id INT PRIMARY KEY, t VARCHAR(20)); CREATE TABLE b LIKE a").await;
        let more = json!({ "exactlyOnce": false, "session": "SET SESSION lock_wait_timeout = 1" });
        let tables =
            [staged(&database, "a", &more, &[1], "new").await, staged(&database, "b", &more, &[1], "new").await];
        let staging = tables[0].plan.state["staging"]["name"].as_str().unwrap();
        // Whoever reads it keeps it from being dropped.
        let (reader, query) = (database.clone(), format!("SELECT SLEEP(8) FROM {staging}"));
        let reads = tokio::spawn(async move { reader.query(&query).await });
        database.until_runs(|statement| statement.starts_with("SELECT SLEEP(8)")).await;
        together(&database, &more, &[&tables[0], &tables[1]]).await.unwrap();
        assert!(!reads.is_finished() && own_tables(&database).await == 1, "it is there");
        database.execute("UPDATE a SET t = 'ours'").await;
        reads.await.unwrap();
        for one in tables {
            assert_eq!(one.commit().await.unwrap().description, "published before");
        }
        assert_eq!(sorted(&database, "SELECT * FROM a UNION ALL SELECT * FROM b").await, ["1|new", "1|ours"]);
        assert_eq!(own_tables(&database).await, 0);
    }
}
