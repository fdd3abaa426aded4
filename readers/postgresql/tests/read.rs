//! The reader against a real server.

use std::time::Duration;

use serde_json::{Value, json};
use weir_core::field::{NATIVE, TEXT, extension};
use weir_core::{CheckOutcome, ErrorKind, SourceColumn};
use weir_plugins_test::Stopwatch;
use weir_plugins_test::harness::{self, ReadOptions, open_reader, read_all, read_with};
use weir_plugins_test::servers::{self, Database};
use weir_reader_postgresql as _;

async fn database(name: &str) -> Database {
    servers::postgresql().await.fresh_database(name).await
}

fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

fn native(column: &SourceColumn) -> &arrow::datatypes::Field {
    column.representations.iter().find(|f| extension(f) == Some(NATIVE)).unwrap_or(column.canonical())
}

fn as_text(column: &SourceColumn) -> &arrow::datatypes::Field {
    column.representations.iter().find(|f| extension(f) == Some(TEXT)).unwrap_or(column.canonical())
}

/// Type, literal, canonical text.
const TYPES: &[(&str, &str, &str)] = &[
    ("boolean", "true", "true"),
    ("smallint", "-32768", "-32768"),
    ("integer", "2147483647", "2147483647"),
    ("bigint", "-9223372036854775808", "-9223372036854775808"),
    ("real", "'1.5'", "1.5"),
    ("double precision", "'NaN'", "NaN"),
    ("numeric(10,2)", "-12345678.90", "-12345678.90"),
    ("numeric(38,10)", "1234567890123456789012345678.0123456789", "1234567890123456789012345678.0123456789"),
    (
        "numeric(60,5)",
        "-1234567890123456789012345678901234567890.00001",
        "-1234567890123456789012345678901234567890.00001",
    ),
    ("numeric", "0.000000000000000000000000000000000000000000001", "0.000000000000000000000000000000000000000000001"),
    ("numeric", "'-Infinity'", "-Infinity"),
    ("numeric(3,-2)", "12345", "12300"),
    ("text", "'wéir 🦀'", "wéir 🦀"),
    ("varchar(5)", "''", ""),
    ("char(4)", "'ab'", "ab  "),
    ("name", "'n'", "n"),
    ("bytea", "'\\x00ff'", "00ff"),
    ("date", "'0001-01-01'", "0001-01-01"),
    ("date", "'9999-12-31'", "9999-12-31"),
    ("time", "'23:59:59.999999'", "23:59:59.999999"),
    ("timetz", "'12:00:00+02'", "12:00:00+02"),
    ("timestamp", "'1969-12-31 23:59:59.999999'", "1969-12-31T23:59:59.999999"),
    ("timestamptz", "'2024-02-29 12:00:00.5+05:30'", "2024-02-29T06:30:00.500Z"),
    ("interval", "'1 year -2 months 3 days -04:05:06.5'", "P10M3DT-4H-5M-6.5S"),
    ("uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "a0eebc999c0b4ef8bb6d6bb9bd380a11"),
    ("json", "'{\"b\": 1.00, \"a\":2}'", "{\"b\": 1.00, \"a\":2}"),
    ("jsonb", "'{\"b\":1.00}'", "{\"b\": 1.00}"),
    ("oid", "4294967295", "4294967295"),
    ("inet", "'10.0.0.1/8'", "10.0.0.1/8"),
    ("money", "'12.34'", "12.34"),
    ("bit(3)", "'101'", "101"),
    ("bit varying", "'1'", "1"),
    ("xml", "'<a/>'", "<a/>"),
    ("int4range", "'[1,5)'", "[1,5)"),
    ("point", "'(1,2)'", "(1,2)"),
    ("integer[]", "'{1,NULL,3}'", "[1, , 3]"),
    ("text[]", "'{}'", "[]"),
    ("colour", "'red'", "red"),
    ("amount", "1.50", "1.50"),
    ("pair", "'(1,x)'", "(1,x)"),
];

#[tokio::test]
async fn every_type_is_read_exactly() {
    let database = database("types").await;
    let columns: Vec<_> = TYPES.iter().enumerate().map(|(i, (t, ..))| format!("c{i} {t}")).collect();
    let values: Vec<_> = TYPES.iter().map(|(_, v, _)| *v).collect();
    let nulls: Vec<_> = TYPES.iter().map(|_| "NULL").collect();
    database
        .execute(&format!(
            "CREATE TYPE colour AS ENUM ('red', 'green'); CREATE DOMAIN amount AS numeric(6,2); \
             CREATE TYPE pair AS (a int, b text); CREATE TABLE t ({}); INSERT INTO t VALUES ({}), ({})",
            columns.join(", "),
            values.join(", "),
            nulls.join(", ")
        ))
        .await;
    let reader = open_reader("postgresql", json!({"url": database.url(), "table": "t"})).unwrap();
    let read = read_all(&reader).await.unwrap();
    assert_eq!(read.rejected(), []);
    let cells = read.cells();
    for (i, (name, _, expected)) in TYPES.iter().enumerate() {
        assert_eq!(cells[0][i].as_deref(), Some(*expected), "{name}");
        assert_eq!(cells[1][i], None, "{name}");
    }
    // The text forms are the server's own.
    let options = ReadOptions { choose: as_text, ..ReadOptions::default() };
    let texts = read_with(&reader, options).await.unwrap();
    let interval = TYPES.iter().position(|t| t.0 == "interval").unwrap();
    assert_eq!(texts.cells()[0][interval].as_deref(), Some("P10M3DT-4H-5M-6.5S"));
    let options = ReadOptions { choose: native, ..ReadOptions::default() };
    assert_eq!(read_with(&reader, options).await.unwrap().rows(), 2);
}

#[tokio::test]
async fn what_has_no_canonical_form_is_rejected_with_its_row() {
    let database = database("rejects").await;
    database
        .execute(
            "CREATE TABLE t (id int, d date, s timestamp, n numeric(5,2), a int[]); INSERT INTO t VALUES \
             (1, '2024-01-01', '2024-01-01', 1, '{1}'), (2, 'infinity', NULL, NULL, NULL), (3, NULL, '-infinity', NULL, NULL), \
             (4, NULL, NULL, 'NaN', NULL), (5, NULL, NULL, NULL, '{{1},{2}}'), (6, NULL, NULL, NULL, NULL)",
        )
        .await;
    let reader = open_reader("postgresql", json!({"url": database.url(), "table": "t"})).unwrap();
    let read = read_all(&reader).await.unwrap();
    assert_eq!(read.column("id"), [text("1"), text("6")]);
    let rejected = read.rejected();
    let faults: Vec<_> = rejected.iter().map(|r| (r.values["id"].clone(), r.column.clone().unwrap())).collect();
    let expected = [("2", "d"), ("3", "s"), ("4", "n"), ("5", "a")];
    assert_eq!(faults, expected.map(|(id, column)| (Value::from(id), column.to_owned())));
    assert_eq!(rejected[0].values["d"], "infinity");
    assert_eq!(rejected[1].values["s"], "-infinity");
    for choose in [native as fn(&SourceColumn) -> &arrow::datatypes::Field, as_text] {
        let read = read_with(&reader, ReadOptions { choose, ..ReadOptions::default() }).await.unwrap();
        assert_eq!((read.rows(), read.rejected().len()), (6, 0));
    }
}

/// A database in SQL_ASCII holds whatever bytes it was given.
#[tokio::test]
async fn text_of_no_encoding_is_dirty_by_the_row() {
    let (home, database) = (database("home").await, database("sqlascii").await);
    home.execute(&format!("DROP DATABASE {}", database.name())).await;
    let create = "ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'";
    home.execute(&format!("CREATE DATABASE {} {create}", database.name())).await;
    database
        .execute(
            "CREATE TABLE t (id int PRIMARY KEY, \"Größe\" text); \
             INSERT INTO t VALUES (1, 'wéir 🦀'), (2, E'\\xff\\xfe bad'), (3, 'né'); \
             CREATE TABLE k (id text PRIMARY KEY, pad text); \
             INSERT INTO k SELECT E'\\xff' || i, repeat('x', 100) FROM generate_series(1, 9000) i; \
             INSERT INTO k VALUES ('fine', ''); ANALYZE",
        )
        .await;
    // A job's own statements do not change what the server looks at.
    for session in [json!([]), json!(["SET client_encoding = 'UTF8'"])] {
        let parameters = json!({"url": database.url(), "table": "t", "where": "\"Größe\" <> 'né'", "session": session});
        let read = read_all(&open_reader("postgresql", parameters).unwrap()).await.unwrap();
        assert_eq!(read.cells(), [[text("1"), text("wéir 🦀")]]);
        let rejected = read.rejected();
        assert_eq!(rejected.len(), 1);
        assert_eq!((rejected[0].column.as_deref(), &rejected[0].values["id"]), (Some("Größe"), &Value::from("2")));
        assert!(rejected[0].reason.contains("UTF-8"), "{}", rejected[0].reason);
    }
    // Nor does a table fail that would be cut at such keys.
    let reader = open_reader("postgresql", json!({"url": database.url(), "table": "k", "splitPk": "id"})).unwrap();
    let mut splits = harness::split_request(3);
    splits.max_bytes = 200_000;
    let read = read_with(&reader, ReadOptions { splits, ..ReadOptions::default() }).await.unwrap();
    assert_eq!((read.column("id"), read.rejected().len()), (vec![text("fine")], 9000));
}

#[tokio::test]
async fn splits_cover_every_row_once_whatever_the_key() {
    let database = database("splits").await;
    database
        .execute(
            "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
             CREATE TABLE t (id int PRIMARY KEY, k text COLLATE ci, pad text); \
             INSERT INTO t SELECT i, CASE i % 7 WHEN 0 THEN NULL WHEN 1 THEN 'Straße' || i % 50 WHEN 2 THEN 'STRASSE' || i % 50 \
             WHEN 3 THEN 'same' WHEN 4 THEN 'Same' WHEN 5 THEN '''\\' || i ELSE '🦀' || i END, repeat('x', 50) \
             FROM generate_series(-10000, 10000) i; ANALYZE t",
        )
        .await;
    let mut request = harness::split_request(3);
    request.max_bytes = 200_000;
    for key in [json!(null), json!("k"), json!("ID"), json!("pad")] {
        let mut parameters = json!({"url": database.url(), "table": "T"});
        if !key.is_null() {
            parameters["splitPk"] = key.clone();
        }
        let reader = open_reader("postgresql", parameters).unwrap();
        let options = ReadOptions { splits: request.clone(), columns: Some(vec![0]), ..ReadOptions::default() };
        let read = read_with(&reader, options).await.unwrap();
        assert!(read.splits.len() > if key == "pad" { 0 } else { 5 }, "{key}: {}", read.splits.len());
        let mut ids: Vec<i32> = read.column("id").into_iter().map(|v| v.unwrap().parse().unwrap()).collect();
        ids.sort_unstable();
        assert!(ids.iter().copied().eq(-10_000..=10_000), "{key}: {} rows", ids.len());
    }
    let reader = open_reader("postgresql", json!({"url": database.url(), "table": "t", "splitPk": "nope"})).unwrap();
    assert_eq!(read_all(&reader).await.err().unwrap().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_snapshot_shows_one_moment_in_ranges_of_pages() {
    let database = database("snapshot").await;
    database
        .execute("CREATE TABLE t (id int, pad text); INSERT INTO t SELECT i, repeat('x', 200) FROM generate_series(1, 20000) i")
        .await;
    let reader = open_reader("postgresql", json!({"url": database.url(), "table": "t"})).unwrap();
    let holding = reader.clone();
    let guard = harness::control(async move { holding.snapshot().unwrap().begin(4).await }).await.unwrap();
    database
        .execute("DELETE FROM t WHERE id <= 5000; INSERT INTO t SELECT -i, 'new' FROM generate_series(1, 3000) i")
        .await;
    let mut splits = harness::split_request(3);
    splits.max_bytes = 500_000;
    splits.snapshot = Some(guard.token.clone());
    let options = ReadOptions { splits, snapshot: Some(guard.token.clone()), ..ReadOptions::default() };
    let read = read_with(&reader, options.clone()).await.unwrap();
    assert!(read.splits.len() > 5 && read.splits[0].split.description.starts_with("pages"));
    let mut ids: Vec<i32> = read.column("id").into_iter().map(|v| v.unwrap().parse().unwrap()).collect();
    ids.sort_unstable();
    assert!(ids.iter().copied().eq(1..=20_000), "{} rows", ids.len());
    // The table cannot be rewritten under the snapshot.
    assert!(database.try_execute("SET lock_timeout = '100ms'; VACUUM FULL t").await.is_err());
    drop(guard);
    tokio::time::sleep(Duration::from_millis(200)).await;
    // With the guard go the locks; the snapshot stays for the other tables of the run, until its connection breaks.
    database.execute("VACUUM FULL t").await;
    assert_eq!(read_with(&reader, options.clone()).await.unwrap().rows(), 20_000);
    database.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(read_with(&reader, options).await.err().unwrap().kind(), ErrorKind::SnapshotLost);
}

#[tokio::test]
async fn columns_may_be_expressions_and_sources_queries() {
    let database = database("expressions").await;
    database
        .execute(
            "CREATE SCHEMA \"S.x\"; CREATE TABLE \"S.x\".\"T t\" (\"Id\" int PRIMARY KEY, n numeric(6,2)); \
             INSERT INTO \"S.x\".\"T t\" VALUES (1, 1.5), (2, 2.5), (3, NULL); \
             CREATE TABLE a (id int, v text); CREATE TABLE b (id int, v text); CREATE TABLE c (id bigint, v text); \
             INSERT INTO a VALUES (1, 'a'); INSERT INTO b VALUES (2, 'b')",
        )
        .await;
    let read = |parameters: Value| {
        let mut parameters = parameters;
        parameters["url"] = database.url().into();
        async move { read_all(&open_reader("postgresql", parameters)?).await }
    };
    let all = read(
        json!({"table": "\"S.x\".\"T t\"", "column": ["ID", "n * 2", "'x'::varchar", "null", "1"], "where": "\"Id\" < 3;"}),
    );
    let all = all.await.unwrap();
    assert!(all.schema.listed);
    assert_eq!(all.cells()[1], [text("2"), text("5.00"), text("x"), None, text("1")]);
    let query = read(
        json!({"querySql": ["select n, n, 1 from \"S.x\".\"T t\" order by n -- end", "select 9.99::numeric, 1, 2"]}),
    );
    let error = query.await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
    let query = read(
        json!({"querySql": "with q as (select n, n, 1 from \"S.x\".\"T t\") select * from q where (q::text) like '(2%' -- end\n;"}),
    );
    let query = query.await.unwrap();
    assert_eq!(query.cells(), [[text("2.50"), text("2.50"), text("1")]]);
    assert_eq!(query.schema.columns[0].native_type, "numeric(6,2)");
    assert_eq!(read(json!({"table": "a, b"})).await.unwrap().sorted_cells().len(), 2);
    let wider = read(json!({"table": ["a", "c"]})).await.unwrap();
    assert_eq!(wider.schema.columns[0].native_type, "bigint");
    assert_eq!(wider.sorted_cells().len(), 1);
    let error = read(json!({"table": "a", "column": ["idd"]})).await.err().unwrap();
    assert!(error.message().contains("did you mean `id`"), "{error}");
    assert!(read(json!({"table": "a", "querySql": "select 1"})).await.is_err());
}

#[tokio::test]
async fn faults_have_their_kind_and_remedy() {
    let database = database("faults").await;
    database.execute("CREATE TABLE orders (id int); CREATE TABLE \"Kunde\" (id int); CREATE SCHEMA \"S\"").await;
    let kind = |url: String, table: &'static str| async move {
        let error = read_all(&open_reader("postgresqlreader", json!({"url": url, "table": table})).unwrap())
            .await
            .err()
            .unwrap();
        assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
        (error.kind(), error.full())
    };
    assert_eq!(kind(database.url_with(database.user(), "s3cret"), "orders").await.0, ErrorKind::Denied);
    assert_eq!(kind("postgres://u:s3cret@127.0.0.1:1/d".into(), "t").await.0, ErrorKind::Unreachable);
    assert_eq!(kind("postgres://u:s3cret@no-such-host.invalid/d".into(), "t").await.0, ErrorKind::Unreachable);
    let (found, message) = kind(database.url(), "ordres").await;
    assert!(found == ErrorKind::NotFound && message.contains("did you mean `orders`"), "{message}");
    for (table, hint) in [
        ("kunde", "no such table: `kunde`; did you mean `\"Kunde\"`?"),
        ("public.\"KUNDE\"", "no such table: `KUNDE`; did you mean `\"Kunde\"`?"),
        ("\"ORDERS\"", "no such table: `ORDERS`; did you mean `orders`?"),
        ("s.t", "no such table: `s.t`, for there is no schema `s`; did you mean `\"S\"`?"),
    ] {
        let (found, message) = kind(database.url(), table).await;
        assert!(found == ErrorKind::NotFound && message.contains(hint), "{table}: {message}");
    }
    for table in ["ORDERS", "Public.Orders", "Kunde"] {
        let reader = open_reader("postgresqlreader", json!({"url": database.url(), "table": table})).unwrap();
        read_all(&reader).await.unwrap();
    }
    let url = format!("{}_none", database.url());
    assert_eq!(kind(url, "orders").await.0, ErrorKind::NotFound);

    let reader = open_reader("postgresql", json!({"url": database.url(), "table": ["orders", "nope"]})).unwrap();
    let lines = harness::control(async move { Ok(reader.check().await) }).await.unwrap();
    assert_eq!(lines.iter().filter(|l| l.outcome == CheckOutcome::Fault).count(), 1, "{lines:?}");
}

#[tokio::test]
async fn a_stopped_run_ends_within_a_second_on_the_server_too() {
    const RUNNING: &str =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    let database = database("stop").await;
    let context = harness::context();
    let parameters = json!({"url": database.url(), "querySql": "select pg_sleep(30)::text, 'weir-stop'"});
    let reader = harness::open_reader_in("postgresql", parameters, &context).unwrap();
    let (cancel, seeing) = (context.cancel.clone(), database.clone());
    let stopping = tokio::spawn(async move {
        seeing.until(RUNNING).await;
        cancel.cancel();
        Stopwatch::start()
    });
    let error = read_all(&reader).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    let since = stopping.await.unwrap();
    assert!(since.is_within(Duration::from_secs(1)), "{:?}", since.elapsed());
    // By itself it would run for half a minute.
    let ended = format!("SELECT CASE ({RUNNING}) WHEN 0 THEN 1 ELSE 0 END");
    tokio::time::timeout(Duration::from_secs(10), database.until(&ended)).await.unwrap();
}

#[tokio::test]
async fn the_catalogue_lists_tables() {
    let database = database("catalogue").await;
    database
        .execute("CREATE TABLE orders (id int); CREATE VIEW v AS SELECT 1 AS a; CREATE SCHEMA s; CREATE TABLE s.x (id int); CREATE TABLE weir_x (id int)")
        .await;
    let catalog = harness::open_catalog("postgresql", json!({"url": database.url()})).unwrap();
    let all = harness::control(async move { catalog.tables(None).await }).await.unwrap();
    let names: Vec<_> = all.iter().map(|t| (t.name.as_str(), t.kind.as_str())).collect();
    assert_eq!(names, [("orders", "table"), ("s.x", "table"), ("v", "view")]);
}
