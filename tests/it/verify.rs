//! Source and target compared after a run, by their own values.

use serde_json::{Value, json};
use weir::core::ErrorKind;
use weir::{Findings, Verification, VerifyOptions};
use weir_plugins_test::servers::{self, Database};

use crate::orders;
use crate::support::{job_of, load, run, run_failing, run_ok, with_channels};

async fn verify(job: &Value) -> Verification {
    weir::verify(&load(job), &VerifyOptions::default()).await.unwrap_or_else(|error| panic!("{error}\nin: {job:#}"))
}

async fn refusal(job: &Value) -> weir::core::Error {
    weir::verify(&load(job), &VerifyOptions::default()).await.expect_err("this cannot be verified")
}

/// Runs a job, and finds its target equal.
async fn run_and_verify(job: &Value, rows: u64) {
    run_ok(job).await;
    let found = verify(job).await;
    assert!(found.equal, "{found:#?}");
    let entry = &found.entries[0];
    assert_eq!((entry.source_rows, entry.target_rows, entry.source_left_out), (rows, rows, 0), "{entry:#?}");
}

fn ids(found: &Findings) -> (u64, Vec<&str>) {
    (found.rows, found.keys.iter().map(|key| key["id"].as_str().unwrap()).collect())
}

async fn orders_of(rows: u32) -> Database {
    let database = servers::postgresql().await.fresh_database("verify").await;
    orders::create(&database, "orders").await;
    orders::fill(&database, "orders", 1, rows, 0).await;
    database
}

#[tokio::test]
async fn values_that_change_their_form_are_equal_to_mysql_and_sqlite() {
    let source = orders_of(3_000).await;
    let target = servers::mysql().await.fresh_database("verify").await;
    let from = json!({"url": source.url(), "table": "orders"});
    let to = json!({"url": target.url(), "table": "orders", "writeMode": "overwrite"});
    run_and_verify(&with_channels(job_of("postgresql", from.clone(), "mysql", to), 2), 3_000).await;
    let folder = tempfile::tempdir().unwrap();
    let to = json!({"path": folder.path().join("shop.db"), "table": "orders", "writeMode": "overwrite"});
    run_and_verify(&job_of("postgresql", from, "sqlite", to), 3_000).await;
}

#[tokio::test]
async fn values_that_change_their_form_are_equal_to_files_and_lakehouse() {
    let source = orders_of(3_000).await;
    let from = json!({"url": source.url(), "table": "orders"});
    let folder = tempfile::tempdir().unwrap();
    for name in ["orders.csv", "orders.csv.gz", "orders.jsonl", "orders.parquet", "orders.arrow"] {
        let to = json!({"path": folder.path().join(name), "writeMode": "truncate"});
        run_and_verify(&job_of("postgresql", from.clone(), "files", to), 3_000).await;
    }
    let to = json!({"path": folder.path().join("parts"), "format": "csv", "writeMode": "truncate", "delimiter": ";"});
    run_and_verify(&with_channels(job_of("postgresql", from.clone(), "files", to), 2), 3_000).await;
    let to = json!({"path": folder.path().join("datax"), "fileName": "orders", "writeMode": "truncate",
        "fileFormat": "csv", "header": ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]});
    run_and_verify(&job_of("postgresqlreader", listed(&from), "txtfilewriter", to), 3_000).await;
    let to = json!({"path": folder.path().join("lake"), "writeMode": "overwrite"});
    run_and_verify(&job_of("postgresql", from, "lakehouse", to), 3_000).await;
}

fn listed(from: &Value) -> Value {
    json!({"column": ["*"], "username": "", "connection": [{"jdbcUrl": [from["url"]], "table": [from["table"]]}]})
}

#[tokio::test]
async fn awkward_types_are_equal_between_databases() {
    let source = servers::postgresql().await.fresh_database("awkward").await;
    source
        .execute(
            "CREATE TABLE t (id int PRIMARY KEY, free numeric, doc jsonb, plain json, u uuid, day date, t time, \
             span interval, i timestamptz, f real, list int[]); \
             INSERT INTO t SELECT g, (g / 7.0)::numeric(30,10), jsonb_build_object('b', g, 'a', g / 2.0, 'text', 'é'), \
             json_build_object('z', g, 'a', null), gen_random_uuid(), date '2000-01-01' + g, time '00:00' + g * interval '1 min', \
             g * interval '1 hour 2 sec', timestamptz '2000-01-01 00:00+00' + g * interval '1 day', g / 3.0, ARRAY[g, NULL] \
             FROM generate_series(1, 500) g; \
             INSERT INTO t (id, free, day, i, f) VALUES (0, 'NaN', 'infinity', '-infinity', 'NaN'), (-1, NULL, NULL, NULL, '-0')",
        )
        .await;
    // Bytes of one system pass undecoded, infinities too.
    let from = json!({"url": source.url(), "table": "t"});
    let to = json!({"url": source.url(), "table": "copy", "writeMode": "overwrite"});
    run_and_verify(&job_of("postgresql", from, "postgresql", to), 502).await;
    // What the target alters is found: a JSON document that says the same is not altered.
    source.execute("UPDATE copy SET doc = doc || '{\"c\": 1}' WHERE id = 7").await;
    source.execute("UPDATE copy SET day = '-infinity' WHERE id = 0").await;
    let from = json!({"url": source.url(), "table": "t"});
    let to = json!({"url": source.url(), "table": "copy", "writeMode": "overwrite"});
    let found = verify(&job_of("postgresql", from, "postgresql", to)).await;
    assert_eq!(ids(&found.entries[0].different), (2, vec!["0", "7"]), "{found:#?}");
    let target = servers::mysql().await.fresh_database("awkward").await;
    let from = json!({"url": source.url(), "querySql":
        "SELECT id, doc, plain, u, t, day, i, f::float8 AS f FROM t WHERE id > 0"});
    let to = json!({"url": target.url(), "table": "t", "writeMode": "overwrite"});
    run_and_verify(&job_of("postgresql", from, "mysql", to), 500).await;
}

#[tokio::test]
async fn changed_missing_and_extra_rows_are_named() {
    let source = orders_of(5_000).await;
    let target = servers::mysql().await.fresh_database("verify").await;
    let from = json!({"url": source.url(), "table": "orders"});
    let mut job =
        job_of("postgresql", from, "mysql", json!({"url": target.url(), "table": "orders", "writeMode": "overwrite"}));
    job = with_channels(job, 2);
    run_ok(&job).await;
    target.execute("UPDATE orders SET amount = amount + 0.01 WHERE id = 17").await;
    target.execute("UPDATE orders SET note = NULL WHERE id = 4000").await;
    target.execute("DELETE FROM orders WHERE id > 4970").await;
    target.execute("INSERT INTO orders (id, customer) VALUES (-1, 'nobody')").await;
    let found = verify(&job).await;
    let entry = &found.entries[0];
    assert!(!found.equal && !entry.equal);
    assert_eq!(entry.key, ["id"]);
    assert_eq!((entry.source_rows, entry.target_rows), (5_000, 4_971));
    assert_eq!(ids(&entry.different), (2, vec!["17", "4000"]));
    assert_eq!(ids(&entry.extra), (1, vec!["-1"]));
    assert_eq!((entry.missing.rows, entry.missing.keys.len()), (30, 20));
    assert!(found.summary().contains("30 missing (first: id=49"), "{}", found.summary());
    // A job that adds rows owes its target no emptiness.
    job["job"]["content"][0]["writer"]["parameter"]["writeMode"] = json!("upsert");
    let found = verify(&job).await;
    assert!(!found.equal && found.entries[0].extra_allowed);
    target.execute("DELETE FROM orders").await;
    run_ok(&job).await;
    target.execute("INSERT INTO orders (id, customer) VALUES (-1, 'nobody')").await;
    let found = verify(&job).await;
    assert!(found.equal, "{found:#?}");
    assert_eq!(found.entries[0].extra.rows, 1);
}

#[tokio::test]
async fn a_sample_compares_some_rows_and_counts_all() {
    let source = orders_of(20_000).await;
    let from = json!({"url": source.url(), "table": "orders"});
    let to = json!({"url": source.url(), "table": "copy", "writeMode": "overwrite"});
    let job = with_channels(job_of("postgresql", from, "postgresql", to), 2);
    run_ok(&job).await;
    let options = VerifyOptions { sample: Some(500), ..VerifyOptions::default() };
    let found = weir::verify(&load(&job), &options).await.unwrap();
    let entry = &found.entries[0];
    assert!(found.equal, "{found:#?}");
    assert!((400..=1_000).contains(&entry.sampled.unwrap()), "{entry:#?}");
    assert_eq!((entry.source_rows, entry.target_rows), (20_000, 20_000));
    source.execute("UPDATE copy SET customer = 'x'").await;
    let found = weir::verify(&load(&job), &options).await.unwrap();
    assert_eq!(found.entries[0].different.rows, found.entries[0].sampled.unwrap());
    // One row among so many is seen by the count, if not by the sample.
    source.execute("DELETE FROM copy; INSERT INTO copy SELECT * FROM orders WHERE id <> 5").await;
    assert!(!weir::verify(&load(&job), &options).await.unwrap().equal);
}

#[tokio::test]
async fn tables_without_keys_are_compared_by_whole_rows() {
    let source = servers::postgresql().await.fresh_database("nokey").await;
    source.execute("CREATE TABLE t (a int, b text)").await;
    source.execute("INSERT INTO t SELECT g % 10, 'x' FROM generate_series(1, 100) g").await;
    let from = json!({"url": source.url(), "table": "t"});
    let to = json!({"url": source.url(), "table": "copy"});
    let job = job_of("postgresql", from, "postgresql", to);
    run_and_verify(&job, 100).await;
    source.execute("DELETE FROM copy WHERE ctid = (SELECT min(ctid) FROM copy WHERE a = 3)").await;
    let found = verify(&job).await;
    let entry = &found.entries[0];
    assert_eq!((entry.missing.rows, entry.missing.keys[0]["a"].as_str()), (1, Some("3")), "{entry:#?}");
}

/// Shards and files: of a row that is not there it is said where it should have come from.
#[tokio::test]
async fn rows_of_several_tables_and_files_are_named_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("a.csv"), "id,v\n1,x\n2,x\n").unwrap();
    std::fs::write(path("b.csv"), "id,v\n1,x\n3,y\n4,y\n").unwrap();
    let target = servers::postgresql().await.fresh_database("places").await;
    let from = json!({"path": [path("a.csv"), path("b.csv")], "header": true});
    let to = json!({"url": target.url(), "table": "t", "writeMode": "overwrite"});
    let job = job_of("files", from, "postgresql", to);
    run_and_verify(&job, 5).await;
    target.execute("DELETE FROM t WHERE id = '2'; DELETE FROM t WHERE id = '4'; INSERT INTO t VALUES ('5', 'z')").await;
    let found = verify(&job).await;
    let entry = &found.entries[0];
    assert_eq!(ids(&entry.missing), (2, vec!["2", "4"]));
    assert_eq!(entry.missing.tables, [path("a.csv"), path("b.csv")]);
    assert!(entry.extra.tables.is_empty(), "the target is one table");
    assert!(found.summary().contains(&format!("2 missing (first: id=2, v=x in {})", path("a.csv"))), "{found:#?}");

    for shard in 0..3 {
        target.execute(&format!("CREATE SCHEMA s{shard}; CREATE TABLE s{shard}.o (id int PRIMARY KEY, v text)")).await;
        target.execute(&format!("INSERT INTO s{shard}.o SELECT g, 'v{shard}' FROM generate_series(1, 50) g")).await;
    }
    let from = json!({"url": target.url(), "table": ["s0.o", "s1.o", "s2.o"]});
    let job = job_of("postgresql", from, "files", json!({"path": path("all.csv"), "writeMode": "truncate"}));
    run_and_verify(&with_channels(job.clone(), 2), 150).await;
    target.execute("UPDATE s1.o SET v = 'new' WHERE id = 7; INSERT INTO s2.o VALUES (51, 'v2')").await;
    let found = verify(&job).await;
    let entry = &found.entries[0];
    assert_eq!((ids(&entry.missing), entry.extra.rows), ((2, vec!["51", "7"]), 1), "{entry:#?}");
    assert_eq!(entry.missing.tables, ["s2.o", "s1.o"]);
}

#[tokio::test]
async fn a_run_that_verifies_fails_when_the_target_alters_rows() {
    let source = orders_of(200).await;
    source.execute("CREATE TABLE copy (LIKE orders INCLUDING ALL)").await;
    let from = json!({"url": source.url(), "table": "orders"});
    let mut job = job_of("postgresql", from, "postgresql", json!({"url": source.url(), "table": "copy"}));
    job["job"]["setting"]["verify"] = json!(true);
    run_ok(&job).await;
    source.execute("DELETE FROM copy").await;
    source
        .execute(
            "CREATE FUNCTION alter_it() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN IF NEW.id = 42 THEN NEW.customer := 'else'; END IF; RETURN NEW; END $$",
        )
        .await;
    source.execute("CREATE TRIGGER t BEFORE INSERT ON copy FOR EACH ROW EXECUTE FUNCTION alter_it()").await;
    let error = run_failing(&job).await;
    assert_eq!(error.kind, ErrorKind::Data);
    assert!(error.message.contains("1 different (first: id=42)"), "{}", error.message);
}

#[tokio::test]
async fn rows_that_the_target_refused_are_no_fault_of_a_verified_run() {
    let source = orders_of(100).await;
    source.execute("CREATE TABLE copy (LIKE orders INCLUDING ALL, CHECK (id <> 42))").await;
    let from = json!({"url": source.url(), "table": "orders"});
    let mut job = job_of("postgresql", from, "postgresql", json!({"url": source.url(), "table": "copy"}));
    job["job"]["setting"] = json!({"verify": true, "errorLimit": {"record": 1}});
    let report = run(&job).await;
    assert_eq!((report.exit_code(), report.rows_dirty, report.rows_written), (0, 1, 99), "{:#?}", report.error);
    // Afterwards nobody remembers that, and the row is missing.
    assert_eq!(ids(&verify(&job).await.entries[0].missing), (1, vec!["42"]));
}

/// The row of a key whose new values the target refuses keeps its old ones.
#[tokio::test]
async fn rows_that_an_upsert_could_not_change_are_no_fault_of_a_verified_run() {
    let source = orders_of(100).await;
    source.execute("CREATE TABLE copy (LIKE orders INCLUDING ALL)").await;
    let from = json!({"url": source.url(), "table": "orders"});
    let to = json!({"url": source.url(), "table": "copy", "writeMode": "upsert"});
    let mut job = job_of("postgresql", from, "postgresql", to);
    job["job"]["setting"] = json!({"verify": true, "errorLimit": {"record": 2}});
    run_ok(&job).await;
    source.execute("ALTER TABLE copy ADD CHECK (customer <> 'new')").await;
    source.execute("UPDATE orders SET customer = 'new' WHERE id IN (42, 43); DELETE FROM copy WHERE id = 43").await;
    let report = run(&job).await;
    assert_eq!((report.exit_code(), report.rows_dirty), (0, 2), "{:#?}", report.error);
    let found = verify(&job).await;
    let entry = &found.entries[0];
    assert_eq!((ids(&entry.different), ids(&entry.missing)), ((1, vec!["42"]), (1, vec!["43"])));
    // More than were refused is a fault.
    let silent = "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN OLD; END $$";
    source.execute(silent).await;
    source.execute("CREATE TRIGGER t BEFORE UPDATE ON copy FOR EACH ROW EXECUTE FUNCTION keep()").await;
    source.execute("UPDATE orders SET customer = 'else' WHERE id = 44").await;
    let error = run_failing(&job).await;
    assert!(error.message.contains("2 different"), "{}", error.message);
}

#[tokio::test]
async fn what_cannot_be_read_again_is_refused() {
    let rows = |more: Value| {
        let mut rows = json!({"sliceRecordCount": 10, "column": [{"name": "id", "random": "1,100", "type": "long"}]});
        rows.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        rows
    };
    let folder = tempfile::tempdir().unwrap();
    let to = json!({"path": folder.path().join("rows.csv"), "writeMode": "truncate"});
    let mut job = job_of("stream", rows(json!({})), "files", to.clone());
    assert_eq!(refusal(&job).await.kind(), ErrorKind::Unsupported);
    job["job"]["setting"]["verify"] = json!(true);
    let error = run_failing(&job).await;
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert!(!folder.path().join("rows.csv").exists(), "nothing was written");
    run_and_verify(&with_channels(job_of("stream", rows(json!({"seed": 1})), "files", to), 3), 30).await;
    let job = job_of("stream", rows(json!({"seed": 1})), "stream", json!({}));
    assert!(refusal(&job).await.message().contains("nothing to verify"));
}

#[tokio::test]
async fn a_table_that_cannot_be_read_keeps_nobody_from_the_others() {
    let server = servers::postgresql().await;
    let (source, target) = (server.fresh_database("verifyall").await, server.fresh_database("verifyalltoo").await);
    for table in ["a", "b", "c"] {
        source
            .execute(&format!("CREATE TABLE {table} (id int PRIMARY KEY); INSERT INTO {table} VALUES (1), (2)"))
            .await;
    }
    let job = json!({
        "type": "database",
        "source": {"name": "postgresql", "parameter": {"url": source.url()}},
        "target": {"name": "postgresql", "parameter": {"url": target.url()}},
    });
    run_ok(&job).await;
    target
        .execute("DROP TABLE a; CREATE VIEW a AS SELECT 1 / (random() * 0)::int AS id; DELETE FROM c WHERE id = 2")
        .await;
    let found = verify(&job).await;
    assert!(!found.equal && found.entries.len() == 3, "{found:#?}");
    let of = |table: &str| found.entries.iter().find(|entry| entry.target.ends_with(table)).unwrap();
    assert!(of(".a").error.is_some(), "{found:#?}");
    assert!(of(".b").equal && of(".b").error.is_none());
    assert_eq!(ids(&of(".c").missing), (1, vec!["2"]));
    assert!(found.summary().contains("could not be compared"), "{}", found.summary());
}
