//! Rows of a table that refers to itself go and come in any order, on servers that check row by row.

use std::sync::Arc;

use arrow::array::{Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use serde_json::{Value, json};
use weir_plugins_test::harness::{WriteOptions, open_writer, stage, stage_splits, write_all};
use weir_plugins_test::servers::{self, Database};
use weir_writer_mysql as _;

/// Both servers, with a tree: 2 hangs on 1, 3 and 4 on 2.
async fn trees(name: &str) -> [Database; 2] {
    let databases =
        [servers::mariadb().await.fresh_database(name).await, servers::mysql().await.fresh_database(name).await];
    for database in &databases {
        database
            .execute(
                "CREATE TABLE tree (id INT PRIMARY KEY, parent INT, name VARCHAR(20), kept INT DEFAULT 7,
                    at DATETIME NULL ON UPDATE CURRENT_TIMESTAMP,
                    CONSTRAINT tree_of_itself FOREIGN KEY (parent) REFERENCES tree (id));
                 INSERT INTO tree (id, parent, name) VALUES (1, NULL, 'old'), (2, 1, 'old'), (3, 2, 'old'), (4, 2, 'old')",
            )
            .await;
    }
    databases
}

/// 2020-01-01 00:00:00
const THEN: i64 = 1_577_836_800_000_000;

fn rows(nodes: &[(i32, Option<i32>)]) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(nodes.iter().map(|(id, _)| *id).collect::<Int32Array>()) as _, true),
        ("parent", Arc::new(nodes.iter().map(|(_, parent)| *parent).collect::<Int32Array>()) as _, true),
        ("name", Arc::new(StringArray::from(vec!["new"; nodes.len()])) as _, true),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![THEN; nodes.len()])) as _, true),
    ])
    .unwrap()
}

fn into(database: &Database, table: &str, more: Value) -> Value {
    let mut parameters = json!({ "url": database.url(), "table": table });
    parameters.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    parameters
}

/// `id<parent name kept year`
async fn tree(database: &Database) -> Vec<String> {
    let sql = "SELECT CONCAT(id, '<', COALESCE(parent, '-'), ' ', name, ' ', kept, ' ', COALESCE(YEAR(at), '-')) FROM tree \
               ORDER BY id";
    database.query(sql).await.into_iter().flatten().flatten().collect()
}

#[tokio::test]
async fn a_tree_is_overwritten_by_another_one() {
    for database in trees("tree_over").await {
        let writer = open_writer("mysql", into(&database, "tree", json!({ "writeMode": "overwrite" }))).unwrap();
        // 3 stays and hangs on another row, which comes after it.
        let new = rows(&[(11, Some(10)), (3, Some(11)), (10, None)]);
        write_all(&writer, vec![new], WriteOptions::default()).await.unwrap();
        let expected = ["3<11 new 7 2020", "10<- new 7 2020", "11<10 new 7 2020"];
        assert_eq!(tree(&database).await, expected);
        // Turned upside down.
        write_all(&writer, vec![rows(&[(3, None), (10, Some(11)), (11, Some(3))])], WriteOptions::default())
            .await
            .unwrap();
        let expected = ["3<- new 7 2020", "10<11 new 7 2020", "11<3 new 7 2020"];
        assert_eq!(tree(&database).await, expected);
        // One that refers to nobody changes nothing.
        let error =
            write_all(&writer, vec![rows(&[(5, Some(99)), (3, None)])], WriteOptions::default()).await.unwrap_err();
        assert!(error.full().contains("tree_of_itself"), "{}", error.full());
        assert_eq!(tree(&database).await, expected);
        write_all(&writer, vec![rows(&[])], WriteOptions::default()).await.unwrap();
        assert!(tree(&database).await.is_empty());
    }
}

#[tokio::test]
async fn a_child_is_upserted_before_its_parent() {
    for database in trees("tree_upsert").await {
        let writer =
            open_writer("mysql", into(&database, "tree", json!({ "writeMode": "upsert", "key": ["id"] }))).unwrap();
        let new = rows(&[(21, Some(20)), (3, Some(21)), (20, Some(1)), (21, Some(20))]);
        write_all(&writer, vec![new], WriteOptions::default()).await.unwrap();
        let expected =
            ["1<- old 7 -", "2<1 old 7 -", "3<21 new 7 2020", "4<2 old 7 -", "20<1 new 7 2020", "21<20 new 7 2020"];
        assert_eq!(tree(&database).await, expected);
        let error = write_all(&writer, vec![rows(&[(4, Some(99))])], WriteOptions::default()).await.unwrap_err();
        assert!(error.full().contains("tree_of_itself"), "{}", error.full());
        assert_eq!(tree(&database).await, expected);
    }
}

#[tokio::test]
async fn a_child_is_appended_before_its_parent_and_is_no_dirty_row() {
    for database in trees("tree_append").await {
        let writer = open_writer("mysql", into(&database, "tree", json!({ "writeMode": "append" }))).unwrap();
        let splits = vec![vec![rows(&[(31, Some(30)), (32, Some(2))])], vec![rows(&[(30, Some(33)), (33, None)])]];
        let schema = rows(&[]).schema();
        let staged = stage_splits(&writer, &schema, splits, WriteOptions::default()).await.unwrap();
        assert!(staged.refused.is_empty(), "{:?}", staged.refused);
        assert!(
            !staged.plan.commits_per_split && staged.plan.method.contains("refers to itself"),
            "{}",
            staged.plan.method
        );
        assert_eq!(tree(&database).await.len(), 4, "seen before all are there");
        staged.commit().await.unwrap();
        staged.commit().await.unwrap();
        let expected = ["30<33 new 7 2020", "31<30 new 7 2020", "32<2 new 7 2020", "33<- new 7 2020"];
        assert_eq!(tree(&database).await[4..], expected);
        // What ties no rows goes in as ever.
        let free = rows(&[(40, None)]).project(&[0, 2]).unwrap();
        let staged = stage(&writer, vec![free], WriteOptions::default()).await.unwrap();
        assert!(staged.plan.commits_per_split, "{}", staged.plan.method);
    }
}

#[tokio::test]
async fn a_plan_says_where_rows_have_to_come_in_order() {
    for database in trees("tree_bound").await {
        let sql = "CREATE TABLE bound (id INT PRIMARY KEY, parent INT NOT NULL, name VARCHAR(20), at DATETIME,
                    CONSTRAINT bound_to_itself FOREIGN KEY (parent) REFERENCES bound (id))";
        database.execute(sql).await;
        for mode in ["overwrite", "append"] {
            let writer = open_writer("mysql", into(&database, "bound", json!({ "writeMode": mode }))).unwrap();
            let staged =
                stage(&writer, vec![rows(&[(1, Some(1)), (2, Some(1))])], WriteOptions::default()).await.unwrap();
            let words = if mode == "append" { "before the one that it refers to" } else { "bound_to_itself" };
            assert!(staged.plan.warnings.iter().any(|warning| warning.contains(words)), "{:?}", staged.plan.warnings);
            staged.abort().await.unwrap();
        }
    }
}
