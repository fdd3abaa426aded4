//! The writer against the server that `WEIR_TEST_SQLSERVER` names.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array,
    RecordBatch, StringArray, TimestampMicrosecondArray, UInt8Array, UInt64Array,
};
use serde_json::{Value, json};
use weir_core::{CheckOutcome, ErrorKind};
use weir_plugins_test::harness::{
    ReadOptions, WriteOptions, Written, open_reader, open_writer, read_with, stage, write_all,
};
use weir_plugins_test::servers::Database;
use weir_reader_sqlserver as _;
use weir_writer_sqlserver as _;

/// Each test in a database of its own, or counted as not run.
macro_rules! on_the_server {
    ($($test:ident),* $(,)?) => {
        mod sqlserver {
            $(#[tokio::test]
            async fn $test() {
                let Some(server) = weir_plugins_test::servers::sqlserver() else { return };
                super::$test(server.fresh_database(stringify!($test)).await).await;
            })*
        }
    };
}

on_the_server!(
    a_table_is_created,
    a_table_is_created_like_its_source,
    dirty_rows_come_back,
    overwrite,
    upsert,
    what_cannot_be_done_is_refused,
    commit_and_abort_may_be_called_again,
    own_columns,
    checks,
    many_rows,
);

fn cell(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn with(database: &Database, more: Value) -> Value {
    let mut parameters = json!({ "url": database.url() });
    if let (Some(all), Some(more)) = (parameters.as_object_mut(), more.as_object()) {
        all.extend(more.clone());
    }
    parameters
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap()
}

fn pairs(rows: &[(i32, &str)]) -> RecordBatch {
    batch(vec![
        ("id", Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.0)))),
        ("t", Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.1)))),
    ])
}

async fn write(database: &Database, more: Value, batches: Vec<RecordBatch>) -> weir_core::Result<Written> {
    let writer = open_writer("sqlserver", with(database, more))?;
    write_all(&writer, batches, WriteOptions::default()).await
}

async fn contents(database: &Database, sql: &str) -> Vec<String> {
    let rows = database.query(sql).await;
    rows.into_iter()
        .map(|r| r.into_iter().map(|c| c.unwrap_or_else(|| "NULL".into())).collect::<Vec<_>>().join("|"))
        .collect()
}

/// The writer's own tables, but for the one that stays.
async fn litter(database: &Database) -> Vec<String> {
    let sql = "SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_NAME LIKE 'weir[_]%' \
               AND TABLE_NAME <> 'weir_commits'";
    contents(database, sql).await
}

async fn a_table_is_created(database: Database) {
    database.execute("CREATE TABLE almos (i int)").await;
    let all = batch(vec![
        ("i", Arc::new(Int64Array::from(vec![Some(i64::MIN), None]))),
        ("u", Arc::new(UInt64Array::from(vec![Some(u64::MAX), None]))),
        ("b", Arc::new(BooleanArray::from(vec![Some(true), None]))),
        ("f", Arc::new(Float64Array::from(vec![Some(0.1), None]))),
        ("d", Arc::new(Decimal128Array::from(vec![Some(-5), None]).with_precision_and_scale(38, 3).unwrap())),
        ("da", Arc::new(Date32Array::from(vec![Some(19_782), None]))),
        ("ts", Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None]))),
        ("bl", Arc::new(BinaryArray::from(vec![Some(&b"\0\n\t\\'\xff"[..]), None]))),
        ("t", Arc::new(StringArray::from(vec![Some("tab\t nl\n cr\r back\\ q' 😀 \\N"), None]))),
    ]);
    let written = write(&database, json!({ "table": "almost" }), vec![all]).await.unwrap();
    assert!(written.plan.creates && written.rows() == 2);
    let rows = database
        .query(
            "SELECT i, u, b, f, d, CONVERT(varchar(10), da, 23), CONVERT(varchar(30), CAST(ts AS datetime2(6)), 121), \
             bl, t FROM almost ORDER BY CASE WHEN i IS NULL THEN 1 ELSE 0 END",
        )
        .await;
    let expected = [
        "-9223372036854775808",
        "18446744073709551615",
        "1",
        "0.1",
        "-0.005",
        "2024-02-29",
        "1969-12-31 23:59:59.999999",
        "000a095c27ff",
        "tab\t nl\n cr\r back\\ q' 😀 \\N",
    ];
    assert_eq!(rows[0], expected.map(cell));
    assert!(rows[1].iter().all(Option::is_none));
    let error =
        write(&database, json!({ "table": "almostt", "createTable": false }), vec![pairs(&[])]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("almost"), "{error}");
}

const LIKE: &str = "id int NOT NULL, k nvarchar(20) NOT NULL, ti tinyint, bi bigint, b bit, d decimal(38,10), m money, \
    r real, f float, da date NOT NULL, t6 time(6), dt datetime, sd smalldatetime, d2 datetime2(3), \
    o datetimeoffset(6), c char(5), v varchar(30), nc nchar(5), vm varchar(max), nm nvarchar(max), bn binary(4), \
    vb varbinary(9), bm varbinary(max), g uniqueidentifier, x xml";

/// The types of the source's columns are those of the new table's, and every value is the same.
async fn a_table_is_created_like_its_source(database: Database) {
    database
        .execute(&format!(
            "CREATE TABLE src ({LIKE}, PRIMARY KEY (id, k));
             INSERT INTO src VALUES (1, N'a', 255, -9223372036854775808, 1, -9999999999999999999999999999.9999999999,
                -922337203685477.5808, 16777216, 0.1, '2024-02-29', '23:59:59.999999', '2024-02-29T12:00:00.997',
                '2024-02-29T12:34:00', '2024-02-29T12:00:00.125', '2030-01-01T00:00:00.000001+05:30', 'x', 'it''s',
                N'é', N'ÿ', N'tab\t\\ 😀', 0x00ff00ff, 0x, 0x0001ff0a, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
                N'<a b=\"1\"/>');
             INSERT INTO src (id, k, da) VALUES (2, N'A', '0001-01-01'), (2, N'b', '9999-12-31')"
        ))
        .await;
    let reader = open_reader("sqlserver", with(&database, json!({ "table": "src" }))).unwrap();
    let read = read_with(&reader, ReadOptions::default()).await.unwrap();
    let written = write(&database, json!({ "table": "dst" }), read.batches()).await.unwrap();
    assert!(written.refused.is_empty(), "{:?}", written.refused);
    let again = open_reader("sqlserver", with(&database, json!({ "table": "dst" }))).unwrap();
    assert_eq!(read_with(&again, ReadOptions::default()).await.unwrap().sorted_cells(), read.sorted_cells());
    let of = |table: &str| {
        format!(
            "SELECT COLUMN_NAME, DATA_TYPE, CHARACTER_MAXIMUM_LENGTH, NUMERIC_PRECISION, NUMERIC_SCALE, \
             DATETIME_PRECISION FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_NAME = '{table}' ORDER BY ORDINAL_POSITION"
        )
    };
    assert_eq!(contents(&database, &of("src")).await, contents(&database, &of("dst")).await);
    let key = "SELECT COUNT(*) FROM INFORMATION_SCHEMA.KEY_COLUMN_USAGE WHERE TABLE_NAME = 'dst'";
    assert_eq!(database.value(key).await, "2");
    // Into a table that is there.
    database.execute(&format!("CREATE TABLE dst3 ({LIKE}, PRIMARY KEY (id, k))")).await;
    write(&database, json!({ "table": "dst3" }), read.batches()).await.unwrap();
    let again = open_reader("sqlserver", with(&database, json!({ "table": "dst3" }))).unwrap();
    assert_eq!(read_with(&again, ReadOptions::default()).await.unwrap().sorted_cells(), read.sorted_cells());
}

async fn dirty_rows_come_back(database: Database) {
    database
        .execute(
            "CREATE TABLE d (id tinyint PRIMARY KEY, t nvarchar(3) NOT NULL, x datetime2(0), g float, \
             CHECK (id <> 50))",
        )
        .await;
    let ids: Vec<u8> = (0..100).map(|i| if i == 70 { 7 } else { i }).collect();
    let rows = batch(vec![
        ("id", Arc::new(UInt8Array::from(ids))),
        (
            "t",
            Arc::new(StringArray::from_iter((0..100).map(|i| match i {
                20 => None,
                30 => Some("long"),
                _ => Some("ok"),
            }))),
        ),
        ("x", Arc::new(TimestampMicrosecondArray::from_iter_values((0..100).map(|i| i64::from(i == 40))))),
        ("g", Arc::new(Float64Array::from_iter_values((0..100).map(|i| if i == 60 { f64::NAN } else { 1.0 })))),
    ]);
    let written = write(&database, json!({ "table": "d" }), vec![rows]).await.unwrap();
    let mut found: Vec<String> =
        written.refused.iter().map(|r| r.values["id"].as_str().unwrap_or("").to_owned()).collect();
    found.sort();
    assert_eq!(found, ["20", "30", "40", "50", "60", "7"], "{:?}", written.refused);
    assert!(written.refused.iter().all(|row| !row.reason.is_empty()), "{:?}", written.refused);
    assert_eq!(written.rows(), 94);
    assert_eq!(contents(&database, "SELECT COUNT(*), MAX(LEN(t)) FROM d").await, ["94|2"]);
}

async fn overwrite(database: Database) {
    database
        .execute(
            "CREATE TABLE o (id int PRIMARY KEY, t nvarchar(20)); CREATE INDEX o_t ON o (t); \
             INSERT INTO o VALUES (1, 'old'), (9, 'old')",
        )
        .await;
    let parameters = json!({ "table": "o", "writeMode": "overwrite" });
    let writer = open_writer("sqlserver", with(&database, parameters.clone())).unwrap();
    let staged =
        stage(&writer, vec![pairs(&[(1, "a"), (2, "b"), (2, "twice")])], WriteOptions::default()).await.unwrap();
    assert_eq!(contents(&database, "SELECT * FROM o ORDER BY id").await, ["1|old", "9|old"]);
    assert_eq!(staged.refused.len(), 1);
    staged.commit().await.unwrap();
    assert_eq!(contents(&database, "SELECT * FROM o ORDER BY id").await, ["1|a", "2|b"]);
    let index = "SELECT COUNT(*) FROM sys.indexes WHERE object_id = OBJECT_ID('o') AND is_primary_key = 0 \
                 AND name LIKE 'o[_]t%'";
    assert_eq!(database.value(index).await, "1", "an index is gone");
    for (on_empty, left) in [("keep", 2), ("error", 2), ("overwrite", 0)] {
        let mut parameters = parameters.clone();
        parameters["onEmpty"] = json!(on_empty);
        let result = write(&database, parameters, vec![pairs(&[])]).await;
        assert_eq!(result.is_err(), on_empty == "error");
        assert_eq!(contents(&database, "SELECT COUNT(*) FROM o").await, [left.to_string()], "{on_empty}");
        assert!(litter(&database).await.is_empty(), "{on_empty}");
    }
}

async fn upsert(database: Database) {
    database
        .execute(
            "CREATE TABLE u (id int PRIMARY KEY, t nvarchar(20), kept int DEFAULT 5); \
             INSERT INTO u VALUES (1, 'old', 8), (9, 'old', 9)",
        )
        .await;
    let parameters = json!({ "table": "u", "writeMode": "upsert", "preSql": "DELETE FROM @table WHERE id = 9",
        "postSql": ["UPDATE @table SET kept = kept + 1"] });
    let rows = vec![pairs(&[(1, "a"), (2, "b")]), pairs(&[(2, "c"), (3, "d"), (1, "z")])];
    let written = write(&database, parameters, rows).await.unwrap();
    assert_eq!(written.plan.keys, ["id"]);
    let all = "SELECT * FROM u ORDER BY id";
    assert_eq!(contents(&database, all).await, ["1|z|9", "2|c|6", "3|d|6"]);
    assert!(litter(&database).await.is_empty());
    // A table to be created needs to be told its key.
    let error =
        write(&database, json!({ "table": "new", "writeMode": "upsert" }), vec![pairs(&[(1, "a")])]).await.unwrap_err();
    assert!(error.message().contains("no primary key"), "{error}");
    let parameters = json!({ "table": "new", "writeMode": "upsert", "key": "ID" });
    write(&database, parameters, vec![pairs(&[(1, "a"), (1, "b")])]).await.unwrap();
    assert_eq!(contents(&database, "SELECT * FROM new").await, ["1|b"]);
    // The columns of another key than the primary one.
    database.execute("CREATE TABLE w (a int NOT NULL, b nvarchar(9) NOT NULL, t nvarchar(9), UNIQUE (b, a))").await;
    database.execute("INSERT INTO w VALUES (1, 'x', 'old'), (1, 'y', 'old')").await;
    let rows = batch(vec![
        ("a", Arc::new(Int32Array::from(vec![1, 2]))),
        ("b", Arc::new(StringArray::from(vec!["x", "x"]))),
        ("t", Arc::new(StringArray::from(vec![None, Some("new")]))),
    ]);
    let parameters = json!({ "table": "w", "writeMode": "upsert", "key": ["a", "b"] });
    write(&database, parameters, vec![rows]).await.unwrap();
    let all = "SELECT * FROM w ORDER BY a, b";
    assert_eq!(contents(&database, all).await, ["1|x|NULL", "1|y|old", "2|x|new"]);
}

async fn what_cannot_be_done_is_refused(database: Database) {
    database
        .execute(
            "CREATE TABLE parent (id int PRIMARY KEY, t nvarchar(max));
             CREATE TABLE nokey (id int, t nvarchar(max));
             CREATE TABLE gen (id int, t AS (id + 1));
             CREATE TABLE need (id int, t nvarchar(max), must int NOT NULL)",
        )
        .await;
    for (more, kind, says) in [
        (json!({ "table": "nokey", "writeMode": "upsert" }), ErrorKind::Unsupported, "no primary key"),
        (json!({ "table": "parent", "writeMode": "upsert", "key": "t" }), ErrorKind::Unsupported, "no unique key"),
        (json!({ "table": "gen" }), ErrorKind::Schema, "computed"),
        (json!({ "table": "need" }), ErrorKind::Schema, "must"),
        (json!({ "table": "no_schema.x" }), ErrorKind::NotFound, "schema"),
    ] {
        let error = write(&database, more.clone(), vec![pairs(&[(1, "a")])]).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{more}: {error:?}");
        assert!(error.full().contains(says), "{more}: {error:?}");
    }
    assert!(litter(&database).await.is_empty());
}

async fn commit_and_abort_may_be_called_again(database: Database) {
    database.execute("CREATE TABLE c (id int PRIMARY KEY, t nvarchar(max)); CREATE TABLE log (i int)").await;
    for mode in ["append", "overwrite", "upsert"] {
        let parameters = json!({ "table": "c", "writeMode": mode, "postSql": "INSERT INTO log VALUES (1)",
            "preSql": "DELETE FROM @table" });
        let writer = open_writer("sqlserver", with(&database, parameters)).unwrap();
        let staged = stage(&writer, vec![pairs(&[(1, "a")])], WriteOptions::default()).await.unwrap();
        staged.commit().await.unwrap();
        staged.commit().await.unwrap();
        assert_eq!(contents(&database, "SELECT * FROM c").await, ["1|a"], "{mode}");
    }
    // postSql runs at least once.
    assert_eq!(contents(&database, "SELECT COUNT(*) FROM log").await, ["6"]);
    for mode in ["overwrite", "upsert"] {
        let mut parameters = json!({ "table": "fresh", "writeMode": mode });
        if mode == "upsert" {
            parameters["key"] = json!("id");
        }
        let writer = open_writer("sqlserver", with(&database, parameters)).unwrap();
        let staged = stage(&writer, vec![pairs(&[(1, "a")])], WriteOptions::default()).await.unwrap();
        staged.abort().await.unwrap();
        staged.abort().await.unwrap();
        let there = "SELECT COUNT(*) FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_NAME = 'fresh'";
        assert_eq!(database.value(there).await, "0", "{mode}");
    }
    assert!(litter(&database).await.is_empty());
}

async fn own_columns(database: Database) {
    database
        .execute("CREATE TABLE a (id int IDENTITY PRIMARY KEY, t nvarchar(9), n AS LEN(t), version rowversion)")
        .await;
    write(&database, json!({ "table": "a" }), vec![pairs(&[(3, "zero"), (5, "five")])]).await.unwrap();
    let only = batch(vec![("t", Arc::new(StringArray::from(vec!["next"])))]);
    write(&database, json!({ "table": "a", "column": ["T"] }), vec![only]).await.unwrap();
    let all = "SELECT id, t, n FROM a ORDER BY id";
    assert_eq!(contents(&database, all).await, ["3|zero|4", "5|five|4", "6|next|4"]);
    // With the staging table, whose copy of the computed column is left alone.
    for (mode, rows) in [("overwrite", vec!["3|again|5"]), ("upsert", vec!["3|upset|5"])] {
        let word = if mode == "overwrite" { "again" } else { "upset" };
        write(&database, json!({ "table": "a", "writeMode": mode }), vec![pairs(&[(3, word)])]).await.unwrap();
        assert_eq!(contents(&database, all).await, rows, "{mode}");
    }
}

async fn checks(database: Database) {
    database.execute("CREATE TABLE k (id int PRIMARY KEY, t nvarchar(max))").await;
    let of = |parameters: Value| open_writer("sqlserver", parameters).unwrap();
    let found = of(with(&database, json!({ "table": "k" }))).check().await;
    assert!(found.iter().all(|c| c.outcome != CheckOutcome::Fault), "{found:?}");
    let user = format!("weir_poor_{}", std::process::id());
    database.execute(&format!("CREATE LOGIN {user} WITH PASSWORD = 'Weir-Poor1'")).await;
    database.execute(&format!("CREATE USER {user} FOR LOGIN {user}")).await;
    database.execute(&format!("GRANT SELECT ON k TO {user}")).await;
    let url = database.url_with(&user, "Weir-Poor1");
    let found = of(json!({ "url": url, "table": "k" })).check().await;
    assert!(found.iter().any(|c| c.outcome == CheckOutcome::Fault && c.what.contains("INSERT")), "{found:?}");
    database.execute(&format!("REVOKE SELECT ON k FROM {user}")).await;
    database.execute(&format!("DROP USER {user}")).await;
    database.execute(&format!("DROP LOGIN {user}")).await;
}

async fn many_rows(database: Database) {
    let rows = 50_000;
    let text = |i: i32| format!("{i} {}", "é'\\".repeat(20));
    let big = batch(vec![
        ("id", Arc::new(Int32Array::from_iter_values(0..rows))),
        ("t", Arc::new(StringArray::from_iter_values((0..rows).map(text)))),
    ]);
    let written = write(&database, json!({ "table": "many" }), vec![big.clone()]).await.unwrap();
    assert_eq!(written.rows(), rows as u64);
    let sum = "SELECT COUNT(*), SUM(CAST(id AS bigint)), SUM(CAST(LEN(t) AS bigint)) FROM many";
    let letters: i64 = (0..rows).map(|i| text(i).chars().count() as i64).sum();
    assert_eq!(contents(&database, sum).await, [format!("50000|1249975000|{letters}")]);
    assert_eq!(contents(&database, "SELECT t FROM many WHERE id = 7").await, [text(7)]);
}
