//! Values at the edges of their types, from server to server of one kind; what does not fit is dirty, never bent.

use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal256Array, DurationMicrosecondArray, RecordBatch, StringArray};
use arrow::datatypes::i256;
use serde_json::{Value, json};
use weir_core::SourceColumn;
use weir_plugins_test::harness::{ReadOptions, WriteOptions, open_reader, open_writer, read_with, write_all};
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

on_both!(the_source_is_recreated, bent_values_are_dirty, zero_dates_become_null_in_every_form);

fn with(database: &Database, more: Value) -> Value {
    let mut parameters = json!({ "url": database.url() });
    if let (Some(all), Some(more)) = (parameters.as_object_mut(), more.as_object()) {
        all.extend(more.clone());
    }
    parameters
}

/// Type and values, as SQL.
const EDGES: &[(&str, &[&str])] = &[
    ("tinyint unsigned", &["0", "255"]),
    ("tinyint(1)", &["-128", "0", "1", "127"]),
    ("bigint", &["-9223372036854775808", "9223372036854775807"]),
    ("bigint unsigned", &["0", "18446744073709551615"]),
    (
        "decimal(65,30)",
        &[
            "99999999999999999999999999999999999.999999999999999999999999999999",
            "-99999999999999999999999999999999999.999999999999999999999999999999",
            "0.000000000000000000000000000001",
            "0",
        ],
    ),
    ("decimal(38,10)", &["9999999999999999999999999999.9999999999", "-0.0000000001"]),
    ("decimal(10,2) unsigned", &["99999999.99", "0"]),
    ("float", &["3.4028234e38", "-1.17549435e-38", "16777217", "0.1"]),
    ("double", &["1.7976931348623157e308", "-2.2250738585072014e-308", "5e-324", "-0e0", "0.1"]),
    ("year", &["1901", "2155", "0"]),
    ("date", &["'0001-01-01'", "'1582-10-10'", "'9999-12-31'"]),
    ("datetime(6)", &["'0001-01-01 00:00:00'", "'9999-12-31 23:59:59.999999'"]),
    ("timestamp(6) null", &["'1970-01-01 00:00:01'", "'2038-01-19 03:14:07.999999'"]),
    ("time(6)", &["'-838:59:59'", "'838:59:59'", "'-00:00:00.000001'", "'837:59:59.999999'"]),
    ("time", &["'-838:59:59'", "'00:00:00'"]),
    ("bit(1)", &["b'0'", "b'1'"]),
    ("bit(64)", &["b'0'", "0xFFFFFFFFFFFFFFFF"]),
    ("char(5)", &["''", "'ab'", "'😀é'"]),
    ("varchar(50)", &["''", "'\\\\N'", "'a '", "CONVERT(x'65CC81F09F9880' USING utf8mb4)"]),
    ("varchar(9) character set latin1", &["'äöü'", "'€'"]),
    ("binary(4)", &["x'00'", "x'ff00ff00'"]),
    ("varbinary(9)", &["x''", "x'0009 0a'"]),
    ("mediumblob", &["x'00010203095c0a0d1a27ff'", "REPEAT(x'00ff', 50000)"]),
    ("longtext", &["REPEAT('😀', 100000)", "''"]),
    ("json", &["'null'", "'[]'", "'{\"a\": [1, {\"b\": \"\\\\u0000x\"}], \"n\": 18446744073709551615}'"]),
    ("enum('','a','b''x')", &["''", "'a'", "'b''x'"]),
    ("set('x','y','z')", &["''", "'x,z'"]),
];

/// What only MariaDB has. Its TIME goes on to the last microsecond.
const MARIADB: &[(&str, &[&str])] = &[
    ("uuid", &["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"]),
    ("inet6", &["'::'", "'2001:db8::ff00:42:8329'", "'::ffff:192.0.2.1'"]),
    ("inet4", &["'0.0.0.0'", "'255.255.255.255'"]),
    ("time(6)", &["'-838:59:59.999999'", "'838:59:59.999999'"]),
    ("longtext", &["'123456789012345678901234567890.5'"]),
];

async fn the_source_is_recreated(database: Database) {
    let own = if database.server().family() == Family::MariaDb { MARIADB } else { &[] };
    let mut sql = String::from("SET time_zone = '+00:00';");
    let cases: Vec<_> = EDGES.iter().chain(own).collect();
    for (i, (name, values)) in cases.iter().enumerate() {
        let rows: Vec<String> = values.iter().enumerate().map(|(n, v)| format!("({n}, {v})")).collect();
        sql +=
            &format!("CREATE TABLE s{i} (id INT PRIMARY KEY, v {name}); INSERT INTO s{i} VALUES {};", rows.join(","));
        sql += &format!("INSERT INTO s{i} VALUES (1000, NULL);");
    }
    database.execute(&sql.replace("x'0009 0a'", "x'00090a'")).await;
    let native: fn(&SourceColumn) -> &arrow::datatypes::Field = |c| &c.representations[0];
    for (form, choose) in [("native", native), ("canonical", SourceColumn::canonical)] {
        for (i, (name, _)) in cases.iter().enumerate() {
            let reader = open_reader("mysql", with(&database, json!({ "table": format!("s{i}") }))).unwrap();
            let read = read_with(&reader, ReadOptions { choose, ..ReadOptions::default() }).await.unwrap();
            let target = format!("{form}{i}");
            let writer = open_writer("mysql", with(&database, json!({ "table": target }))).unwrap();
            let written = write_all(&writer, read.batches(), WriteOptions::default()).await.unwrap();
            assert!(written.refused.is_empty() && read.rejected().is_empty(), "{form} {name}: {:?}", written.refused);
            let all = |t: &str| format!("SELECT id, v, HEX(v), v * 1e0 IS NULL FROM {t} ORDER BY id");
            let all = |t: &str| {
                if name.contains("inet") || *name == "uuid" {
                    format!("SELECT id, v FROM {t} ORDER BY id")
                } else {
                    all(t)
                }
            };
            let (expected, found) = (database.query(&all(&format!("s{i}"))).await, database.query(&all(&target)).await);
            assert_eq!(expected, found, "{form} {name}");
            if form == "native" {
                let of = |t: &str| {
                    format!(
                        "SELECT COLUMN_TYPE, CHARACTER_SET_NAME, COLLATION_NAME FROM information_schema.COLUMNS \
                     WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = '{t}' AND COLUMN_NAME = 'v'"
                    )
                };
                let (expected, found) =
                    (database.query(&of(&format!("s{i}"))).await, database.query(&of(&target)).await);
                assert_eq!(expected, found, "{name}");
            }
        }
    }
}

fn batch(array: ArrayRef) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([("v", array, true)]).unwrap()
}

async fn bent_values_are_dirty(database: Database) {
    let mariadb = database.server().family() == Family::MariaDb;
    let text = |values: &[&str]| -> ArrayRef { Arc::new(StringArray::from_iter_values(values)) };
    let wide = |values: &[&str]| -> ArrayRef {
        let all = values.iter().map(|v| i256::from_string(v).unwrap());
        Arc::new(Decimal256Array::from_iter_values(all).with_precision_and_scale(65, 30).unwrap())
    };
    let spans =
        |values: &[i64]| -> ArrayRef { Arc::new(DurationMicrosecondArray::from_iter_values(values.iter().copied())) };
    let nines = "9".repeat(65);
    let last = 838 * 3600 * 1_000_000 + 3_599_999_999;
    let cases: Vec<(&str, ArrayRef, usize)> = vec![
        ("varchar(3)", text(&["abc", "abcd", "ab   "]), 2),
        ("char(3) character set latin1", text(&["äb", "łx"]), 1),
        ("tinytext", text(&[&"x".repeat(255), &"x".repeat(256)]), 1),
        ("enum('a','b')", text(&["a", "c", ""]), 2),
        ("set('a','b')", text(&["a,b", "a,c"]), 1),
        ("json", text(&["[1]", "[1", ""]), 2),
        ("decimal(65,30)", wide(&[&nines, "1", "-1"]), 0),
        ("time(6)", spans(&[-last, last, last + 1]), if mariadb { 1 } else { 3 }),
        ("time(3)", spans(&[1_000, 1]), 1),
        ("time", spans(&[-3_020_399_000_000, 500_000]), 1),
    ];
    for load in [true, false] {
        for (i, (name, values, refused)) in cases.iter().enumerate() {
            let table = format!("t{i}_{load}");
            database.execute(&format!("CREATE TABLE {table} (v {name})")).await;
            let parameters = json!({ "table": table, "loadData": load });
            let writer = open_writer("mysql", with(&database, parameters)).unwrap();
            let written = write_all(&writer, vec![batch(values.clone())], WriteOptions::default()).await.unwrap();
            assert_eq!(written.refused.len(), *refused, "{name}, load {load}: {:?}", written.refused);
            assert!(written.refused.iter().all(|r| r.column.as_deref() == Some("v")), "{name}: {:?}", written.refused);
            let count = database.value(&format!("SELECT COUNT(*) FROM {table}")).await;
            assert_eq!(count, (values.len() - refused).to_string(), "{name}, load {load}");
        }
    }
}

async fn zero_dates_become_null_in_every_form(database: Database) {
    database
        .execute(
            "SET sql_mode = ''; CREATE TABLE z (id INT PRIMARY KEY, d DATE, t DATETIME(3), s TIMESTAMP NULL);
             INSERT INTO z VALUES (1, '0000-00-00', '0000-00-00', '0000-00-00'), (2, '2024-00-00', '2024-05-00', NULL),
             (3, '2024-05-01', '2024-05-01 01:02:03.004', '2024-05-01 01:02:03')",
        )
        .await;
    // DataX's name, DataX's behaviour.
    for (plugin, more) in [("mysqlreader", json!({})), ("mysql", json!({ "zeroDate": "null" }))] {
        let mut parameters = with(&database, json!({ "table": "z" }));
        parameters.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let reader = open_reader(plugin, parameters).unwrap();
        let forms: [fn(&SourceColumn) -> &arrow::datatypes::Field; 2] =
            [|c| &c.representations[0], |c| c.representations.last().unwrap()];
        for choose in forms {
            let read = read_with(&reader, ReadOptions { choose, ..ReadOptions::default() }).await.unwrap();
            assert!(read.rejected().is_empty());
            for column in ["d", "t", "s"] {
                let values = read.column(column);
                assert!(
                    values[0].is_none() && values[1].is_none() && values[2].is_some(),
                    "{plugin} {column}: {values:?}"
                );
            }
        }
    }
    // Ours: from MySQL to MySQL they pass untouched, decoded they are dirty.
    let reader = open_reader("mysql", with(&database, json!({ "table": "z" }))).unwrap();
    let read = read_with(&reader, ReadOptions::default()).await.unwrap();
    assert_eq!((read.rows(), read.rejected().len()), (1, 2));
    let read =
        read_with(&reader, ReadOptions { choose: |c| &c.representations[0], ..ReadOptions::default() }).await.unwrap();
    let writer = open_writer("mysql", with(&database, json!({ "table": "z2" }))).unwrap();
    write_all(&writer, read.batches(), WriteOptions::default()).await.unwrap();
    let all = |t: &str| format!("SELECT * FROM {t} ORDER BY id");
    assert_eq!(database.query(&all("z")).await, database.query(&all("z2")).await);
}
