//! The writer against MariaDB (which takes LOAD DATA LOCAL) and the real MySQL 9 (which by default does not).

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DurationMicrosecondArray, FixedSizeBinaryArray,
    Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema};
use serde_json::{Value, json};
use weir_core::field::{UUID, with_extension};
use weir_core::{CheckOutcome, ErrorKind};
use weir_plugins_test::harness::{
    ReadOptions, WriteOptions, Written, control, open_reader, open_writer, read_with, stage, write_all,
};
use weir_plugins_test::servers::{Database, Family};
use weir_reader_mysql as _;
use weir_writer_mysql as _;

/// The same test on both servers.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod mariadb {
            $(#[tokio::test]
            async fn $test() {
                super::$test(weir_plugins_test::servers::mariadb().await.fresh_database(stringify!($test)).await).await;
            })*
        }
        mod mysql9 {
            $(#[tokio::test]
            async fn $test() {
                super::$test(weir_plugins_test::servers::mysql().await.fresh_database(stringify!($test)).await).await;
            })*
        }
    };
}

on_both!(
    a_table_is_created,
    a_table_in_other_letters_is_another_one,
    native_values_pass,
    dirty_rows_come_back,
    uuids_that_mariadb_does_not_take,
    overwrite,
    overwrite_of_a_referred_table_without_a_database,
    tables_with_a_history_are_written,
    upsert,
    an_upsert_is_held_to_the_targets_checks,
    replace_and_ignore,
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
    let writer = open_writer("mysql", with(database, more))?;
    write_all(&writer, batches, WriteOptions::default()).await
}

async fn contents(database: &Database, sql: &str) -> Vec<String> {
    let rows = database.query(sql).await;
    rows.into_iter()
        .map(|r| r.into_iter().map(|c| c.unwrap_or_else(|| "NULL".into())).collect::<Vec<_>>().join("|"))
        .collect()
}

async fn litter(database: &Database) -> Vec<String> {
    contents(database, "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME LIKE 'weir\\_%' AND TABLE_NAME <> 'weir_commits'").await
}

async fn a_table_is_created(database: Database) {
    database.execute("CREATE TABLE almos (i INT)").await;
    let all = batch(vec![
        ("i", Arc::new(Int64Array::from(vec![Some(i64::MIN), None]))),
        ("u", Arc::new(UInt64Array::from(vec![Some(u64::MAX), None]))),
        ("b", Arc::new(BooleanArray::from(vec![Some(true), None]))),
        ("f", Arc::new(Float64Array::from(vec![Some(0.1), None]))),
        ("d", Arc::new(Decimal128Array::from(vec![Some(-5), None]).with_precision_and_scale(38, 3).unwrap())),
        ("da", Arc::new(Date32Array::from(vec![Some(19_782), None]))),
        ("ts", Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None]))),
        ("ti", Arc::new(DurationMicrosecondArray::from(vec![Some(-3_020_399_000_000), None]))),
        ("bl", Arc::new(BinaryArray::from(vec![Some(&b"\0\n\t\\'\xff"[..]), None]))),
        ("t", Arc::new(StringArray::from(vec![Some("tab\t nl\n cr\r back\\ q' 😀 \\N"), None]))),
    ]);
    let written = write(&database, json!({ "table": "almost" }), vec![all]).await.unwrap();
    assert!(written.plan.creates && written.rows() == 2);
    assert!(written.plan.warnings.iter().any(|w| w.contains("almos`")), "{:?}", written.plan.warnings);
    let rows = database.query("SELECT i, u, b, f, d, da, ts, ti, HEX(bl), t FROM almost ORDER BY i IS NULL").await;
    let expected = [
        "-9223372036854775808",
        "18446744073709551615",
        "1",
        "0.1",
        "-0.005",
        "2024-02-29",
        "1969-12-31 23:59:59.999999",
        "-838:59:59.000000",
        "000A095C27FF",
        "tab\t nl\n cr\r back\\ q' 😀 \\N",
    ];
    assert_eq!(rows[0], expected.map(cell));
    assert!(rows[1].iter().all(Option::is_none));
    let error =
        write(&database, json!({ "table": "almostt", "createTable": false }), vec![pairs(&[])]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("almost"), "{error}");
}

/// The servers of the tests tell names apart by their case, as they do on Linux.
async fn a_table_in_other_letters_is_another_one(database: Database) {
    assert_eq!(contents(&database, "SELECT @@lower_case_table_names").await, ["0"]);
    database.execute("CREATE TABLE Foo (id INT, t VARCHAR(9)); INSERT INTO Foo VALUES (0, 'kept')").await;
    let url = database.url();
    let to = || open_writer("mysqlwriter", json!({ "url": url, "table": "foo" })).unwrap();
    let error = write_all(&to(), vec![pairs(&[(1, "x")])], WriteOptions::default()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && error.message().contains("did you mean `Foo`"), "{error}");
    for (text, creates) in [("one", true), ("two", false)] {
        let parameters = json!({ "table": "foo", "writeMode": "overwrite" });
        let written = write(&database, parameters, vec![pairs(&[(1, text)])]).await.unwrap();
        assert_eq!(written.plan.creates, creates);
        let near = written.plan.warnings.iter().any(|w| w.contains("the nearest existing table is `Foo`"));
        assert_eq!(near, creates, "{:?}", written.plan.warnings);
    }
    assert_eq!(contents(&database, "SELECT * FROM foo").await, ["1|two"]);
    assert_eq!(contents(&database, "SELECT * FROM Foo").await, ["0|kept"]);
    let other = database.name().to_uppercase();
    let error = write(&database, json!({ "table": format!("{other}.t") }), vec![pairs(&[(1, "x")])]).await.unwrap_err();
    let hint = format!("no such database: `{other}`; did you mean `{}`", database.name());
    assert!(error.kind() == ErrorKind::NotFound && error.message().contains(&hint), "{error}");
}

async fn native_values_pass(database: Database) {
    database
        .execute(
            "SET sql_mode = '', time_zone = '+00:00';
             CREATE TABLE src (id INT UNSIGNED NOT NULL, k VARCHAR(20) COLLATE utf8mb4_bin NOT NULL, t TINYINT(1),
                d DECIMAL(65,30), f FLOAT, g DOUBLE, b1 BIT(1), b BIT(12), y YEAR, da DATE NOT NULL, dt DATETIME(3),
                ts TIMESTAMP(6) NULL, ti TIME(1), c CHAR(5), tx MEDIUMTEXT, bi BINARY(4), bl BLOB, j JSON,
                e ENUM('a','b''x'), st SET('x','y'), p POINT, g2 GEOMETRY, PRIMARY KEY (id, k));
             INSERT INTO src VALUES (1, 'a', 7, -1.5, 16777216.5, 0.1, b'1', b'100000000001', 2024, '0000-00-00',
                '2024-02-29 12:00:00.125', '2030-01-01 00:00:00.000001', '-01:02:03.5', 'x', 'tab\\t\\\\ 😀', x'00',
                x'0001ff0a', '{\"a\": [1, \"\\\\u00e4\"]}', 'b''x', 'x,y', ST_GeomFromText('POINT(1 2)'),
                ST_GeomFromText('LINESTRING(0 0,1 1)'));
             INSERT INTO src (id, k, da) VALUES (4294967295, 'A', '2024-01-01'), (4294967295, 'a', '2024-01-00');",
        )
        .await;
    let reader = open_reader("mysql", with(&database, json!({ "table": "src" }))).unwrap();
    let native = ReadOptions { choose: |c| &c.representations[0], ..ReadOptions::default() };
    let read = read_with(&reader, native).await.unwrap();
    for table in ["dst", "dst2"] {
        // The second time without LOAD DATA, on both servers.
        let parameters = json!({ "table": table, "loadData": table == "dst" });
        let written = write(&database, parameters, read.batches()).await.unwrap();
        assert!(written.refused.is_empty(), "{:?}", written.refused);
        let columns = "SELECT COLUMN_NAME, COLUMN_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() \
                       AND TABLE_NAME = '{}' ORDER BY ORDINAL_POSITION";
        let of = |t: &str| columns.replace("{}", t);
        assert_eq!(contents(&database, &of("src")).await, contents(&database, &of(table)).await);
        let key = format!(
            "SELECT COLUMN_NAME FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = DATABASE() \
                           AND TABLE_NAME = '{table}' ORDER BY SEQ_IN_INDEX"
        );
        assert_eq!(contents(&database, &key).await, ["id", "k"]);
        let all = |t: &str| {
            format!("SELECT *, HEX(b), HEX(bi), HEX(bl), ST_AsText(p), ST_AsText(g2), f * 1e0 FROM {t} ORDER BY id, k")
        };
        assert_eq!(database.query(&all("src")).await, database.query(&all(table)).await);
    }
    // Decoded, into the table that is there.
    database.execute("CREATE TABLE dst3 LIKE src; UPDATE src SET da = '2024-02-03'").await;
    let reader = open_reader("mysql", with(&database, json!({ "table": "src" }))).unwrap();
    let read = read_with(&reader, ReadOptions::default()).await.unwrap();
    write(&database, json!({ "table": "dst3" }), read.batches()).await.unwrap();
    let one = |t: &str| format!("SELECT * FROM {t} ORDER BY id, k");
    assert_eq!(database.query(&one("src")).await, database.query(&one("dst3")).await);
}

async fn dirty_rows_come_back(database: Database) {
    database
        .execute(
            "CREATE TABLE d (id TINYINT PRIMARY KEY, t VARCHAR(3) NOT NULL, x DATETIME(0), g DOUBLE, CHECK (id <> 50))",
        )
        .await;
    let ids: Vec<i32> = (0..100).map(|i| if i == 70 { 7 } else { i }).collect();
    let rows = batch(vec![
        ("id", Arc::new(arrow::array::Int8Array::from_iter_values(ids.iter().map(|i| *i as i8)))),
        (
            "t",
            Arc::new(StringArray::from_iter((0..100).map(|i| match i {
                20 => None,
                30 => Some("long"),
                _ => Some("ok"),
            }))),
        ),
        ("x", Arc::new(TimestampMicrosecondArray::from_iter_values((0..100).map(|i| if i == 40 { 1 } else { 0 })))),
        ("g", Arc::new(Float64Array::from_iter_values((0..100).map(|i| if i == 60 { f64::NAN } else { 1.0 })))),
    ]);
    let written = write(&database, json!({ "table": "d" }), vec![rows]).await.unwrap();
    let mut found: Vec<(String, Option<String>)> =
        written.refused.iter().map(|r| (r.values["id"].as_str().unwrap_or("").to_owned(), r.column.clone())).collect();
    found.sort();
    let columns: Vec<_> = found.iter().map(|(id, c)| (id.as_str(), c.as_deref())).collect();
    assert_eq!(columns.len(), 6, "{:?}", written.refused);
    assert_eq!(columns[0], ("20", Some("t")));
    assert_eq!(columns[1], ("30", Some("t")));
    assert_eq!(columns[2], ("40", Some("x")));
    assert_eq!((columns[3].0, columns[4]), ("50", ("60", Some("g"))));
    assert_eq!(columns[5].0, "7");
    assert_eq!(written.rows(), 94);
    assert_eq!(contents(&database, "SELECT COUNT(*), MAX(LENGTH(t)) FROM d").await, ["94|2"]);
}

async fn uuids_that_mariadb_does_not_take(database: Database) {
    let values = ["eccbc87e-4b5c-e2fe-2830-8fd9f2a7baf3", "eccbc87e-4b5c-72fe-2830-8fd9f2a7baf3"];
    let bytes = values.map(|text| u128::from_str_radix(&text.replace('-', ""), 16).unwrap().to_be_bytes());
    let bytes = FixedSizeBinaryArray::try_from_iter(bytes.into_iter()).unwrap();
    let field = with_extension(Field::new("u", DataType::FixedSizeBinary(16), true), UUID);
    let rows = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::new(bytes)]).unwrap();
    // A table that is made, and one that is there.
    for _ in 0..2 {
        let written = write(&database, json!({ "table": "uu" }), vec![rows.clone()]).await.unwrap();
        let (warning, refused) = (written.plan.columns[0].warning.as_deref(), written.refused.len());
        match database.server().family() {
            Family::MySql => assert_eq!((warning, refused), (None, 0)),
            _ => assert!(warning.is_some_and(|w| w.contains("RFC 4122")) && refused == 1, "{warning:?} {refused}"),
        }
    }
}

async fn overwrite(database: Database) {
    database
        .execute(
            "CREATE TABLE o (id INT PRIMARY KEY, t VARCHAR(20), KEY (t)); INSERT INTO o VALUES (1, 'old'), (9, 'old')",
        )
        .await;
    let parameters = json!({ "table": "o", "writeMode": "overwrite" });
    let writer = open_writer("mysql", with(&database, parameters.clone())).unwrap();
    let staged =
        stage(&writer, vec![pairs(&[(1, "a"), (2, "b"), (2, "twice")])], WriteOptions::default()).await.unwrap();
    assert_eq!(contents(&database, "SELECT * FROM o ORDER BY id").await, ["1|old", "9|old"]);
    assert_eq!(staged.refused.len(), 1);
    staged.commit().await.unwrap();
    assert_eq!(contents(&database, "SELECT * FROM o ORDER BY id").await, ["1|a", "2|b"]);
    for (on_empty, left) in [("keep", 2), ("error", 2), ("overwrite", 0)] {
        let mut parameters = parameters.clone();
        parameters["onEmpty"] = json!(on_empty);
        let result = write(&database, parameters, vec![pairs(&[])]).await;
        assert_eq!(result.is_err(), on_empty == "error");
        assert_eq!(contents(&database, "SELECT COUNT(*) FROM o").await, [left.to_string()], "{on_empty}");
        assert!(litter(&database).await.is_empty(), "{on_empty}");
    }
}

async fn tables_with_a_history_are_written(database: Database) {
    if database.server().family() == Family::MySql {
        return; // It keeps no history of rows.
    }
    let period = "a TIMESTAMP(6) GENERATED ALWAYS AS ROW START, z TIMESTAMP(6) GENERATED ALWAYS AS ROW END, \
                  PERIOD FOR SYSTEM_TIME (a, z)";
    let parts = "PARTITION BY SYSTEM_TIME (PARTITION old HISTORY, PARTITION new CURRENT)";
    for (table, more, behind) in [("plain", "KEY (t)", ""), ("named", period, ""), ("parted", "KEY (t)", parts)] {
        database
            .execute(&format!(
                "CREATE TABLE {table} (id INT PRIMARY KEY, t VARCHAR(20), {more}) WITH SYSTEM VERSIONING {behind};
                 INSERT INTO {table} (id, t) VALUES (1, 'old'), (9, 'old')"
            ))
            .await;
        let parameters = json!({ "table": table, "writeMode": "overwrite", "column": ["id", "t"] });
        let writer = open_writer("mysql", with(&database, parameters)).unwrap();
        let rows = vec![pairs(&[(1, "a"), (2, "b"), (2, "twice")])];
        let staged = stage(&writer, rows, WriteOptions::default()).await.unwrap();
        assert_eq!(staged.refused.len(), 1, "{table}");
        // A resume comes here again.
        control({
            let (writer, plan) = (writer.clone(), staged.plan.clone());
            async move { writer.prepare(&plan).await }
        })
        .await
        .unwrap();
        staged.commit().await.unwrap();
        let found = contents(&database, &format!("SELECT id, t FROM {table} ORDER BY id")).await;
        assert_eq!(found, ["1|a", "2|b"], "{table}");
        let past = format!("SELECT id, t FROM {table} FOR SYSTEM_TIME ALL WHERE t = 'old' ORDER BY id");
        assert_eq!(contents(&database, &past).await, ["1|old", "9|old"], "{table}");
    }
    assert!(litter(&database).await.is_empty());
}

async fn overwrite_of_a_referred_table_without_a_database(database: Database) {
    database
        .execute(
            "CREATE TABLE parent (id INT PRIMARY KEY, t VARCHAR(20)); INSERT INTO parent VALUES (1, 'old'), (9, 'old');
             CREATE TABLE child (p INT, FOREIGN KEY (p) REFERENCES parent (id)); INSERT INTO child VALUES (1)",
        )
        .await;
    let name = database.name();
    let url = database.url().replace(&format!("/{name}"), "/");
    let parameters = json!({ "url": url, "table": format!("{name}.parent"), "writeMode": "overwrite" });
    write_all(&open_writer("mysql", parameters).unwrap(), vec![pairs(&[(1, "a"), (2, "b")])], WriteOptions::default())
        .await
        .unwrap();
    assert_eq!(contents(&database, "SELECT * FROM parent ORDER BY id").await, ["1|a", "2|b"]);
}

async fn upsert(database: Database) {
    database
        .execute("CREATE TABLE u (id INT PRIMARY KEY, t VARCHAR(20), kept INT DEFAULT 5); INSERT INTO u VALUES (1, 'old', 8), (9, 'old', 9)")
        .await;
    let parameters = json!({ "table": "u", "writeMode": "update", "preSql": "DELETE FROM @table WHERE id = 9",
        "postSql": ["UPDATE @table SET kept = kept + 1"] });
    let rows = vec![pairs(&[(1, "a"), (2, "b")]), pairs(&[(2, "c"), (3, "d"), (1, "z")])];
    let written = write(&database, parameters, rows).await.unwrap();
    assert_eq!(written.plan.keys, ["id"]);
    assert_eq!(contents(&database, "SELECT * FROM u ORDER BY id").await, ["1|z|9", "2|c|6", "3|d|6"]);
    assert!(litter(&database).await.is_empty());
    // A table to be created needs to be told its key.
    let error =
        write(&database, json!({ "table": "new", "writeMode": "upsert" }), vec![pairs(&[(1, "a")])]).await.unwrap_err();
    assert!(error.message().contains("no primary key"), "{error}");
    let parameters = json!({ "table": "new", "writeMode": "upsert", "key": "ID" });
    write(&database, parameters, vec![pairs(&[(1, "a"), (1, "b")])]).await.unwrap();
    assert_eq!(contents(&database, "SELECT * FROM new").await, ["1|b"]);
}

/// Before anything is published: a check that fails there fails all rows.
async fn an_upsert_is_held_to_the_targets_checks(database: Database) {
    database
        .execute(
            "CREATE TABLE h (id INT PRIMARY KEY CHECK (id <> 50), t VARCHAR(20), k INT DEFAULT 5, j JSON, \
             CONSTRAINT tc CHECK (`t` <> 'it''s (\\')' AND CHAR_LENGTH(`T`) > 1), CONSTRAINT kc CHECK (k > id))",
        )
        .await;
    // `k` is not written, so that only the server knows it: such a row would fail the publication.
    let rows = || vec![pairs(&[(1, "aa"), (2, "it's (')"), (3, "b"), (50, "cc"), (4, "dd")])];
    let parameters = json!({ "table": "h", "writeMode": "upsert" });
    let written = write(&database, parameters.clone(), rows()).await.unwrap();
    let mut refused: Vec<_> = written.refused.iter().map(|row| row.values["id"].to_string()).collect();
    refused.sort();
    assert_eq!(refused, ["\"2\"", "\"3\"", "\"50\""], "{:?}", written.refused);
    assert_eq!(contents(&database, "SELECT id, t, k FROM h ORDER BY id").await, ["1|aa|5", "4|dd|5"]);
    if database.server().family() == Family::MySql {
        database.execute("ALTER TABLE h ALTER CHECK tc NOT ENFORCED").await;
        assert_eq!(write(&database, parameters, rows()).await.unwrap().refused.len(), 1);
    }
    assert!(litter(&database).await.is_empty());
}

async fn replace_and_ignore(database: Database) {
    database
        .execute("CREATE TABLE r (id INT PRIMARY KEY, t VARCHAR(5) UNIQUE, x INT DEFAULT 7); INSERT INTO r VALUES (1, 'a', 1), (2, 'b', 2)")
        .await;
    let rows = || vec![pairs(&[(1, "c"), (3, "b"), (4, "d")])];
    write(&database, json!({ "table": "r", "writeMode": "replace" }), rows()).await.unwrap();
    assert_eq!(contents(&database, "SELECT * FROM r ORDER BY id").await, ["1|c|7", "3|b|7", "4|d|7"]);
    let rows = vec![pairs(&[(1, "e"), (5, "too long"), (6, "f"), (7, "c")])];
    let written = write(&database, json!({ "table": "r", "writeMode": "insert ignore" }), rows).await.unwrap();
    assert_eq!((written.rows(), written.receipts[0].skipped, written.refused.len()), (1, 2, 1));
    assert_eq!(contents(&database, "SELECT * FROM r ORDER BY id").await, ["1|c|7", "3|b|7", "4|d|7", "6|f|7"]);
}

async fn what_cannot_be_done_is_refused(database: Database) {
    database
        .execute(
            "CREATE TABLE m (id INT PRIMARY KEY, t TEXT) ENGINE=MyISAM;
             CREATE TABLE parent (id INT PRIMARY KEY, t TEXT);
             CREATE TABLE child (p INT, FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE);
             CREATE TABLE nokey (id INT, t TEXT);
             CREATE TABLE gen (id INT, t INT AS (id + 1) STORED);
             CREATE TABLE need (id INT, t TEXT, must INT NOT NULL);",
        )
        .await;
    for (more, kind, says) in [
        (json!({ "table": "m" }), ErrorKind::Unsupported, "InnoDB"),
        (json!({ "table": "m", "writeMode": "overwrite", "exactlyOnce": false }), ErrorKind::Unsupported, "InnoDB"),
        (json!({ "table": "parent", "writeMode": "replace" }), ErrorKind::Unsupported, "child"),
        (json!({ "table": "nokey", "writeMode": "upsert" }), ErrorKind::Unsupported, "no primary key"),
        (json!({ "table": "parent", "writeMode": "upsert", "key": "t" }), ErrorKind::Unsupported, "no unique key"),
        (json!({ "table": "gen" }), ErrorKind::Schema, "computed"),
        (json!({ "table": "need" }), ErrorKind::Schema, "must"),
        (json!({ "table": "no_db.x" }), ErrorKind::NotFound, "database"),
        (json!({ "table": "t".repeat(65) }), ErrorKind::Config, "65 characters, the target takes 64"),
    ] {
        let error = write(&database, more.clone(), vec![pairs(&[(1, "a")])]).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{more}: {error:?}");
        assert!(error.full().contains(says), "{more}: {error:?}");
    }
    assert!(litter(&database).await.is_empty());
}

async fn commit_and_abort_may_be_called_again(database: Database) {
    database.execute("CREATE TABLE c (id INT PRIMARY KEY, t TEXT); CREATE TABLE log (i INT)").await;
    for mode in ["append", "overwrite", "upsert"] {
        let parameters = json!({ "table": "c", "writeMode": mode, "postSql": "INSERT INTO log VALUES (1)",
            "preSql": "DELETE FROM @table" });
        let writer = open_writer("mysql", with(&database, parameters)).unwrap();
        let staged = stage(&writer, vec![pairs(&[(1, "a")])], WriteOptions::default()).await.unwrap();
        writer.prepare(&staged.plan).await.unwrap();
        staged.commit().await.unwrap();
        staged.commit().await.unwrap();
        assert_eq!(contents(&database, "SELECT * FROM c").await, ["1|a"], "{mode}");
    }
    // postSql runs at least once.
    assert_eq!(contents(&database, "SELECT COUNT(*) FROM log").await, ["6"]);
    for mode in ["overwrite", "upsert"] {
        let parameters =
            json!({ "table": "fresh", "writeMode": mode, "key": if mode == "upsert" { "id" } else { "" } });
        let mut parameters = parameters;
        if mode == "overwrite" {
            parameters.as_object_mut().unwrap().remove("key");
        }
        let writer = open_writer("mysql", with(&database, parameters)).unwrap();
        let staged = stage(&writer, vec![pairs(&[(1, "a")])], WriteOptions::default()).await.unwrap();
        staged.abort().await.unwrap();
        staged.abort().await.unwrap();
        assert_eq!(contents(&database, "SHOW TABLES LIKE 'fresh'").await, [""; 0]);
    }
    assert!(litter(&database).await.is_empty());
}

async fn own_columns(database: Database) {
    database
        .execute("CREATE TABLE a (id INT PRIMARY KEY AUTO_INCREMENT, t VARCHAR(9), n INT AS (LENGTH(t)) STORED)")
        .await;
    write(&database, json!({ "table": "a" }), vec![pairs(&[(0, "zero"), (5, "five")])]).await.unwrap();
    let only = batch(vec![("t", Arc::new(StringArray::from(vec!["next"])))]);
    write(&database, json!({ "table": "a", "column": ["T"] }), vec![only]).await.unwrap();
    assert_eq!(contents(&database, "SELECT * FROM a ORDER BY id").await, ["0|zero|4", "5|five|4", "6|next|4"]);
    // With the staging table, whose copy of the computed column is left alone.
    let parameters = json!({ "table": "a", "writeMode": "overwrite" });
    write(&database, parameters, vec![pairs(&[(0, "again")])]).await.unwrap();
    assert_eq!(contents(&database, "SELECT * FROM a").await, ["0|again|5"]);
}

async fn checks(database: Database) {
    database.execute("CREATE TABLE k (id INT PRIMARY KEY, t TEXT)").await;
    let user = format!("poor_{}", std::process::id());
    let load = if database.server().family() == Family::MariaDb { CheckOutcome::Ok } else { CheckOutcome::Warning };
    let of = |parameters: Value| open_writer("mysql", parameters).unwrap();
    let found = of(with(&database, json!({ "table": "k" }))).check().await;
    assert!(found.iter().all(|c| c.outcome != CheckOutcome::Fault), "{found:?}");
    assert_eq!(found.iter().find(|c| c.what.contains("LOAD")).map(|c| c.outcome), Some(load));
    database
        .execute(&format!(
            "CREATE USER '{user}'@'%' IDENTIFIED BY 'poor'; GRANT SELECT ON {}.* TO '{user}'@'%'",
            database.quote(database.name())
        ))
        .await;
    let url = database.url_with(&user, "poor");
    let found = of(json!({ "url": url, "table": "k" })).check().await;
    assert!(found.iter().any(|c| c.outcome == CheckOutcome::Fault && c.what.contains("INSERT")), "{found:?}");
    let found = of(json!({ "url": url, "table": "missing" })).check().await;
    assert!(found.iter().any(|c| c.outcome == CheckOutcome::Fault && c.what.contains("CREATE")), "{found:?}");
    database.execute(&format!("DROP USER '{user}'@'%'")).await;
}

async fn many_rows(database: Database) {
    let rows = 50_000;
    let big = batch(vec![
        ("id", Arc::new(Int32Array::from_iter_values(0..rows))),
        ("t", Arc::new(StringArray::from_iter_values((0..rows).map(|i| format!("{i} {}", "é'\\".repeat(20)))))),
    ]);
    for table in ["many", "few"] {
        let parameters = json!({ "table": table, "loadData": table == "many", "batchByteSize": 1 << 20 });
        let written = write(&database, parameters, vec![big.clone()]).await.unwrap();
        assert_eq!(written.rows(), rows as u64);
    }
    let sum = |table: &str| format!("SELECT COUNT(*), SUM(id), SUM(CRC32(t)), MIN(t), MAX(t) FROM {table}");
    let many = contents(&database, &sum("many")).await;
    assert_eq!(many, contents(&database, &sum("few")).await);
    assert!(many[0].starts_with("50000|1249975000|"), "{many:?}");
    assert_eq!(contents(&database, "SELECT t FROM many WHERE id = 7").await, [format!("7 {}", "é'\\".repeat(20))]);
}
