//! Faults that pass are tried again, through a whole run; those that stay are not.

use serde_json::{Value, json};
use weir::{Report, Status};
use weir_plugins_test::proxy::Proxy;
use weir_plugins_test::servers::{self, Database};

use crate::support::{job_of, run, run_ok};

/// Ten rows from 1 on.
fn ten() -> Value {
    json!({"column": [{"incr": "1,1", "type": "long"}, {"value": "mine", "type": "string"}], "sliceRecordCount": 10})
}

fn job(target: &Database) -> Value {
    let to = json!({"url": target.url(), "table": "t", "writeMode": "append", "column": ["id", "v"]});
    let mut job = job_of("stream", ten(), "postgresql", to);
    job["job"]["setting"] = json!({"speed": {"channel": 1}, "retry": {"times": 2, "interval": 0.1}});
    job
}

/// How often the run tried again, for a reason with this in it.
fn again(report: &Report, sqlstate: &str) -> usize {
    report.warnings.iter().filter(|text| text.contains("tried again") && text.contains(sqlstate)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_victim_of_a_deadlock_tries_again() {
    let target = servers::postgresql().await.fresh_database("deadlock").await;
    target.execute("CREATE TABLE t (id bigint PRIMARY KEY, v text)").await;
    // It holds row 5, for which the run waits, and as soon as it does so asks for row 1, which the run has written. The run
    // has waited longer, so it is the one that finds the deadlock, and falls.
    let other = tokio::spawn({
        let target = target.clone();
        async move {
            target
                .execute(
                    "BEGIN; SET LOCAL deadlock_timeout = '60s'; INSERT INTO t VALUES (5, 'theirs');
                     DO $$ BEGIN
                         FOR i IN 1..3000 LOOP
                             EXIT WHEN EXISTS (SELECT FROM pg_locks
                                               WHERE NOT granted AND transactionid = pg_current_xact_id()::xid);
                             PERFORM pg_sleep(0.02);
                         END LOOP;
                     END $$;
                     INSERT INTO t VALUES (1, 'theirs'); ROLLBACK",
                )
                .await;
        }
    });
    let held = "SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass AND mode = 'RowExclusiveLock' AND granted";
    while target.value(held).await == "0" {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let report = run_ok(&job(&target)).await;
    other.await.unwrap();
    assert_eq!(again(&report, "40P01"), 1, "{:?}", report.warnings);
    assert_eq!((report.rows_written, report.rows_dirty), (10, 0));
    assert_eq!(target.value("SELECT count(*) || ' ' || min(v) || ' ' || max(v) FROM t").await, "10 mine mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_serialization_failure_is_tried_again_as_often_as_the_job_says() {
    let target = servers::postgresql().await.fresh_database("serialization").await;
    // A sequence counts what is rolled back too.
    target
        .execute(
            "CREATE TABLE t (id bigint PRIMARY KEY, v text); CREATE SEQUENCE tries; CREATE TABLE faults AS SELECT 2 AS n;
             CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF NEW.id = 7 AND nextval('tries') <= (SELECT n FROM faults) THEN
                     RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001';
                 END IF;
                 RETURN NEW;
             END $$;
             CREATE TRIGGER fails BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION fail()",
        )
        .await;
    let report = run_ok(&job(&target)).await;
    assert_eq!(again(&report, "40001"), 2, "{:?}", report.warnings);
    assert_eq!(target.value("SELECT count(*) FROM t").await, "10");
    target.execute("TRUNCATE t; UPDATE faults SET n = 1000").await;
    let report = run(&job(&target)).await;
    assert_eq!((report.status, again(&report, "40001")), (Status::Failed, 2), "{:?}", report.warnings);
    assert!(report.error.as_ref().unwrap().retryable, "{:?}", report.error);
    assert_eq!(target.value("SELECT count(*) FROM t").await, "0");
}

/// Whoever is told that all was taken back knows that nothing was published.
#[tokio::test(flavor = "multi_thread")]
async fn a_publication_whose_retries_are_used_up_leaves_nothing() {
    let postgresql = [
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'forced' USING ERRCODE = '40P01'; END $$",
        "CREATE TRIGGER fails BEFORE INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION fail()",
    ];
    let at_commit = [
        postgresql[0],
        "CREATE CONSTRAINT TRIGGER fails AFTER INSERT ON t INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fail()",
    ];
    let mariadb = ["CREATE TRIGGER fails BEFORE INSERT ON t FOR EACH ROW \
                    SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'forced'"];
    for (plugin, server, failing) in [
        ("postgresql", servers::postgresql().await, &postgresql[..]),
        ("postgresql", servers::postgresql().await, &at_commit[..]),
        ("mysql", servers::mariadb().await, &mariadb[..]),
    ] {
        let target = server.fresh_database("victim").await;
        target.execute("CREATE TABLE t (id bigint PRIMARY KEY, v varchar(10))").await;
        target.execute("INSERT INTO t VALUES (-1, 'old')").await;
        for sql in failing {
            target.execute(sql).await;
        }
        let to = json!({"url": target.url(), "table": "t", "writeMode": "overwrite", "column": ["id", "v"]});
        let mut job = job_of("stream", ten(), plugin, to);
        job["job"]["setting"] = json!({"speed": {"channel": 1}, "retry": {"times": 1, "interval": 0.1}});
        let report = run(&job).await;
        assert_eq!((report.status, again(&report, "forced")), (Status::Failed, 1), "{:?}", report.warnings);
        let in_doubt = |text: &String| text.contains("not known") || text.contains("left behind");
        assert!(!report.warnings.iter().any(in_doubt), "{plugin}: {:?}", report.warnings);
        let left = "SELECT count(*) FROM information_schema.tables WHERE table_name LIKE 'weir%' AND table_schema = ";
        let schema = if plugin == "mysql" { "database()" } else { "current_schema()" };
        let left = target.value(&format!("{left}{schema} AND table_name <> 'weir_commits'")).await;
        assert_eq!((left.as_str(), target.value("SELECT count(*) FROM weir_commits").await.as_str()), ("0", "0"));
        assert_eq!(target.value("SELECT min(v) FROM t").await, "old", "{plugin}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_tried_once() {
    for (plugin, server) in [("postgresql", servers::postgresql().await), ("mysql", servers::mariadb().await)] {
        let database = server.fresh_database("password").await;
        database.execute("CREATE TABLE t (id bigint PRIMARY KEY, v varchar(10))").await;
        let proxy = Proxy::start(server.port()).await.unwrap();
        // A server without TLS would be left before the password is asked for, and come back to.
        let options = if plugin == "mysql" { "?sslMode=disabled" } else { "" };
        let through = |password: &str| {
            let url = database.url_with(database.user(), password);
            url.replace(&format!(":{}/", server.port()), &format!(":{}/", proxy.port())) + options
        };
        let at = |password: &str| json!({"url": through(password), "table": "t", "column": ["id", "v"]});
        // What is counted passes through the proxy.
        run_ok(&job_of("stream", ten(), plugin, at(database.password()))).await;
        assert!(proxy.connections() > 0);
        for (job, side) in [
            (job_of("stream", ten(), plugin, at("wrong")), "target"),
            (job_of(plugin, at("wrong"), "stream", json!({})), "source"),
        ] {
            let before = proxy.connections();
            let report = run(&job).await;
            let error = report.error.unwrap();
            assert!(error.message.contains("password") && !error.retryable, "{plugin} {side}: {error:?}");
            assert_eq!(proxy.connections() - before, 1, "{plugin} {side}");
        }
    }
}
