//! Keys of MySQL over the beginnings of texts.

use serde_json::json;
use weir::VerifyOptions;
use weir_plugins_test::servers;

use super::{database_job, run_ok};
use crate::support::load;

/// Of `PRIMARY KEY (a, b(3))` nothing is a key over columns but both together.
#[tokio::test]
async fn a_primary_key_over_a_prefix_loses_no_row() {
    let server = servers::mariadb().await;
    let (source, target) = (server.fresh_database("prefix").await, servers::postgresql().await);
    let target = target.fresh_database("prefix").await;
    source
        .execute(
            "CREATE TABLE t (a int, b varchar(20), v int, PRIMARY KEY (a, b(3))); \
             INSERT INTO t VALUES (1, 'one', 1), (1, 'two', 2), (2, 'one', 3)",
        )
        .await;
    let ends = (("mysql", json!({"url": source.url()})), ("postgresql", json!({"url": target.url()})));
    let more = json!({"write": {"keyed": "upsert"}, "naming": {"schema": "public"}});
    let job = database_job(ends.0, ends.1, more);
    for _ in 0..2 {
        run_ok(&job).await;
        let rows = target.value("SELECT string_agg(a || b || v, ' ' ORDER BY v) FROM t").await;
        assert_eq!(rows, "1one1 1two2 2one3");
    }
}

/// A key that the job itself gives may join rows; under the source's own none may be lost.
#[tokio::test]
async fn a_key_under_which_rows_are_lost_is_not_equal() {
    let server = servers::postgresql().await;
    let (source, target) = (server.fresh_database("fewer").await, server.fresh_database("fewer").await);
    let mariadb = servers::mariadb().await.fresh_database("fewer").await;
    source
        .execute(
            "CREATE TABLE t (a int, v int); INSERT INTO t VALUES (1, 1), (1, 2), (2, 3);
             CREATE TABLE own (a varchar(9) PRIMARY KEY, v int); INSERT INTO own VALUES ('a', 1), ('A', 2), ('b', 3)",
        )
        .await;
    mariadb.execute("CREATE TABLE own (a varchar(9) COLLATE utf8mb4_general_ci PRIMARY KEY, v int)").await;
    let from = || ("postgresql", json!({"url": source.url()}));
    let joins = json!({"objects": {"include": ["t"]}, "tables": {"t": {"key": ["a"], "writeMode": "upsert"}}});
    let joins = database_job(from(), ("postgresql", json!({"url": target.url()})), joins);
    let into = json!({"url": mariadb.url(), "duplicateKeys": "last"});
    let loses =
        json!({"objects": {"include": ["own"]}, "naming": {"schema": "{TARGET_SCHEMA}"}, "write": {"keyed": "upsert"}});
    let loses = database_job(from(), ("mysql", into), loses);
    for (job, equal) in [(joins, true), (loses, false)] {
        run_ok(&job).await;
        let verified = weir::verify(&load(&job), &VerifyOptions::default()).await.unwrap();
        let entry = &verified.entries[0];
        assert_eq!((verified.equal, entry.source_rows, entry.target_rows), (equal, 3, 2), "{verified:#?}");
    }
}
