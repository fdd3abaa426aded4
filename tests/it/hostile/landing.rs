//! A run that died while PostgreSQL was at work on its commit, and a plain run after it: that waits for what becomes of it.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use weir::core::{Account, Receipt};
use weir_plugins_test::servers::{self, Database};

use super::{PATIENCE, Place};
use crate::support::job_of;

/// A job that appends one split, by a login that may not end the sessions of others.
async fn place(name: &str) -> (Place, Database) {
    let database = servers::postgresql().await.fresh_database(name).await;
    let role = role(&database);
    database
        .execute(&format!(
            "CREATE TABLE t (id int); CREATE ROLE \"{role}\" LOGIN PASSWORD 'p'; GRANT ALL ON t TO \"{role}\"; \
             GRANT ALL ON SCHEMA public TO \"{role}\""
        ))
        .await;
    let place = Place::new();
    let rows = json!({"column": [{"incr": "1,1", "type": "long"}], "sliceRecordCount": 20_000});
    let to = json!({"url": database.url_with(&role, "p"), "table": "t", "writeMode": "append", "mapping": [{"from": "column1", "to": "id"}]});
    let mut job = job_of("stream", rows, "postgresql", to);
    job["job"]["setting"] = json!({"speed": {"channel": 1, "record": 1_000}});
    place.job(&job);
    (place, database)
}

fn role(database: &Database) -> String {
    format!("{}_role", database.name())
}

async fn drop_role(database: &Database) {
    let role = role(database);
    database.execute(&format!("DROP OWNED BY \"{role}\"; DROP ROLE \"{role}\"")).await;
}

/// Kills a run whose split is under way, and puts in the place of its session one that commits the split's one row after
/// so many seconds.
async fn dies_in_its_commit(place: &Place, database: &Database, seconds: f64) -> JoinHandle<()> {
    let run = place.start(&["run", "job.json"]);
    let begun = std::time::Instant::now();
    let locks = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database AND d.datname = current_database() \
                 WHERE locktype = 'advisory'";
    while database.value(locks).await == "0" {
        assert!(begun.elapsed() < PATIENCE, "{}", std::fs::read_to_string(&run.err).unwrap());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let lock = "SELECT classid || ', ' || objid FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
                AND d.datname = current_database() WHERE locktype = 'advisory'";
    let lock = database.value(lock).await;
    run.kill();
    while database.value(locks).await != "0" {
        assert!(begun.elapsed() < PATIENCE, "the server does not notice that its client is gone");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(database.value("SELECT count(*) FROM t").await, "0");
    let run_id = database.value("SELECT run_id FROM weir_commits WHERE split = -1").await;
    let receipt = Receipt { split: 0, rows: 1, skipped: 0, account: Account::default(), data: Value::Null };
    let commit = format!(
        "BEGIN; SELECT pg_advisory_xact_lock({lock}); INSERT INTO t VALUES (1); \
         INSERT INTO weir_commits (run_id, split, target, receipt) VALUES ('{run_id}', 0, 't', '{}'); \
         SELECT pg_sleep({seconds}); COMMIT",
        serde_json::to_string(&receipt).unwrap()
    );
    let other = database.clone();
    let late = tokio::spawn(async move { other.execute(&commit).await });
    while database.value(locks).await == "0" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    late
}

/// It is refused as it would be had the split landed before.
fn is_refused(place: &Place, splits: &str) {
    place.fails(&["run", "job.json"], 1, &[splits, "for good", "--resume", "--fresh"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_run_waits_for_the_commit_of_the_run_that_it_gives_up() {
    let (place, database) = place("landing").await;
    let late = dies_in_its_commit(&place, &database, 4.0).await;
    tokio::task::block_in_place(|| is_refused(&place, "1 of its 1 splits are in"));
    late.await.unwrap();
    assert_eq!(database.value("SELECT count(*) FROM t").await, "1");
    // What landed counts.
    let report = tokio::task::block_in_place(|| place.report(&["--resume"]));
    assert_eq!(report["rows_written"], 1, "{report:#}");
    drop_role(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_run_that_waits_in_vain_says_which_session_is_at_work() {
    let (place, database) = place("landing").await;
    let late = dies_in_its_commit(&place, &database, 60.0).await;
    let waiting = tokio::task::block_in_place(|| place.call(&["run", "job.json"]));
    waiting.says(1, &["former attempt is still at work in the server", "session", "or wait"]);
    let session = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_sleep(60)%' \
                   AND pid <> pg_backend_pid()";
    let session = database.value(session).await;
    assert!(waiting.err.contains(&session), "{session} is not named: {}", waiting.err);
    // The run is there to be resumed; once the session is ended, as the message says, a plain run may begin too.
    late.abort();
    database.execute(&format!("SELECT pg_terminate_backend({session})")).await;
    tokio::task::block_in_place(|| place.report(&[]));
    assert_eq!(database.value("SELECT count(*) FROM t").await, "20000");
    drop_role(&database).await;
}
