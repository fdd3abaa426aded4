//! Types and values that arrive as they were, or are refused in plain words.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use serde_json::{Value, json};
use weir_core::field::{INTERVAL, with_extension};
use weir_core::{ErrorKind, Writer};
use weir_plugins_test::Stopwatch;
use weir_plugins_test::harness::{self, WriteOptions, open_reader, open_writer, read_all, write_all};
use weir_plugins_test::servers::{self, Database};
use {weir_reader_postgresql as _, weir_writer_postgresql as _};

async fn database(name: &str) -> Database {
    servers::postgresql().await.fresh_database(name).await
}

fn writer(database: &Database, mut parameters: Value) -> Arc<dyn Writer> {
    parameters["url"] = database.url().into();
    open_writer("postgresql", parameters).unwrap()
}

const TYPES_OF: &str = "SELECT string_agg(format_type(atttypid, atttypmod), '; ' ORDER BY attnum) FROM pg_attribute \
                        WHERE attrelid = 's'::regclass AND attnum > 0";

#[tokio::test]
async fn enums_are_made_and_what_cannot_be_made_is_said() {
    let (from, to) = (database("types_from").await, database("types_to").await);
    from.execute(
        "CREATE SCHEMA x; CREATE TYPE colour AS ENUM ('red', 'gr''een', '蓝'); CREATE TYPE x.\"Size\" AS ENUM ('S', 'M'); \
         CREATE FUNCTION lucky(numeric) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT $1 <> 13'; \
         CREATE DOMAIN amount AS numeric(6,2) CHECK (lucky(VALUE)); \
         CREATE TABLE pair (a int, b text); CREATE FUNCTION anything() RETURNS bool LANGUAGE sql AS 'SELECT true'; \
         CREATE DOMAIN wild AS text CHECK (anything()); \
         CREATE TABLE s (c colour, a colour[], z x.\"Size\", d amount, h wild, p pair); \
         INSERT INTO s VALUES ('gr''een', '{red,NULL,蓝}', 'M', 1.50, '10.0.0.1', '(1,\"x y\")'), (NULL, NULL, NULL, NULL, NULL, NULL)",
    )
    .await;
    let read = read_all(&open_reader("postgresql", json!({"url": from.url(), "table": "s"})).unwrap()).await.unwrap();
    let writing = writer(&to, json!({"table": "s"}));
    let written = write_all(&writing, read.batches(), WriteOptions::default()).await.unwrap();
    assert_eq!(written.rows(), 2);
    assert!(written.plan.statements.iter().any(|s| s.starts_with("CREATE TYPE \"public\".\"colour\"")));
    let types = "colour; colour[]; \"Size\"; numeric(6,2); text; text";
    assert_eq!(to.value(TYPES_OF).await, types);
    assert_eq!(to.value("SELECT array_to_string(enum_range(NULL::colour), '/')").await, "red/gr'een/蓝");
    assert_eq!(
        to.value("SELECT s::text FROM s WHERE c IS NOT NULL").await,
        from.value("SELECT s::text FROM s WHERE c IS NOT NULL").await
    );
    let said = written.plan.warnings.join("\n");
    assert!(["amount", "wild", "pair"].iter().all(|t| said.contains(&format!("type {t} does not exist"))), "{said}");
    assert!(said.contains("uses function lucky(numeric), which does not exist here"), "{said}");
    assert!(said.contains("calls anything(), which may do anything"), "{said}");
    // Again into types that are there; one of them lacks a label by now.
    to.execute("DROP TABLE s; ALTER TYPE colour RENAME VALUE '蓝' TO 'blue'; CREATE DOMAIN wild AS inet; CREATE TYPE pair AS (a int, b text)").await;
    let written = write_all(&writing, read.batches(), WriteOptions::default()).await.unwrap();
    assert!(written.plan.warnings.iter().any(|w| w.contains("lacks 蓝")), "{:?}", written.plan.warnings);
    assert_eq!(to.value(TYPES_OF).await, "colour; colour[]; \"Size\"; numeric(6,2); wild; pair");
    assert_eq!((written.rows(), written.refused.len()), (1, 1));
    assert!(written.refused[0].reason.contains('蓝'), "{}", written.refused[0].reason);
}

/// Writes texts into a table of one column of the type, and gives what is there and what was refused.
async fn into(database: &Database, of: &str, extension: Option<&str>, texts: &[&str]) -> (String, Vec<String>) {
    database.execute(&format!("DROP TABLE IF EXISTS t; CREATE TABLE t (c {of})")).await;
    let field = Field::new("c", DataType::Utf8, true);
    let field = extension.map_or(field.clone(), |e| with_extension(field, e));
    let array: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array]).unwrap();
    let written =
        write_all(&writer(database, json!({"table": "t"})), vec![batch], WriteOptions::default()).await.unwrap();
    let there = database.value("SELECT string_agg(c::text, ' | ' ORDER BY ctid) FROM t").await;
    (there, written.refused.into_iter().map(|r| r.reason).collect())
}

#[tokio::test]
async fn lists_come_back_as_arrays() {
    let database = database("arrays").await;
    let (there, refused) = into(
        &database,
        "int[]",
        None,
        &["[1, null, 3]", "{4,5}", "[]", "[[1,2],[3,4]]", "[1.5]", "nonsense", "[[],[]]"],
    )
    .await;
    assert_eq!(there, "{1,NULL,3} | {4,5} | {} | {{1,2},{3,4}}");
    assert_eq!(refused.len(), 3, "{refused:?}");
    let (there, refused) =
        into(&database, "text[]", None, &[r#"["a,b", "NULL", "\"\\", "é\n", null]"#, r#"["a\u0000"]"#]).await;
    assert_eq!(there, "{\"a,b\",\"NULL\",\"\\\"\\\\\",\"é\n\",NULL}");
    assert!(refused[0].contains("NUL"), "{refused:?}");
    let (there, refused) = into(&database, "numeric(5,2)[]", None, &["[1.50, 20]", "[1.555]"]).await;
    assert_eq!((there.as_str(), refused.len()), ("{1.50,20.00}", 1));
    let (there, _) = into(&database, "jsonb[]", None, &[r#"[{"a": [1, 2]}, "x"]"#]).await;
    assert_eq!(there, r#"{"{\"a\": [1, 2]}","\"x\""}"#);
    let (there, _) = into(&database, "inet[]", None, &[r#"["10.0.0.1", "::1"]"#]).await;
    assert_eq!(there, "{10.0.0.1,::1}");
}

#[tokio::test]
async fn what_the_server_would_cut_or_round_is_refused() {
    let database = database("narrow").await;
    let (there, refused) = into(&database, "varchar(3)", None, &["abc", "ab ", "abc  ", "äöü", "äöüß"]).await;
    assert_eq!((there.as_str(), refused.len()), ("abc | ab  | äöü", 2), "{refused:?}");
    let (there, refused) =
        into(&database, "timetz(0)", None, &["12:00:00+02", "12:00:00.000+02", "12:00:00.5+02"]).await;
    assert_eq!((there.as_str(), refused.len()), ("12:00:00+02 | 12:00:00+02", 1));
    let (there, refused) = into(&database, "interval(0)", Some(INTERVAL), &["PT1S", "PT0.5S", "P1M2D"]).await;
    assert_eq!((there.as_str(), refused.len()), ("00:00:01 | 1 mon 2 days", 1));
    let (there, refused) = into(&database, "interval year to month", Some(INTERVAL), &["P1Y2M", "P1D", "PT1S"]).await;
    assert_eq!((there.as_str(), refused.len()), ("1 year 2 mons", 2));
    let (there, refused) = into(&database, "interval day to minute", Some(INTERVAL), &["P1DT2H3M", "PT1S"]).await;
    assert_eq!((there.as_str(), refused.len()), ("1 day 02:03:00", 1));
    let (there, refused) = into(&database, "money", None, &["12.50", "-3", "1.005"]).await;
    assert_eq!((there.as_str(), refused.len()), ("$12.50 | -$3.00", 1));
    let (there, refused) = into(&database, "\"char\"", None, &["a", "ab"]).await;
    assert_eq!((there.as_str(), refused.len()), ("a", 1));
    let (there, refused) = into(&database, "bit(3)", None, &["101", "1010"]).await;
    assert_eq!((there.as_str(), refused.len()), ("101", 1));
    let (there, refused) = into(&database, "numeric(1000,500)", None, &["1e-500", "1e-501", "NaN"]).await;
    assert!(there.ends_with("1 | NaN") && refused.len() == 1, "{there} {refused:?}");
}

#[tokio::test]
async fn rows_that_go_as_text_are_checked_like_those_that_go_in_binary() {
    let database = database("as_text").await;
    // An inet has no binary form of ours, so that the server reads all columns from texts.
    for (of, texts, there, refused) in [
        ("numeric(5,2)", vec!["1.50", "1.500", "1.555", "NaN"], "1.50 | 1.50 | NaN", 1),
        // The runtime makes these, exactly or not at all.
        ("integer", vec!["7", "7.0"], "7 | 7", 0),
        ("real", vec!["0.5", "NaN"], "0.5 | NaN", 0),
        (
            "date",
            vec!["-0043-03-15", "0000-12-31", "+12345-06-07", "infinity"],
            "0044-03-15 BC | 0001-12-31 BC | 12345-06-07 | infinity",
            0,
        ),
        (
            "timestamp(0)",
            vec!["2024-02-29 12:00:00.5", "2024-02-29 12:00:00.0", "-0043-03-15 12:00:00"],
            "2024-02-29 12:00:00 | 0044-03-15 12:00:00 BC",
            1,
        ),
        ("timestamptz", vec!["-0043-03-15 12:00:00Z", "2024-02-29 12:00:00.1234567Z"], "0044-03-15 12:00:00+00 BC", 1),
        ("time(3)", vec!["12:00:00.1234", "12:00:00.123"], "12:00:00.123", 1),
        ("interval(0)", vec!["PT1.5S", "PT1S"], "00:00:01", 1),
        ("date[]", vec![r#"["-0043-03-15", null]"#], "{\"0044-03-15 BC\",NULL}", 0),
    ] {
        database
            .execute(&format!("SET datestyle = 'ISO'; DROP TABLE IF EXISTS t; CREATE TABLE t (c {of}, i inet)"))
            .await;
        let array = |texts: Vec<&str>| Arc::new(StringArray::from(texts)) as ArrayRef;
        let addresses = array(vec!["10.0.0.1"; texts.len()]);
        let batch = RecordBatch::try_from_iter([("c", array(texts)), ("i", addresses)]).unwrap();
        let written =
            write_all(&writer(&database, json!({"table": "t"})), vec![batch], WriteOptions::default()).await.unwrap();
        assert_eq!(database.value("SELECT string_agg(c::text, ' | ' ORDER BY ctid) FROM t").await, there, "{of}");
        assert_eq!(written.refused.len(), refused, "{of} {:?}", written.refused);
        assert!(written.refused.iter().all(|r| r.column.as_deref() == Some("c")));
    }
}

#[tokio::test]
async fn a_dropped_table_and_a_revoked_right_are_no_rows_fault() {
    let database = database("gone").await;
    let role = format!("{}_role", database.name());
    database
        .execute(&format!(
            "CREATE TABLE t (c text); CREATE TABLE r (c text); CREATE ROLE \"{role}\" LOGIN PASSWORD 'p'; \
             GRANT ALL ON r TO \"{role}\"; GRANT ALL ON SCHEMA public TO \"{role}\""
        ))
        .await;
    let batch = RecordBatch::try_from_iter([("c", Arc::new(StringArray::from(vec!["x"])) as ArrayRef)]).unwrap();
    let as_role = open_writer("postgresql", json!({"url": database.url_with(&role, "p"), "table": "r"})).unwrap();
    let mut prepared = Vec::new();
    // The login without rights on the other's record comes first: the record is its own.
    for to in [as_role, writer(&database, json!({"table": "t"}))] {
        let plan = harness::plan_for(&to, &batch.schema(), &WriteOptions::default()).await.unwrap();
        let (preparing, planned) = (to.clone(), plan.clone());
        harness::control(async move { preparing.prepare(&planned).await }).await.unwrap();
        prepared.push((to, plan));
    }
    database.execute(&format!("DROP TABLE t; REVOKE INSERT ON r FROM \"{role}\"")).await;
    for ((to, plan), kind) in prepared.iter().zip([ErrorKind::Denied, ErrorKind::NotFound]) {
        let task = weir_core::TaskId { run_id: plan.run_id.clone(), split: 0, table: "s".into(), attempt: 1 };
        let error = harness::run_task(to, plan, task, vec![batch.clone()]).await.err().unwrap();
        assert!(error.kind() == kind && !error.is_retryable(), "{error:?}");
    }
    database.execute(&format!("DROP OWNED BY \"{role}\"; DROP ROLE \"{role}\"")).await;
}

#[tokio::test]
async fn a_task_that_waits_for_a_lock_stops_within_a_second() {
    let database = database("stop").await;
    database.execute("CREATE TABLE t (c text)").await;
    let context = harness::context();
    let parameters = json!({"url": database.url(), "table": "t"});
    let to = harness::open_writer_in("postgresql", parameters, &context).unwrap();
    let batch = RecordBatch::try_from_iter([("c", Arc::new(StringArray::from(vec!["x"])) as ArrayRef)]).unwrap();
    let plan = harness::plan_for(&to, &batch.schema(), &WriteOptions::default()).await.unwrap();
    let (preparing, planned) = (to.clone(), plan.clone());
    harness::control(async move { preparing.prepare(&planned).await }).await.unwrap();
    let holder = database.clone();
    let holding =
        tokio::spawn(async move { holder.try_execute("BEGIN; LOCK TABLE t; SELECT pg_sleep(60); COMMIT").await });
    let sessions =
        |what: &str| format!("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND {what}");
    database.until(&sessions("wait_event = 'PgSleep'")).await;
    let (cancel, seeing, waits) = (context.cancel.clone(), database.clone(), sessions("wait_event_type = 'Lock'"));
    let stopping = tokio::spawn(async move {
        seeing.until(&waits).await;
        cancel.cancel();
        Stopwatch::start()
    });
    let task = weir_core::TaskId { run_id: plan.run_id.clone(), split: 0, table: "s".into(), attempt: 1 };
    let error = harness::run_task(&to, &plan, task, vec![batch]).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    let since = stopping.await.unwrap();
    assert!(since.is_within(std::time::Duration::from_secs(1)), "{:?}", since.elapsed());
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    database.execute(end).await;
    assert!(holding.await.unwrap().is_err(), "the lock was held all the while");
}
