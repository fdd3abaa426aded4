//! Enums that each schema has its own of.

use serde_json::json;
use weir::Status;
use weir_plugins_test::servers;

use super::Mirror;

#[tokio::test]
async fn shards_with_an_enum_each_are_merged() {
    let server = servers::postgresql().await;
    let (source, target) = (server.fresh_database("moods").await, server.fresh_database("moodstoo").await);
    for (schema, id) in [("s0", 1), ("s1", 2)] {
        source
            .execute(&format!(
                "CREATE SCHEMA {schema}; CREATE TYPE {schema}.mood AS ENUM ('sad', 'it''s fine');
                 CREATE TABLE {schema}.t (id int PRIMARY KEY, m {schema}.mood, all_of {schema}.mood[]);
                 INSERT INTO {schema}.t VALUES ({id}, 'it''s fine', ARRAY['sad', 'it''s fine']::{schema}.mood[])"
            ))
            .await;
    }
    let merge = json!({"objects": {"merge": [{"into": "public.t", "from": ["/s[01]/.t"], "origin": true}]}});
    let url = |database: &servers::Database| json!({"url": database.url()});
    let mirror = Mirror::new("moods", ("postgresql", url(&source)), ("postgresql", url(&target)), merge);
    for _ in 0..2 {
        let report = mirror.run().await;
        assert_eq!(report.status, Status::Succeeded, "{:#?}", report.tables);
        let rows = "SELECT string_agg(concat_ws(' ', id, m, all_of, source_schema), '; ' ORDER BY id) FROM t";
        assert_eq!(target.value(rows).await, "1 it's fine {sad,\"it's fine\"} s0; 2 it's fine {sad,\"it's fine\"} s1");
        assert_eq!(target.value("SELECT pg_typeof(m)::text FROM t LIMIT 1").await, "mood");
    }
    source.execute("ALTER TYPE s1.mood ADD VALUE 'glad'").await;
    let report = mirror.run().await;
    let error = report.tables[0].error.as_ref().unwrap();
    assert!(error.message.contains("(sad, it's fine, glad) instead of"), "{error:?}");
}

#[tokio::test]
async fn enums_of_one_name_that_come_to_one_schema_have_the_labels_of_both() {
    let server = servers::postgresql().await;
    let (source, target) = (server.fresh_database("twomoods").await, server.fresh_database("twomoodstoo").await);
    source
        .execute(
            "CREATE SCHEMA s0; CREATE TYPE s0.mood AS ENUM ('a', 'b');
             CREATE TABLE s0.t0 (id int PRIMARY KEY, m s0.mood); INSERT INTO s0.t0 VALUES (1, 'a'), (2, 'b');
             CREATE SCHEMA s1; CREATE TYPE s1.mood AS ENUM ('b', 'c');
             CREATE TABLE s1.t1 (id int PRIMARY KEY, m s1.mood); INSERT INTO s1.t1 VALUES (1, 'b'), (2, 'c')",
        )
        .await;
    let more = json!({"objects": {"include": ["/s[0-9]/.*"]}, "naming": {"schema": "public"}});
    let url = |database: &servers::Database| json!({"url": database.url()});
    let mirror = Mirror::new("twomoods", ("postgresql", url(&source)), ("postgresql", url(&target)), more);
    let of = |table: &str| format!("SELECT string_agg(m::text, ' ' ORDER BY id) FROM {table}");
    for _ in 0..2 {
        let report = mirror.run().await;
        assert_eq!((report.status, report.rows_dirty), (Status::Succeeded, 0), "{:#?}", report.tables);
        assert_eq!((target.value(&of("t0")).await, target.value(&of("t1")).await), ("a b".into(), "b c".into()));
    }
    // Later ones come too: to a table that is there, and with one that finds the type made.
    source.execute("ALTER TYPE s1.mood ADD VALUE 'd'").await;
    source
        .execute(
            "INSERT INTO s1.t1 VALUES (3, 'd');
             CREATE SCHEMA s2; CREATE TYPE s2.mood AS ENUM ('e');
             CREATE TABLE s2.t2 (id int PRIMARY KEY, m s2.mood); INSERT INTO s2.t2 VALUES (1, 'e')",
        )
        .await;
    let report = mirror.run().await;
    assert_eq!((report.status, report.rows_dirty), (Status::Succeeded, 0), "{:#?}", report.tables);
    assert_eq!((target.value(&of("t1")).await, target.value(&of("t2")).await), ("b c d".into(), "e".into()));
}
